package dbrights

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// ErrNotGranted is wrapped by errors that say which rights a role lacks.
var ErrNotGranted = errors.New("the role lacks rights")

// Kind is a kind of object that rights are on.
type Kind string

// The kinds. A schema and a database have no name besides it: a Need for them has only Schema, or nothing.
const (
	Table      Kind = "table"
	SequenceOf Kind = "sequence of" // the sequence of the table's global_position
	Owner      Kind = "owner"       // of the table: membership in the role that owns it
	Schema     Kind = "schema"
	Database   Kind = "database" // the connection's
)

// Need is rights on an object. Every right on a table or its sequence needs USAGE on the schema as well.
type Need struct {
	Kind Kind
	// Schema is empty for a table that is looked for in the schemas of the connection's search_path, those included that the role may not
	// use, and for the first of these schemas.
	Schema string
	// Name is the table's.
	Name   string
	Rights []string
}

// On is rights on a table, whose name may have a schema.
func On(table pgx.Identifier, rights ...string) Need { return need(Table, table, rights) }

// OnSequence is rights on the sequence of a table's positions.
func OnSequence(table pgx.Identifier, rights ...string) Need { return need(SequenceOf, table, rights) }

// Owned is the ownership of a table.
func Owned(table pgx.Identifier) Need { return need(Owner, table, []string{"OWNER"}) }

func need(kind Kind, table pgx.Identifier, rights []string) Need {
	n := Need{Kind: kind, Name: table[len(table)-1], Rights: rights}
	if len(table) > 1 {
		n.Schema = table[0]
	}
	return n
}

// sqlMissing returns the statements that grant what the role lacks of the rights $4 on the objects of the kinds $1 in the schemas $2 with the
// names $3. An object that is not there lacks nothing. Names are looked up in the catalog, since to_regclass does not see what is in a schema
// without USAGE, or fails. CASE keeps the
// planner from asking for a privilege that the kind of object does not have, which is an error.
const sqlMissing = `
WITH path AS (
	SELECT n.oid, n.nspname, min(p.place) AS place
	FROM pg_catalog.regexp_split_to_table(pg_catalog.current_setting('search_path'), '[[:space:]]*,[[:space:]]*') WITH ORDINALITY AS p (entry, place)
	JOIN pg_catalog.pg_namespace AS n ON n.nspname = CASE
		WHEN p.entry IN ('"$user"', '$user') THEN current_user
		WHEN p.entry LIKE '"%"' THEN pg_catalog.replace(pg_catalog.substr(p.entry, 2, pg_catalog.length(p.entry) - 2), '""', '"')
		ELSE pg_catalog.lower(p.entry) END
	GROUP BY n.oid, n.nspname
), needed AS (
	SELECT * FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]))
		WITH ORDINALITY AS n (kind, schema, name, privilege, place)
), tables AS (
	SELECT n.*, t.*
	FROM needed AS n
	CROSS JOIN LATERAL (
		SELECT c.oid, c.relname, c.relowner, s.oid AS schema_oid, s.nspname
		FROM pg_catalog.pg_class AS c
		JOIN pg_catalog.pg_namespace AS s ON s.oid = c.relnamespace
		LEFT JOIN path ON path.oid = s.oid
		WHERE c.relname = n.name AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND CASE WHEN n.schema = '' THEN path.place IS NOT NULL ELSE s.nspname = n.schema END
		ORDER BY path.place LIMIT 1) AS t
	WHERE n.kind IN ('table', 'sequence of', 'owner')
), lacks AS (
	SELECT 0 AS place, 'SCHEMA' AS kind, pg_catalog.quote_ident(nspname) AS object, 'USAGE' AS privilege
	FROM tables WHERE NOT pg_catalog.has_schema_privilege(schema_oid, 'USAGE')
	UNION
	SELECT 0, 'SCHEMA', pg_catalog.quote_ident(s.nspname), n.privilege
	FROM needed AS n
	CROSS JOIN LATERAL (
		SELECT s.oid, s.nspname FROM pg_catalog.pg_namespace AS s LEFT JOIN path ON path.oid = s.oid
		WHERE CASE WHEN n.schema = '' THEN path.place IS NOT NULL ELSE s.nspname = n.schema END ORDER BY path.place LIMIT 1) AS s
	WHERE CASE WHEN n.kind = 'schema' THEN NOT pg_catalog.has_schema_privilege(s.oid, n.privilege) END
	UNION
	SELECT 0, 'DATABASE', pg_catalog.quote_ident(pg_catalog.current_database()), n.privilege
	FROM needed AS n WHERE CASE WHEN n.kind = 'database' THEN NOT pg_catalog.has_database_privilege(pg_catalog.current_database(), n.privilege) END
	UNION
	SELECT n.place, '', pg_catalog.format('%I.%I', n.nspname, n.relname), n.privilege
	FROM tables AS n WHERE CASE WHEN n.kind = 'table' THEN NOT pg_catalog.has_table_privilege(n.oid, n.privilege) END
	UNION
	SELECT n.place, 'SEQUENCE', pg_catalog.format('%I.%I', s.nspname, q.relname), n.privilege
	FROM tables AS n
	JOIN pg_catalog.pg_attribute AS a ON a.attrelid = n.oid AND a.attname = 'global_position' AND NOT a.attisdropped
	JOIN LATERAL (
		SELECT d.objid AS oid FROM pg_catalog.pg_depend AS d
		WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = d.classid AND d.refobjid = n.oid AND d.refobjsubid = a.attnum
		UNION
		SELECT d.refobjid FROM pg_catalog.pg_attrdef AS v
		JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = v.oid
		WHERE v.adrelid = n.oid AND v.adnum = a.attnum AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass) AS o ON true
	JOIN pg_catalog.pg_class AS q ON q.oid = o.oid
	JOIN pg_catalog.pg_namespace AS s ON s.oid = q.relnamespace
	WHERE CASE WHEN n.kind = 'sequence of' AND q.relkind = 'S' THEN NOT pg_catalog.has_sequence_privilege(q.oid, n.privilege) END
	UNION
	SELECT n.place, 'ROLE', pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(n.relowner)), ''
	FROM tables AS n WHERE n.kind = 'owner' AND NOT pg_catalog.pg_has_role(n.relowner, 'USAGE')
)
SELECT coalesce(pg_catalog.array_agg(g.statement ORDER BY g.place, g.statement), '{}')
FROM (
	SELECT min(place) AS place, CASE WHEN kind = 'ROLE' THEN pg_catalog.format('GRANT %s TO %I', object, current_user)
		ELSE pg_catalog.format('GRANT %s ON %s TO %I', pg_catalog.string_agg(DISTINCT privilege, ', '),
			CASE WHEN kind = '' THEN object ELSE kind || ' ' || object END, current_user) END AS statement
	FROM lacks GROUP BY kind, object) AS g`

