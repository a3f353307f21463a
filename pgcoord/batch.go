package pgcoord

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Fence identifies the owner of a partition: a worker, for one projection, in one generation. A batch compares it with
// each checkpoint row, together with the row's position and revision.
type Fence struct {
	Projection string
	Partition  slot.Partition
	Generation int64
	Worker     uuid.UUID
}

// String describes the partition and generation for messages.
func (f Fence) String() string {
	return fmt.Sprintf("projection %q, partition %s of generation %d", f.Projection, f.Partition, f.Generation)
}

// ErrMoved means that the checkpoint rows differ from what the batch expects, because another generation or another
// batch has changed them. The transaction was rolled back and nothing was handled. Read the rows again (Store.Pieces).
// If they are still the worker's, continue from there. Otherwise the worker is fenced.
var ErrMoved = errors.New("the checkpoint was changed by somebody else")

// BatchSettings are local to a batch's transaction, since the connection belongs to the application.
type BatchSettings struct {
	// IdleTimeout ends the transaction on the server if the worker sends nothing for this long, because it is frozen or
	// gone.
	IdleTimeout time.Duration
	// SynchronousCommit makes the commit wait for the disk. Without it, a crash of the server may undo the last batches,
	// read model and checkpoint together, and their events are handled again.
	SynchronousCommit bool
	// Turn makes the batch wait for its turn while the projection's batches are in conflict.
	Turn bool
	// Shown marks the batch as one of its projection for WaitsForShown, by a shared advisory lock. It needs Turn, and has no effect while the partitions take turns.
	Shown bool
	// LockWait bounds how long the batch waits for all of its checkpoint rows. 0 means no bound.
	LockWait time.Duration
}

// ErrTurn means that another batch of the projection had the turn for longer than TurnWait. Nothing was handled.
var ErrTurn = batchtx.ErrTurn

// ErrLocked means that another transaction has held a checkpoint row for longer than BatchSettings.LockWait: a reset, a
// pause, or somebody's own. Nothing was handled.
var ErrLocked = batchtx.ErrLocked

// sqlLock compares all that the worker believes, and locks the row until the batch
// ends. Every change that the owner must know of raises the revision. With < in place of = for the position, a batch that waited behind its own
// predecessor's unanswered COMMIT would handle that one's events again.
const sqlLock = `
SELECT FROM {{schema}}orchestrator_checkpoints
WHERE projection = $1 AND slot_from = $2 AND slot_to = $3 AND position = $4 AND generation = $5 AND worker_id = $6 AND revision = $7
FOR NO KEY UPDATE`

// sqlAdvance advances a row that sqlLock has locked to where the batch has ended. It
// comes last: a handler that commits by itself must not commit the checkpoint of
// events that were not handled. Such a handler gives up the lock too, hence the
// comparison again. If the row is not there nothing is committed.
var sqlAdvance = batchtx.ExactlyOne(`
UPDATE {{schema}}orchestrator_checkpoints SET position = greatest($1::bigint, $4::bigint), updated_at = pg_catalog.now()
WHERE projection = $2 AND slot_from = $3 AND position = $4 AND generation = $5 AND worker_id = $6 AND revision = $7`)

// Batch is a transaction in which one partition's checkpoint rows are locked. It
// ends with Commit, which advances them, or Rollback.
type Batch struct {
	store  *Store
	conn   *pgxpool.Conn
	tx     *batchtx.Tx
	fence  Fence
	locked []slot.Piece // the pieces below the batch's position
	// recovered are positions of events that may have failed before.
	recovered []int64
	more      []batchtx.Statement // to be run before the rows are advanced
	stops     bool                // the rows are stopped after the position
	err       error               // of Commit
	lost      bool                // the connection had been lost when the batch ended
	committed bool
}

// BeginBatch opens a batch that handles the events up to and including upTo. pieces are the partition's checkpoints as
// the worker knows them. BeginBatch locks those below upTo, in order of their slots, and returns ErrMoved if they
// differ. BEGIN, the settings and the locks take one round trip.
func (s *Store) BeginBatch(ctx context.Context, pool Pool, f Fence, pieces []slot.Piece, upTo int64, settings BatchSettings) (*Batch, error) {
	b := &Batch{store: s, fence: f}
	for _, p := range pieces {
		if p.Position < upTo {
			b.locked = append(b.locked, p)
		}
	}
	slices.SortFunc(b.locked, func(p, q slot.Piece) int { return cmp.Compare(p.From, q.From) })
	lock := s.q(sqlLock)
	locks := make([]batchtx.Statement, len(b.locked))
	for i, p := range b.locked {
		locks[i] = batchtx.Statement{SQL: lock, Args: []any{f.Projection, p.From, p.To, p.Position, f.Generation, f.Worker, p.Revision}}
	}
	return b.open(ctx, pool, settings, int64(len(locks)), locks...)
}

// open begins the batch's transaction with locks, which must find so many rows.
func (b *Batch) open(ctx context.Context, pool Pool, settings BatchSettings, rows int64, locks ...batchtx.Statement) (*Batch, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("acquiring a connection for a batch of %s (the pool's limit is %d): %w", b.fence, pool.Config().MaxConns, err)
	}
	b.conn = conn
	if err := b.begin(ctx, settings, rows, locks); err != nil {
		b.Rollback(ctx)
		return nil, err
	}
	return b, nil
}

