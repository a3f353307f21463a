package eventstore

import "strings"

// statements is the SQL of one store. Every text is made once, so that pgx
// prepares it once per connection.
type statements struct {
	append       string
	version      string
	stream       string
	readAll      string
	latest       string
	readFiltered [shapes]string
}

// shape says which filters, and which columns, a filtered read has.
type shape uint8

const (
	bySlot          shape = 1 << iota
	byAggregateType       // by the primary key
	byBoundedContext
	withSlots // the slot is the last column
	byOneIndexedType
	byIndexedTypes // several

	shapes = 1 << iota // how many there are
)

// slotExpression is an event's slot; see package slot.
const slotExpression = `(hashtextextended(aggregate_id, 0) & 65535)`

// eventColumns are the columns that eventScanner scans, in its order.
const eventColumns = `global_position, bounded_context, aggregate_type, aggregate_id, aggregate_version,
	event_id, event_type, event_version, payload, trace_id, correlation_id, causation_id, metadata, created_at`

// appendSQL stores one append's events. It returns no row where the version was
// not the expected one ($4; below 0 any version will do).
//
// seen is the aggregate's version as the statement's snapshot shows it: from
// aggregate_heads, or, for an aggregate that has events but no head, from its
// events, or 0. A version seen that is not the expected one is a conflict
// already, except that seen may be behind: the DO UPDATE waits for a concurrent
// append and compares again with the head as it is then. The ORDER BY is
// evaluated below the columns' defaults, so positions are drawn in the order of
// the versions.
const appendSQL = `
WITH seen AS (
	SELECT coalesce(
		(SELECT aggregate_version FROM {{heads}}
		WHERE bounded_context = $1::text AND aggregate_type = $2::text AND aggregate_id = $3::text),
		(SELECT max(aggregate_version) FROM {{events}}
		WHERE bounded_context = $1 AND aggregate_type = $2 AND aggregate_id = $3),
		0) AS version
), head AS (
	INSERT INTO {{heads}} AS h (bounded_context, aggregate_type, aggregate_id, aggregate_version, updated_at)
	SELECT $1, $2, $3, seen.version + $5::bigint, now()
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
		e.event_version, e.payload, e.trace_id, e.correlation_id, e.causation_id, e.metadata::jsonb, coalesce(e.created_at, now())
	FROM head, unnest($6::uuid[], $7::text[], $8::int[], $9::bytea[], $10::text[], $11::text[], $12::text[], $13::text[], $14::timestamptz[])
		WITH ORDINALITY AS e (event_id, event_type, event_version, payload, trace_id, correlation_id, causation_id, metadata, created_at, ordinal)
	ORDER BY e.ordinal
	RETURNING global_position, aggregate_version, metadata, created_at
)
SELECT global_position, aggregate_version, metadata, created_at FROM stored ORDER BY aggregate_version`

// versionSQL is an aggregate's version, found as appendSQL finds it.
const versionSQL = `
SELECT coalesce(
	(SELECT aggregate_version FROM {{heads}}
	WHERE bounded_context = $1::text AND aggregate_type = $2::text AND aggregate_id = $3::text),
	(SELECT max(aggregate_version) FROM {{events}}
	WHERE bounded_context = $1 AND aggregate_type = $2 AND aggregate_id = $3),
	0)`

const streamSQL = `
SELECT ` + eventColumns + ` FROM {{events}}
WHERE bounded_context = $1::text AND aggregate_type = $2::text AND aggregate_id = $3::text
	AND aggregate_version >= $4::bigint AND aggregate_version <= $5::bigint
ORDER BY aggregate_version`

const readAllSQL = `
SELECT ` + eventColumns + ` FROM {{events}}
WHERE global_position > $1::bigint
ORDER BY global_position LIMIT $2::bigint`

const latestSQL = `SELECT coalesce(max(global_position), 0) FROM {{events}}`

func newStatements(events, heads string) statements {
	tables := strings.NewReplacer("{{events}}", events, "{{heads}}", heads)
	st := statements{
		append:  tables.Replace(appendSQL),
		version: tables.Replace(versionSQL),
		stream:  tables.Replace(streamSQL),
		readAll: tables.Replace(readAllSQL),
		latest:  tables.Replace(latestSQL),
	}
	for f := range st.readFiltered {
		st.readFiltered[f] = tables.Replace(shape(f).sql())
	}
	return st
}
