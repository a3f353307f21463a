package eventstore

import (
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/eventrow"
)

// statements is the SQL of one store. Every text is made once, so that pgx
// prepares it once per connection.
type statements struct {
	append  string
	version string
	stream  string
	readAll string
	latest  string
}

// appendSQL stores one append's events and returns them. Where it stored none it returns one row instead, with nothing = true,
// that says why: the version that was seen, and the version that the head was advanced from, or NULL if it was not. The head is not advanced
// if the version was not the expected one ($4; below 0 any version will do).
//
// seen is the aggregate's version as the statement's snapshot shows it: from
// aggregate_heads, or, for an aggregate that has events but no head, from its
// events, or 0. A version seen that is not the expected one is a conflict
// already, except that seen may be behind: the DO UPDATE waits for a concurrent
// append and compares again with the head as it is then. The ORDER BY is
// evaluated below the columns' defaults, so positions are drawn in the order of
// the versions.
//
// The arrays have no NULLs: an array that is sent as text would have the word instead where array_nulls is off. The bits of given say
// which of the values that may be missing are there.
//
// A head that is not seen may be there, if row-level security hides it, and so may be events: then the statement fails, where it would
// report a conflict. A head that is seen tells the truth.
const appendSQL = `
WITH known AS (
	SELECT (SELECT aggregate_version FROM {{heads}}
		WHERE bounded_context = $1::text AND aggregate_type = $2::text AND aggregate_id = $3::text) AS version
), seen AS (
	SELECT known.version IS NULL AS headless, coalesce(
		known.version,
		(SELECT pg_catalog.max(aggregate_version) FROM {{events}}
		WHERE bounded_context = $1 AND aggregate_type = $2 AND aggregate_id = $3),
		0) AS version
	FROM known
), head AS (
	INSERT INTO {{heads}} AS h (bounded_context, aggregate_type, aggregate_id, aggregate_version, updated_at)
	SELECT $1, $2, $3, seen.version + $5::bigint, pg_catalog.now()
	FROM seen
	WHERE $4::bigint < 0 OR seen.version = $4
	ON CONFLICT (bounded_context, aggregate_type, aggregate_id) DO UPDATE
	SET aggregate_version = h.aggregate_version + $5, updated_at = excluded.updated_at
	WHERE $4 < 0 OR h.aggregate_version = $4
	RETURNING h.aggregate_version - $5 AS version
), stored AS (
	INSERT INTO {{events}} (bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type,
		event_version, payload, trace_id, correlation_id, causation_id, metadata, created_at)
	SELECT $1, $2, $3, head.version + e.ordinal, e.event_id, e.event_type,
		e.event_version, e.payload,
		CASE WHEN e.given & 1 <> 0 THEN e.trace_id END, CASE WHEN e.given & 2 <> 0 THEN e.correlation_id END,
		CASE WHEN e.given & 4 <> 0 THEN e.causation_id END, CASE WHEN e.given & 8 <> 0 THEN e.metadata::jsonb END,
		CASE WHEN e.given & 16 <> 0 THEN e.created_at ELSE pg_catalog.now() END
	FROM head, unnest($6::uuid[], $7::text[], $8::int[], $9::bytea[], $10::text[], $11::text[], $12::text[], $13::text[], $14::timestamptz[], $15::int[])
		WITH ORDINALITY AS e (event_id, event_type, event_version, payload, trace_id, correlation_id, causation_id, metadata, created_at, given, ordinal)
	ORDER BY e.ordinal
	RETURNING global_position, aggregate_version, metadata, created_at
)
SELECT false AS nothing, global_position, aggregate_version, metadata, created_at FROM stored
UNION ALL
SELECT CASE WHEN seen.headless AND head.version IS NULL THEN {{all heads}} AND {{all events}} ELSE true END, head.version, seen.version, NULL, NULL
FROM seen LEFT JOIN head ON true
WHERE NOT EXISTS (SELECT 1 FROM stored)
ORDER BY aggregate_version`

// versionSQL is an aggregate's version, found as appendSQL finds it.
const versionSQL = `
SELECT coalesce(
	(SELECT aggregate_version FROM {{heads}}
	WHERE bounded_context = $1::text AND aggregate_type = $2::text AND aggregate_id = $3::text),
	(SELECT pg_catalog.max(aggregate_version) FROM {{events}}
	WHERE bounded_context = $1 AND aggregate_type = $2 AND aggregate_id = $3),
	0)`

const streamSQL = `
SELECT ` + eventrow.Columns + ` FROM {{events}}
WHERE bounded_context = $1::text AND aggregate_type = $2::text AND aggregate_id = $3::text
	AND aggregate_version >= $4::bigint AND aggregate_version <= $5::bigint
ORDER BY aggregate_version`

const readAllSQL = `
SELECT ` + eventrow.Columns + ` FROM {{events}}
WHERE global_position > $1::bigint
ORDER BY global_position LIMIT $2::bigint`

const latestSQL = `SELECT coalesce(max(global_position), 0) FROM {{events}}`

func newStatements(events, heads pgx.Identifier) statements {
	tables := strings.NewReplacer("{{events}}", events.Sanitize(), "{{heads}}", heads.Sanitize(),
		"{{all events}}", dbguard.SelectAllRows(events), "{{all heads}}", dbguard.SelectAllRows(heads))
	return statements{
		append:  tables.Replace(appendSQL),
		version: tables.Replace(versionSQL),
		stream:  tables.Replace(streamSQL),
		readAll: tables.Replace(readAllSQL),
		latest:  tables.Replace(latestSQL),
	}
}
