package projection

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/slot"
)

// checkpointRow is a processor's row in the checkpoints table of pupsourcing.
type checkpointRow struct {
	projection string
	name       string
	table      string // quoted

	insertSQL, selectSQL, holdSQL, liftSQL string
}

const (
	sqlInsertCheckpoint = `
INSERT INTO %[1]s (projection_name, last_global_position, updated_at)
SELECT $1, coalesce((SELECT last_global_position FROM %[1]s WHERE projection_name = $2), 0), now()
ON CONFLICT (projection_name) DO NOTHING`

	sqlSelectCheckpoint = `SELECT last_global_position FROM %s WHERE projection_name = $1`

	// It compares with what the processor believes, so of two processors one
	// waits for the other and then finds that it was late.
	sqlHoldCheckpoint = `
SELECT FROM %s WHERE projection_name = $1 AND last_global_position = $2 FOR NO KEY UPDATE`

	// It comes last: a handler that commits by itself must not commit the checkpoint
	// of events that were not handled.
	sqlLiftCheckpoint = `
UPDATE %s SET last_global_position = $3, updated_at = now()
WHERE projection_name = $1 AND last_global_position = $2`
)

func newCheckpointRow(table pgx.Identifier, projection string, partition slot.Partition) checkpointRow {
	quoted := table.Sanitize()
	row := checkpointRow{
		projection: projection,
		name:       projection,
		table:      quoted,
		insertSQL:  fmt.Sprintf(sqlInsertCheckpoint, quoted),
		selectSQL:  fmt.Sprintf(sqlSelectCheckpoint, quoted),
		holdSQL:    fmt.Sprintf(sqlHoldCheckpoint, quoted),
		liftSQL:    fmt.Sprintf(sqlLiftCheckpoint, quoted),
	}
	if partition.Total > 1 {
		row.name = fmt.Sprintf("%s[%v]", projection, partition)
	}
	return row
}

// create makes the row if there is none, at the position of the row without
// partition or at 0.
func (c checkpointRow) create(ctx context.Context, db *pgxpool.Pool) error {
	if _, err := db.Exec(ctx, c.insertSQL, c.name, c.projection); err != nil {
		return fmt.Errorf("creating the checkpoint %q in %s: %w", c.name, c.table, err)
	}
	return nil
}

// read returns the row's position. A row that was deleted is an error.
func (c checkpointRow) read(ctx context.Context, db *pgxpool.Pool) (int64, error) {
	var position int64
	if err := db.QueryRow(ctx, c.selectSQL, c.name).Scan(&position); err != nil {
		return 0, fmt.Errorf("reading the checkpoint %q in %s: %w", c.name, c.table, err)
	}
	return position, nil
}

// beginAt begins a transaction that holds the row, in one round trip. It returns
// errCheckpointMoved, with no transaction open, if the row does not stand at from.
func (c checkpointRow) beginAt(ctx context.Context, conn *pgx.Conn, from int64) (pgx.Tx, error) {
	var (
		found int64
		batch pgx.Batch
	)
	batch.BeginTx(pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	batch.Queue(c.holdSQL, c.name, from)
	results := conn.SendBatch(ctx, &batch)
	_, err := results.Exec()
	if err == nil {
		tag, holdErr := results.Exec()
		found, err = tag.RowsAffected(), holdErr
	}
	tx := results.Tx()
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		rollbackQuietly(ctx, tx)
		return nil, fmt.Errorf("locking the checkpoint %q in %s at %d: %w", c.name, c.table, from, err)
	}
	if found != 1 {
		rollbackQuietly(ctx, tx)
		return nil, errCheckpointMoved
	}
	return tx, nil
}

// commitAt lifts the row, which the transaction holds, from one position to
// another, and commits. It returns errCheckpointMoved, with nothing committed, if a
// handler has given up the lock and another processor was there.
func (c checkpointRow) commitAt(ctx context.Context, tx pgx.Tx, from, to int64) error {
	tag, err := tx.Exec(ctx, c.liftSQL, c.name, from, to)
	if err == nil && tag.RowsAffected() != 1 {
		err = errCheckpointMoved
	}
	if err != nil {
		rollbackQuietly(ctx, tx)
		return fmt.Errorf("lifting the checkpoint %q in %s from %d to %d: %w", c.name, c.table, from, to, err)
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("committing a batch up to position %d: %w", to, err)
	}
	return nil
}
