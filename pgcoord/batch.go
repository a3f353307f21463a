package pgcoord

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/slot"
)

// Fence is what a batch must still be true of when it commits: who handles
// which partition of which projection in which generation.
type Fence struct {
	Projection string
	Partition  slot.Partition
	Generation int64
	Worker     uuid.UUID
}

// String names the partition and generation, for messages.
func (f Fence) String() string {
	return fmt.Sprintf("projection %q, partition %s of generation %d", f.Projection, f.Partition, f.Generation)
}

// ErrMoved says that the checkpoint rows are not as the batch believes: another
// generation or another batch has changed them. The transaction was rolled back
// and nothing was handled. Read the rows again (Store.Pieces): if they are still
// the worker's, go on from what they say; if not, the worker is fenced.
var ErrMoved = errors.New("the checkpoint was changed by somebody else")

// BatchSettings are local to a batch's transaction, since its connection is the
// application's.
type BatchSettings struct {
	// IdleTimeout ends the transaction on the server if the worker stops
	// talking to it for so long: it is frozen, or gone without a word.
	IdleTimeout time.Duration
	// SynchronousCommit makes the commit wait for the disk. Without it a crash
	// of the server can take back the last batches: read model and checkpoint
	// together, so the events are handled again.
	SynchronousCommit bool
}

const sqlBatchSettings = `
SELECT set_config('application_name', $1, true),
       set_config('idle_in_transaction_session_timeout', $2, true),
       CASE WHEN $3 THEN '' ELSE set_config('synchronous_commit', 'off', true) END`

// sqlHold compares all that the worker believes, and locks the row until the batch
// ends. With < in place of = for the position, a batch that waited behind its own
// predecessor's unanswered COMMIT would handle that one's events again.
const sqlHold = `
SELECT FROM {{schema}}orchestrator_checkpoints
WHERE projection = $1 AND slot_from = $2 AND slot_to = $3 AND position = $4 AND generation = $5 AND worker_id = $6
FOR NO KEY UPDATE`

// sqlLift lifts a row that sqlHold has locked to where the batch has ended. It
// comes last: a handler that commits by itself must not commit the checkpoint of
// events that were not handled. Such a handler gives up the lock too, hence the
// comparison again.
const sqlLift = `
UPDATE {{schema}}orchestrator_checkpoints SET position = greatest($1::bigint, $4::bigint), updated_at = now()
WHERE projection = $2 AND slot_from = $3 AND position = $4 AND generation = $5 AND worker_id = $6`

// Batch is a transaction in which one partition's checkpoint rows are locked. It
// ends with Commit, which lifts them, or Rollback.
type Batch struct {
	store *Store
	conn  *pgxpool.Conn
	tx    pgx.Tx
	fence Fence
	held  []slot.Piece // the pieces below the batch's position
}

// BeginBatch opens a batch that handles the events up to and including upTo.
// pieces are the partition's checkpoints as the worker believes them; those
// below upTo are locked, in order of their slots. It returns ErrMoved if they are
// not as believed. BEGIN, the settings and the locks are one round trip.
func (s *Store) BeginBatch(ctx context.Context, pool *pgxpool.Pool, f Fence, pieces []slot.Piece, upTo int64, settings BatchSettings) (*Batch, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("acquiring a connection for a batch of %s (the pool's limit is %d): %w", f, pool.Config().MaxConns, err)
	}
	b := &Batch{store: s, conn: conn, fence: f}
	for _, p := range pieces {
		if p.Position < upTo {
			b.held = append(b.held, p)
		}
	}
	slices.SortFunc(b.held, func(p, q slot.Piece) int { return cmp.Compare(p.From, q.From) })
	if err := b.begin(ctx, settings); err != nil {
		b.Rollback(ctx)
		return nil, err
	}
	return b, nil
}

