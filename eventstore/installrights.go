package eventstore

import (
	"context"
	"fmt"
	"strings"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// insufficientPrivilege is the SQLSTATE of a refusal for want of a right.
const insufficientPrivilege = "42501"

// missingRightsSQL lists those of the rights $3 that the current role lacks, with the statements that grant them. $1 and $2 are the
// events table's schema and name, $4 and $5 are the name and the body of the trigger's function.
const missingRightsSQL = `
SELECT coalesce(pg_catalog.array_agg(r.lacks ORDER BY r.place), '{}')
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_proc AS p ON p.pronamespace = n.oid AND p.proname = $4::text AND p.pronargs = 0
CROSS JOIN LATERAL (SELECT p.oid IS NOT NULL AND p.prosrc = $5::text) AS f (made)
CROSS JOIN LATERAL (VALUES
	(1, 'schema', pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
		pg_catalog.format('USAGE on the schema: GRANT USAGE ON SCHEMA %I TO %I', n.nspname, current_user)),
	(2, CASE WHEN f.made THEN 'create' ELSE 'make' END, pg_catalog.has_schema_privilege(n.oid, 'CREATE'),
		pg_catalog.format('CREATE on the schema: GRANT CREATE ON SCHEMA %I TO %I', n.nspname, current_user)),
	(3, 'owner', pg_catalog.pg_has_role(c.relowner, 'USAGE'),
		pg_catalog.format('ownership of the table: GRANT %I TO %I', pg_catalog.pg_get_userbyid(c.relowner), current_user)),
	(4, 'trigger', pg_catalog.has_table_privilege(c.oid, 'TRIGGER'),
		pg_catalog.format('TRIGGER on the table: GRANT TRIGGER ON %I.%I TO %I', n.nspname, c.relname, current_user)),
	(5, 'lock', pg_catalog.has_table_privilege(c.oid, 'UPDATE, DELETE, TRUNCATE'),
		pg_catalog.format('a right that allows to lock the table: GRANT TRUNCATE ON %I.%I TO %I', n.nspname, c.relname, current_user)),
	(6, 'function', p.oid IS NULL OR f.made OR pg_catalog.pg_has_role(p.proowner, 'USAGE'),
		pg_catalog.format('ownership of the function %I.%I: GRANT %I TO %I', n.nspname, $4::text, coalesce(pg_catalog.pg_get_userbyid(p.proowner), ''), current_user)),
	(7, 'function', p.oid IS NULL OR pg_catalog.has_function_privilege(p.oid, 'EXECUTE'),
		pg_catalog.format('EXECUTE on the function: GRANT EXECUTE ON FUNCTION %I.%I() TO %I', n.nspname, $4::text, current_user))
) AS r (place, kind, granted, lacks)
WHERE n.nspname = $1::text AND c.relname = $2::text AND r.kind = ANY ($3::text[]) AND NOT r.granted`

// The rights that an operation needs, as missingRightsSQL names them.
var (
	rightsOfTrigger = []string{"schema", "make", "trigger", "function"}
	rightsOfRemoval = []string{"schema", "owner"}
	rightsOfIndex   = []string{"schema", "create", "make", "owner", "lock"}
)

// nameMissingRights adds to a refusal for want of a right which ones the role lacks. The store is a resolved one.
func (s *Store) nameMissingRights(ctx context.Context, db DB, err error, rights []string) error {
	if dbfault.Code(err) != insufficientPrivilege {
		return err
	}
	var missing []string
	events := s.EventsTable()
	if asked := db.QueryRow(ctx, missingRightsSQL, events[0], events[1], rights, triggerName, triggerBody).Scan(&missing); asked != nil || len(missing) == 0 {
		return err // the refusal says more than that nothing was found
	}
	return fmt.Errorf("the role lacks %s (%w)", strings.Join(missing, "; and "), err)
}
