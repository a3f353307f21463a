package pgcoord

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// ErrNotGranted says that the role lacks rights that a worker needs.
var ErrNotGranted = errors.New("the role lacks rights")

const sqlMissingGrants = `
SELECT format('GRANT %s ON %s', string_agg(needed.privilege, ', ' ORDER BY needed.privilege), needed.relation)
FROM (
    SELECT $1 AS relation, 'SELECT' AS privilege
    UNION ALL
    SELECT t.relation, p.privilege
    FROM unnest($2::text[]) AS t (relation), (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) AS p (privilege)
) AS needed
WHERE NOT has_table_privilege(needed.relation, needed.privilege) AND ` + dbguard.Primary + `
GROUP BY needed.relation ORDER BY needed.relation`

// sqlHiddenTables is the tables where row-level security is active for the role.
const sqlHiddenTables = `
SELECT coalesce(array_agg(relation ORDER BY relation) FILTER (WHERE row_security_active(relation)), '{}')
FROM unnest($1::text[]) AS t (relation)`

// CheckGrants returns an error wrapping ErrNotGranted, which says what to grant,
// if the role may not read the events table or change the coordination tables.
func (s *Store) CheckGrants(ctx context.Context, db DB, events pgx.Identifier) error {
	var tables []string
	for _, name := range []string{"generations", "workers", "heartbeats", "checkpoints", "rewinds", "horizons", "dead_letters", "turns", "abandoned_handlers"} {
		tables = append(tables, pgx.Identifier{s.schema, "orchestrator_" + name}.Sanitize())
	}
	rows, err := db.Query(ctx, sqlMissingGrants, events.Sanitize(), tables)
	if err != nil {
		return fmt.Errorf("looking up the role's rights: %w", err)
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("looking up the role's rights: %w", err)
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s", ErrNotGranted, strings.Join(missing, "; "))
	}
	var hidden []string
	if err := db.QueryRow(ctx, sqlHiddenTables, append(tables, events.Sanitize())).Scan(&hidden); err != nil {
		return fmt.Errorf("looking up row-level security: %w", err)
	}
	if len(hidden) > 0 {
		return fmt.Errorf("%w: row-level security hides rows from it in %s: ALTER ROLE … BYPASSRLS, or ALTER TABLE … DISABLE ROW LEVEL SECURITY",
			ErrNotGranted, strings.Join(hidden, ", "))
	}
	return nil
}
