package pgcoord

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

const sqlForgetAbandoned = `
DELETE FROM {{schema}}orchestrator_abandoned_handlers AS a
WHERE worker_id = $1 AND NOT EXISTS (
    SELECT 1 FROM unnest($2::text[], $3::bigint[], $4::int[]) AS still (projection, generation, partition_key)
    WHERE still.projection = a.projection AND still.generation = a.generation AND still.partition_key = a.partition_key)`

const sqlRecordAbandoned = `
INSERT INTO {{schema}}orchestrator_abandoned_handlers
    (worker_id, projection, generation, partition_key, total_partitions, global_position, event_id)
SELECT w.worker_id, new.* FROM {{schema}}orchestrator_workers AS w,
    unnest($2::text[], $3::bigint[], $4::int[], $5::int[], $6::bigint[], $7::text[]::uuid[]) AS new
WHERE w.worker_id = $1
ON CONFLICT DO NOTHING`

// SetAbandoned replaces the worker's abandoned handlers in the table. A worker must record them before it reports that
// it is ready, since Activate gives it no partition of their projections.
func (s *Store) SetAbandoned(ctx context.Context, db Conn, worker uuid.UUID, handlers []replicaset.AbandonedHandler) error {
	projections, events := []string{}, []string{}
	generations, positions := []int64{}, []int64{}
	keys, totals := []int32{}, []int32{}
	for _, h := range handlers {
		projections, generations = append(projections, h.Projection), append(generations, h.Generation)
		keys, totals = append(keys, int32(h.Partition.Key)), append(totals, int32(h.Partition.Total))
		positions, events = append(positions, h.Position), append(events, h.EventID.String())
	}
	err := s.inTransaction(ctx, db, worker, func(tx pgx.Tx, _ int) error {
		if _, err := tx.Exec(ctx, sqlLockPatience); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.q(sqlForgetAbandoned), worker, projections, generations, keys); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, s.q(sqlRecordAbandoned), worker, projections, generations, keys, totals, positions, events)
		return err
	})
	if err != nil {
		return fmt.Errorf("recording the abandoned handlers of worker %s: %w", worker, err)
	}
	return nil
}

// abandonedColumn is the projections of the abandoned handlers of worker w, one for each. To set up a sort for each worker, which mostly has none, would
// cost more than all the rest of a look.
const abandonedColumn = `
       CASE WHEN EXISTS (SELECT FROM {{schema}}orchestrator_abandoned_handlers AS a WHERE a.worker_id = w.worker_id)
            THEN ARRAY(SELECT a.projection FROM {{schema}}orchestrator_abandoned_handlers AS a
                       WHERE a.worker_id = w.worker_id ORDER BY a.projection COLLATE "C")
            ELSE '{}' END`

// endTimeout bounds the statement that ends an abandoned batch's backend, and the
// farewell on its connection.
const endTimeout = 100 * time.Millisecond

// Abandon ends a batch whose handlers do not return. The handlers may still be using the transaction. Abandon takes the
// connection out of its pool and closes it, so that the server rolls back. A statement that is being executed would keep
// its locks until it is done, so Abandon also ends the backend, through db. Behind a pooler the backend is not known,
// and only the pooler can end it. The caller must call the returned function after the handlers have returned.
func (b *Batch) Abandon(db DB) (returned func()) {
	conn := b.conn.Hijack()
	b.conn = nil
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	_ = b.store.EndBackend(ctx, db, int(conn.PgConn().PID()), b.fence.Worker) // else closing does, after the statement
	batchtx.CloseSocket(conn)
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
		defer cancel()
		_ = conn.Close(ctx)
	}
}
