package projection

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/manual"
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

// refuseImported returns ErrProjectionImported if the projection has no row here, and a replica set has imported its
// checkpoints.
func (r *runner) refuseImported(ctx context.Context) error {
	rows, err := r.rows.rows(ctx, r.db)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if _, own, err := manual.Parse(r.name, row); own || err != nil {
			return nil //nolint:nilerr // what is wrong with the row is told when the rows are arranged
		}
	}
	found, err := r.db.Query(ctx, sqlOrchestratorSchemas)
	if err != nil {
		return fmt.Errorf("looking for the orchestrator's tables: %w", err)
	}
	schemas, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("looking for the orchestrator's tables: %w", err)
	}
	for _, schema := range schemas {
		quoted := pgx.Identifier{schema}.Sanitize()
		var replicaSet string
		err := r.db.QueryRow(ctx, fmt.Sprintf(sqlImportedBy, quoted), r.name, strings.Join(r.config.EventStore.EventsTable(), ".")).Scan(&replicaSet)
		switch {
		case err == nil:
			return fmt.Errorf("replica set %q has taken over its checkpoints: run it there, or enter the rows to go on from into %s: %w", replicaSet, r.rows.table, ErrProjectionImported)
		case !errors.Is(err, pgx.ErrNoRows):
			return fmt.Errorf("looking for an import in the schema %s: %w", quoted, err)
		}
	}
	return nil
}
