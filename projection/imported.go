package projection

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Where the role may read them, since a role that runs projections by hand need not know of the orchestrator's tables.
const sqlOrchestratorSchemas = `
SELECT n.nspname::pg_catalog.text FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relname IN ('orchestrator_checkpoints', 'orchestrator_operations') AND c.relkind IN ('r', 'p')
  AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
GROUP BY n.nspname HAVING count(*) = 2 ORDER BY n.nspname`

const sqlImportedBy = `
SELECT c.replica_set FROM %[1]s.orchestrator_checkpoints AS c
WHERE c.projection = $1 AND c.events_table = $2 AND EXISTS (SELECT FROM %[1]s.orchestrator_operations AS o WHERE o.projection = $1 AND o.kind = 'import')
LIMIT 1`

// refuseImported returns ErrProjectionImported if a replica set has imported the projection's checkpoints. It is for a
// projection that has no row. No import must be able to commit meanwhile: see rearrange.
func (c checkpoints) refuseImported(ctx context.Context, tx querier) error {
	found, err := tx.Query(ctx, sqlOrchestratorSchemas)
	if err != nil {
		return fmt.Errorf("looking for the orchestrator's tables: %w", err)
	}
	schemas, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("looking for the orchestrator's tables: %w", err)
	}
	for _, schema := range schemas {
		quoted := pgx.Identifier{schema}.Sanitize()
		found, err := tx.Query(ctx, fmt.Sprintf(sqlImportedBy, quoted), c.projection, c.events)
		if err != nil {
			return fmt.Errorf("looking for an import in the schema %s: %w", quoted, err)
		}
		switch replicaSet, err := pgx.CollectOneRow(found, pgx.RowTo[string]); {
		case err == nil:
			return fmt.Errorf("replica set %q has taken over its checkpoints: run it there, or enter the rows to go on from into %s: %w", replicaSet, c.table, ErrProjectionImported)
		case !errors.Is(err, pgx.ErrNoRows):
			return fmt.Errorf("looking for an import in the schema %s: %w", quoted, err)
		}
	}
	return nil
}