// Querier is what the rights are looked up on.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Missing returns the statements that grant what db's role lacks, in the order in which they are needed.
func Missing(ctx context.Context, db Querier, needs []Need) ([]string, error) {
	var kinds, schemas, names, rights []string
	for _, n := range needs {
		for _, right := range n.Rights {
			kinds, schemas, names, rights = append(kinds, string(n.Kind)), append(schemas, n.Schema), append(names, n.Name), append(rights, right)
		}
	}
	var missing []string
	// The mode sends statement and arguments together, with no prepared statement that a pooler could lose.
	if err := db.QueryRow(ctx, sqlMissing, pgx.QueryExecModeExec, kinds, schemas, names, rights).Scan(&missing); err != nil {
		return nil, fmt.Errorf("looking up the role's rights: %w", err)
	}
	return missing, nil
}

// Check returns an error that wraps [ErrNotGranted] and says what to grant if the role lacks a right.
func Check(ctx context.Context, db Querier, needs []Need) error {
	missing, err := Missing(ctx, db, needs)
	if err != nil || len(missing) == 0 {
		return err
	}
	return NotGranted(missing)
}

// NotGranted is the error for what [Missing] has found.
func NotGranted(missing []string) error {
	return fmt.Errorf("%w: %s", ErrNotGranted, strings.Join(missing, "; "))
}

// lookTimeout bounds looking up the rights after an error.
const lookTimeout = 5 * time.Second

// IsRefusal says whether err may come from a right that the role lacks: the database refused something, or did not find a table or a
// schema, which may be in a schema that the role may not use.
func IsRefusal(err error) bool {
	switch dbfault.Code(err) {
	case "42501", "42P01", "3F000":
		return true
	}
	return false
}

// Explain adds to err what the role lacks, where that may be what it comes from: see [IsRefusal]. The alternatives are looked up in turn,
// until one of them lacks something: so rights that are not needed in every case are asked for last. Any other error, and one that no missing right explains,
// is returned as it is.
func Explain(ctx context.Context, db Querier, err error, alternatives ...[]Need) error {
	if !IsRefusal(err) || errors.Is(err, ErrNotGranted) {
		return err
	}
	return Add(ctx, db, err, alternatives...)
}

// Add is [Explain] for an error that is known to come from something that was not found.
func Add(ctx context.Context, db Querier, err error, alternatives ...[]Need) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	for _, needs := range alternatives {
		missing, asked := Missing(ctx, db, needs)
		if asked != nil {
			return err // the refusal says more
		}
		if len(missing) > 0 {
			return fmt.Errorf("%w (%w)", NotGranted(missing), err)
		}
	}
	return err
}