func (b *Batch) begin(ctx context.Context, settings BatchSettings) error {
	var batch pgx.Batch
	batch.BeginTx(transaction)
	batch.Queue(sqlBatchSettings, ApplicationName(b.fence.Worker),
		strconv.FormatInt(settings.IdleTimeout.Milliseconds(), 10), settings.SynchronousCommit)
	hold := b.store.q(sqlHold)
	for _, p := range b.held {
		batch.Queue(hold, b.fence.Projection, p.From, p.To, p.Position, b.fence.Generation, b.fence.Worker)
	}
	results := b.conn.SendBatch(ctx, &batch)
	b.tx = results.Tx()
	for range 2 {
		if _, err := results.Exec(); err != nil {
			_ = results.Close()
			return fmt.Errorf("beginning a batch of %s: %w", b.fence, err)
		}
	}
	found := int64(0)
	for range b.held {
		tag, err := results.Exec()
		if err != nil {
			_ = results.Close()
			return fmt.Errorf("locking the checkpoint of %s: %w", b.fence, err)
		}
		found += tag.RowsAffected()
	}
	if err := results.Close(); err != nil {
		return fmt.Errorf("beginning a batch of %s: %w", b.fence, err)
	}
	if found != int64(len(b.held)) {
		return fmt.Errorf("locking the checkpoint of %s: %w", b.fence, ErrMoved)
	}
	return nil
}

// Tx is the transaction for the handlers. They cannot end it.
func (b *Batch) Tx() pgx.Tx { return projection.GuardTx(b.tx) }

// Alive says whether the connection still stands; if not, an error that a
// handler returned says nothing about its event.
func (b *Batch) Alive() bool { return !b.conn.Conn().IsClosed() }

// Commit lifts the checkpoint to handled, which is upTo or less, and commits, in
// one round trip, and returns the connection. After an error it is
// not known whether the commit happened, unless the error is a *pgconn.PgError of
// another class than 08, with which a pooler reports that it has lost the
// database: read the rows again.
func (b *Batch) Commit(ctx context.Context, handled int64) error {
	defer b.release()
	var batch pgx.Batch
	lift := b.store.q(sqlLift)
	for _, p := range b.held {
		batch.Queue(lift, handled, b.fence.Projection, p.From, p.Position, b.fence.Generation, b.fence.Worker)
	}
	batch.Queue("COMMIT")
	results := b.conn.SendBatch(ctx, &batch)
	lifted := int64(0)
	for range b.held {
		tag, err := results.Exec()
		if err != nil {
			_ = results.Close()
			return fmt.Errorf("lifting the checkpoint of %s to %d: %w", b.fence, handled, err)
		}
		lifted += tag.RowsAffected()
	}
	tag, err := results.Exec()
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("committing the batch of %s: %w", b.fence, err)
	}
	if tag.String() != "COMMIT" {
		return fmt.Errorf("committing the batch of %s: %w", b.fence, pgx.ErrTxCommitRollback)
	}
	if lifted != int64(len(b.held)) { // only where a handler has given up the locks
		return fmt.Errorf("lifting the checkpoint of %s to %d: %w", b.fence, handled, ErrMoved)
	}
	return nil
}

// rollbackTimeout bounds a rollback; the connection is closed if it passes.
const rollbackTimeout = 5 * time.Second

// Rollback undoes the batch and returns the connection, also after ctx ended. It
// does nothing if the batch has ended already.
func (b *Batch) Rollback(ctx context.Context) {
	if b.conn == nil {
		return
	}
	defer b.release()
	if b.conn.Conn().IsClosed() || b.conn.Conn().PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	if _, err := b.conn.Exec(ctx, "ROLLBACK"); err != nil {
		_ = b.conn.Conn().Close(ctx) // the server rolls back what has lost its connection
	}
}

// release returns the connection to the pool, which closes it if it is still in
// a transaction.
func (b *Batch) release() {
	if b.conn != nil {
		b.conn.Release()
		b.conn = nil
	}
}
