package pgcoord

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
)

// ErrNotGranted means that the role lacks rights that a worker needs.
var ErrNotGranted = dbrights.ErrNotGranted

// tablesChanged are the tables that a worker reads and changes, without their prefix.
var tablesChanged = []string{"generations", "workers", "heartbeats", "checkpoints", "sequence_regressions", "horizons", "dead_letters", "turns", "abandoned_handlers", "parked_aggregates", "operations", "requests", "drains", "samples", "successions", "waits"}

// Needs returns the rights that a worker needs. Without a schema, the coordination tables are found through the
// connection's search_path.
func Needs(schema string, events pgx.Identifier) []dbrights.Need {
	return append(needs(schema, events, "SELECT", "INSERT", "UPDATE", "DELETE"), dbrights.OnSequence(events, "SELECT"))
}

// NeedsToRead returns the rights that are needed to read everything.
func NeedsToRead(schema string, events pgx.Identifier) []dbrights.Need {
	return needs(schema, events, "SELECT")
}

// needs is rights on the tables that a worker changes, and SELECT on those that it reads.
func needs(schema string, events pgx.Identifier, rights ...string) []dbrights.Need {
	needs := []dbrights.Need{
		dbrights.On(events, "SELECT"),
		{Kind: dbrights.Table, Schema: schema, Name: "orchestrator_schema_version", Rights: []string{"SELECT"}},
	}
	for _, name := range tablesChanged {
		needs = append(needs, dbrights.Need{Kind: dbrights.Table, Schema: schema, Name: "orchestrator_" + name, Rights: rights})
	}
	return needs
}

// MissingGrants returns the GRANT statements for the rights that a worker needs and the role lacks.
func (s *Store) MissingGrants(ctx context.Context, db DB, events pgx.Identifier) ([]string, error) {
	return dbrights.Missing(ctx, db, Needs(s.schema, events))
}

// sqlHiddenTables is the tables where row-level security is active for the role.
const sqlHiddenTables = `
SELECT coalesce(array_agg(relation ORDER BY relation) FILTER (WHERE row_security_active(relation)), '{}')
FROM unnest($1::text[]) AS t (relation)`

// CheckGrants checks whether the role may read the events table and change the coordination tables in the schema. If
// not, its error wraps ErrNotGranted and says what to grant.
func CheckGrants(ctx context.Context, db DB, schema string, events pgx.Identifier) error {
	if err := dbrights.Check(ctx, db, Needs(schema, events)); err != nil {
		return err
	}
	return CheckVisible(ctx, db, schema, events)
}

// CheckVisible returns an error wrapping ErrNotGranted if row-level security hides rows of one of these tables from the role.
func CheckVisible(ctx context.Context, db DB, schema string, events pgx.Identifier) error {
	tables := []string{events.Sanitize()}
	for _, name := range tablesChanged {
		tables = append(tables, pgx.Identifier{schema, "orchestrator_" + name}.Sanitize())
	}
	var hidden []string
	if err := db.QueryRow(ctx, sqlHiddenTables, tables).Scan(&hidden); err != nil {
		return fmt.Errorf("looking up row-level security: %w", err)
	}
	if len(hidden) > 0 {
		return fmt.Errorf("%w: row-level security hides rows from it in %s: ALTER ROLE … BYPASSRLS, or ALTER TABLE … DISABLE ROW LEVEL SECURITY",
			ErrNotGranted, strings.Join(hidden, ", "))
	}
	return nil
}