func (b *Batch) begin(ctx context.Context, settings BatchSettings, rows int64, locks []batchtx.Statement) error {
	own := batchtx.Settings{
		ApplicationName: ApplicationName(b.fence.Worker), IdleTimeout: settings.IdleTimeout, SynchronousCommit: settings.SynchronousCommit,
		LockWait: settings.LockWait / time.Duration(max(1, len(locks))),
	}
	if settings.Turn {
		own.Turn, own.TurnWait = b.store.turn(b.fence, settings.Shown), TurnWait
	}
	tx, found, err := batchtx.Begin(ctx, b.conn.Conn(), own, locks...)
	if err != nil {
		return fmt.Errorf("beginning a batch of %s: %w", b.fence, err)
	}
	b.tx = tx
	if found != rows {
		return fmt.Errorf("locking the checkpoint of %s: %w", b.fence, ErrMoved)
	}
	return nil
}

// Tx returns the transaction for the handlers. They cannot end it.
func (b *Batch) Tx() pgx.Tx { return batchtx.Guard(b.tx) }

// InTurn reports whether the projection's partitions take turns, and this one has its turn.
func (b *Batch) InTurn() bool { return b.tx.Turn() }

// Backend returns the process id of the batch's backend.
func (b *Batch) Backend() int { return b.tx.Backend() }

// Conflict reports whether the handlers failed because of a concurrent transaction. It looks at the error that they
// returned and at the last error that the database gave them.
func (b *Batch) Conflict(handlerErr error) bool {
	return handlerErr != nil && (batchtx.IsConflict(handlerErr) || b.tx.Conflict())
}

// Cause returns the last error that the database gave the handlers since the last event that was handled, or nil.
func (b *Batch) Cause() error { return b.tx.Last() }

// Alive reports whether the connection still works, or worked when the batch ended. If not, an error that a handler
// returned says nothing about its event.
func (b *Batch) Alive() bool { return !b.lost && (b.conn == nil || !b.conn.Conn().IsClosed()) }

// Commit advances the checkpoint to handled, which is upTo or less, and commits, in one round trip. It returns the
// connection to the pool. Before that it undoes what handlers may have done to the transaction, and returns an error if
// it cannot (see package batchtx).
//
// After an error it is not known whether the commit happened, so read the rows again. The exceptions are a
// *pgconn.PgError of another class than 08, which a pooler uses to report that it has lost the database, and
// batchtx.ErrOwner.
func (b *Batch) Commit(ctx context.Context, handled int64) error {
	defer b.release(ctx)
	advance := b.store.q(sqlAdvance)
	if b.stops {
		advance = b.store.q(sqlStopRows)
	}
	statements := slices.Grow(b.more, len(b.locked))
	for _, p := range b.locked {
		statements = append(statements, batchtx.Statement{SQL: advance, Args: []any{handled, b.fence.Projection, p.From, p.Position, b.fence.Generation, b.fence.Worker, p.Revision}})
	}
	if len(b.recovered) > 0 {
		b.tx.RunAside(b.store.q(sqlHandled), b.fence.Projection, array(b.recovered))
	}
	if b.err = explainRequest(explainParked(b.tx.CommitWith(ctx, statements...))); b.err != nil {
		return fmt.Errorf("committing the batch of %s up to %d: %w", b.fence, handled, b.err)
	}
	b.committed = true
	return nil
}

// ErrNoRecord means that the server does not let Commit record anything. Nothing was committed. See Recovered.
var ErrNoRecord = batchtx.ErrAside

// Recovered makes Commit record that the events at these positions were handled, if they had failed before. The record
// is part of the transaction, but cannot make it fail, or wait for longer than a tenth of a second; see Unrecorded. If
// the role may not use PL/pgSQL, Commit fails with ErrNoRecord.
func (b *Batch) Recovered(positions []int64) { b.recovered = positions }

// Unrecorded returns the reason why a successful Commit could not record what Recovered asked for.
func (b *Batch) Unrecorded() error { return b.tx.Missed() }

// Recorded reports whether a successful Commit recorded what Recovered asked for.
func (b *Batch) Recorded() bool { return len(b.recovered) > 0 && b.tx.Missed() == nil }

// array is positions as the text of an array.
func array(positions []int64) string {
	var text strings.Builder
	for i, position := range positions {
		text.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
		text.WriteString(strconv.FormatInt(position, 10))
	}
	return text.String() + "}"
}

// Rollback undoes the batch and returns the connection to the pool, even after ctx has ended. It does nothing if the
// batch has already ended.
func (b *Batch) Rollback(ctx context.Context) {
	if b.conn != nil {
		b.release(ctx)
	}
}

// release ends whatever is open and returns the connection to the pool. It is closed where a handler, or what made the commit fail, may have
// left it in any state.
func (b *Batch) release(ctx context.Context) {
	b.lost = b.conn.Conn().IsClosed()
	if batchtx.Spoils(b.err) {
		batchtx.Close(b.conn.Conn())
	}
	switch {
	case b.committed:
	case b.tx != nil && b.err == nil:
		b.tx.Abort(ctx)
	default:
		batchtx.Rollback(ctx, b.conn.Conn())
	}
	dbguard.Release(b.conn, b.err)
	b.conn = nil
}
