package actors

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/budget"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/health"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/lag"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/tracing"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/waiting"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// Config configures a worker. The orchestrator has validated it.
type Config struct {
	Pool       *pgxpool.Pool
	EventStore *eventstore.Store
	Store      *pgcoord.Store
	Membership pgcoord.Membership
	// Projections are in the same order as the names in Membership.Projections.
	Projections []handling.Description
	// Connect opens the coordination session's connection. It is not used in
	// poll-only mode.
	Connect func(context.Context) (*pgx.Conn, error)
	Timing  Timing
	Batch   BatchConfig
	Logger  *slog.Logger
	// Metrics may be nil.
	Metrics *measure.ReplicaSet
	// Handlers is shared by the workers that follow each other in one process, so that each knows the handlers that
	// earlier ones have abandoned. If it is nil, the worker makes its own.
	Handlers *Handlers
	// Waits are told what was committed. It may be nil.
	Waits *waiting.Hub
	// Drained is called after each look, with whether somebody has drained the worker. It may be nil.
	Drained func(is bool)
	// Handled is called with the number of events that a batch of a projection has handled, and the number that it has
	// skipped or parked. It may be nil.
	Handled func(projection string, events, letters int)
	// Failed is called for failed attempts at events, before FailureHook, on the processor's goroutine. It must return at
	// once. It may be nil.
	Failed func(projection.Failure)
	// FailureHook is called for failed attempts at events. It may be nil.
	FailureHook func(context.Context, projection.Failure)
	// PoolClosed is called whenever a statement fails because somebody has closed the pool. It may be nil.
	PoolClosed func()
	// Lag records how far the stream has come. If it is nil, the worker makes its own.
	Lag *lag.History
	// Tracer makes a span for each batch. It may be nil.
	Tracer *tracing.Tracer
	// Loops record the progress of the worker's loops, and Member the worker's state in its replica set. Both may be
	// nil.
	Loops  *health.Loops
	Member *health.Membership
}

// Timing holds all intervals and bounds of a worker.
type Timing struct {
	replicaset.Timing // by which the coordinator decides
	// Heartbeat is the interval between heartbeats.
	Heartbeat time.Duration
	// Drain is how long processors have to finish before they are cancelled.
	Drain time.Duration
	// Grace is how long handlers have to return after they were cancelled. Then they are abandoned.
	Grace time.Duration
	// Answer is how long a statement may take before its connection counts as dead. Defaults to 5s.
	Answer time.Duration
	// Place is how long a batch may wait for a place on the pool before it is logged. After the same time, a batch that
	// has a place no longer counts: see package budget. Defaults to 5s.
	Place time.Duration
	// History is how many superseded generations, departed workers, and failed events that were handled later are kept.
	History int
}

// trust is how long after the start of a heartbeat the worker trusts itself:
// it stops by itself a margin before others may declare it dead.
func (t Timing) trust() time.Duration { return t.Stale - t.Stale/6 }

// BatchConfig configures batches.
type BatchConfig struct {
	// Size is the maximum number of events in a batch.
	Size int
	// Time is the duration after which a batch is cut, so that a stop does not wait long.
	Time time.Duration
	// Settings are the batch transaction's.
	Settings pgcoord.BatchSettings
	// RetryFirst and RetryMax bound the backoff after a handler's error.
	RetryFirst, RetryMax time.Duration
	// HangAfter is how long a handler may run before it is logged.
	HangAfter time.Duration
	// FlushAfter and FlushEvery bound how far the checkpoint may lag behind while no event is in scope, in time and in
	// positions. The time is twice as long if the projection has many partitions.
	FlushAfter time.Duration
	FlushEvery int64
}

// worker is what all actors of one worker have in common. It is not changed
// after the start.
type worker struct {
	Config
	// db is the pool, as everything but handlers uses it.
	db dbguard.Pool
	// session is nil in poll-only mode.
	session *pgcoord.Session
	// batches is the worker's share of the places for batches on its pool, so that
	// handlers and readers find connections.
	batches *budget.Share
	// turns has, for each projection, a place for the batch that has its turn, or waits for it in the database.
	turns map[string]*turnPlace
	// noTurns is until when batches take no turns, since their table cannot be read, in nanoseconds since 1970.
	noTurns atomic.Int64
	idle    idleTimes
	// scopes is what each projection wants, asked once.
	scopes    map[string]handling.Scope
	handlers  *Handlers
	hook      *failureHook // nil without WithFailureHook
	notices   notices
	positions positions
	// rightsChecked says that the right to end the others' sessions was looked up. It belongs to whichever execution runs.
	rightsChecked bool
	// late is events that failed and were handled later, which the tables do not say yet. It outlives the processors.
	late lateRecords
}

// self is the worker's id.
func (w *worker) self() uuid.UUID { return w.Membership.ID }

// logger is the worker's logger for one kind of actor.
func (w *worker) logger(component string) *slog.Logger {
	return w.Logger.With("component", component)
}

// coordinate runs coordination statements: on the session, or on the pool in
// poll-only mode.
func (w *worker) coordinate(ctx context.Context, run func(context.Context, pgcoord.Conn) error) error {
	if w.session == nil {
		return run(ctx, w.db.InTransactions().Waiting(pgcoord.LockPatience))
	}
	return w.session.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error { return run(ctx, conn) })
}

// placesInterval is how often a worker logs that batches wait for a place.
const placesInterval = time.Minute

// acquireBatch waits until another batch of the projection may be in flight. The caller must call
// the function that it returns.
func (w *worker) acquireBatch(ctx context.Context, projectionName string) (release func(), err error) {
	waits := false
	began := time.Now()
	defer func() {
		if waits {
			w.Metrics.BatchWaits(-1, time.Since(began))
		}
	}()
	return w.batches.Acquire(ctx, projectionName, func(waited time.Duration, holders []string) {
		if !waits {
			waits = true
			w.Metrics.BatchWaits(1, 0)
		}
		if waited >= w.batches.Slow() && w.notices.due("places", placesInterval) {
			w.logger(kindProcessor).Warn("a batch waits for a pool connection, because other handlers do not return: allow the pool more connections, or repair the handlers so that they return",
				"projection", projectionName, "waiting_for", waited, "places", w.batches.AtOnce(), "taken_by", holders)
		}
	})
}
