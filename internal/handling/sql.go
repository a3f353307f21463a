package handling

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/sqltx"
)

// SQLHandler is a projection that handles events through database/sql: a projection.SQLProjection.
type SQLHandler interface {
	Projection
	HandleSQL(ctx context.Context, tx *sql.Tx, event es.PersistedEvent) error
}

// SQLBatchHandler is a projection that handles whole batches through database/sql: a projection.SQLBatchProjection.
type SQLBatchHandler interface {
	Projection
	HandleSQLBatch(ctx context.Context, tx *sql.Tx, events []es.PersistedEvent) error
}

// handlersOf is how a layer wants events, in batches or one by one. Both are nil if it has nothing but Handle.
func handlersOf(layer Projection) (batch BatchHandler, one Projection, err error) {
	batch, isBatch := layer.(BatchHandler)
	bySQL, isSQL := layer.(SQLHandler)
	bySQLBatch, isSQLBatch := layer.(SQLBatchHandler)
	if isSQL {
		one = sqlEvents{bySQL}
	}
	if !isSQLBatch {
		if isBatch && isSQL {
			return nil, nil, fmt.Errorf("%T has both HandleBatch and HandleSQL, of which one would never be called: keep one", layer)
		}
		return batch, one, nil
	}
	if isBatch {
		return nil, nil, fmt.Errorf("%T has both HandleBatch and HandleSQLBatch, of which one would never be called: keep one", layer)
	}
	if one == nil {
		one = layer
	}
	return sqlBatches{Projection: one, of: bySQLBatch}, one, nil
}

// sqlEvents has a projection handle events through database/sql.
type sqlEvents struct{ of SQLHandler }

// Name is the projection's.
func (s sqlEvents) Name() string { return s.of.Name() }

// Handle calls HandleSQL.
func (s sqlEvents) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	return sqltx.Do(ctx, tx, func(tx *sql.Tx) error { return s.of.HandleSQL(ctx, tx, event) })
}

// sqlBatches has a projection handle batches through database/sql.
type sqlBatches struct {
	Projection
	of SQLBatchHandler
}

// HandleBatch calls HandleSQLBatch.
func (s sqlBatches) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	return sqltx.Do(ctx, tx, func(tx *sql.Tx) error { return s.of.HandleSQLBatch(ctx, tx, events) })
}
