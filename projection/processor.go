package projection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/budget"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/eventread"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/horizon"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/manual"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/pooler"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/tracing"
)

// PostgresProcessor is the manual runner. It runs one projection on one partition of the stream, without coordinating
// with others. Partitions are ranges of slots, as in the orchestrator.
//
// Its checkpoint is a row of the event store's checkpoints table, which has pupsourcing's form (projection_checkpoints).
// With one partition the row has the projection's name, so the processor continues a checkpoint that pupsourcing left.
// Partition k of N has the row name[k/N].
//
// To change N, stop all processors of the projection and start new ones with another TotalPartitions. The first one
// replaces the rows, in one transaction. Every aggregate keeps its position, even if the old rows had different
// positions, so no event is handled again or left out. If the aggregates of a partition have different positions, it has
// several rows, name[k/N:from-to], until they meet. A processor of the old N that is still running returns
// ErrCheckpointGone. Changing N needs DELETE on the table.
//
// A row with the projection's name may exist beside the rows of several partitions. Either a person entered it, or it
// was left behind when there was one partition. If the partitions have rows, it must not be above them, and it is
// dropped. If N changes and it is below all others, the projection starts there and handles again what was handled above
// it. A processor refuses rows that contradict each other, with ErrCheckpointsContradict. A missing row counts as
// position 0 at the start, and is ErrCheckpointGone later.
//
// Two processors of the same partition never both commit an event: see Run.
type PostgresProcessor struct {
	config ProcessorConfig
	grace  time.Duration // how long a handler may go on after its context has ended
	idle   time.Duration // how long a handler may leave its transaction idle, at first
}

// NewPostgresProcessor returns a processor; Run checks the configuration.
func NewPostgresProcessor(config ProcessorConfig) *PostgresProcessor {
	return &PostgresProcessor{config: config.withDefaults(), grace: handlerGrace, idle: idleTimeout}
}

// Run handles events in order, from the checkpoint on, until ctx ends. Then it returns nil. It reads events up to the
// horizon, so none is lost when the transactions of writers overlap. Each batch is one transaction that first locks the
// checkpoint, provided that its position is the expected one. Another processor of the partition waits for the end of
// that transaction and then reads its own checkpoint again. The checkpoint also advances over events that are not
// wanted, about once a second and when ctx ends.
//
// Run returns an error
//   - if the configuration is invalid, if the database is unfit (see [horizon.Check]), if a pooler loses prepared
//     statements or transactions, or if the role lacks a right;
//   - wrapping [ErrProjectionStopped] (a [*StoppedError]) if an event failed, or, with an error policy, if the policy
//     stops the projection. The events before it are committed with the checkpoint, and the failed one is rolled back.
//     Without an error policy, the next Run tries the event again. With one, the stop is stored: Run returns the error
//     at once until a person decides (docs/errors.md), for every partition that has slots of the stopped one. An event
//     also fails if what its handler wrote violates a constraint at COMMIT, if its handler ends the transaction by SQL,
//     or if the connection is lost three times in a row while it is handled;
//   - wrapping [*horizon.RegressionError] if the checkpoint is ahead of the events, even if somebody moves it there
//     later;
//   - wrapping [ErrCheckpointsContradict] or [ErrCheckpointGone] if the checkpoint's rows were changed by hand and their
//     meaning is not clear;
//   - wrapping [ErrProjectionImported] if the projection has no checkpoint when Run begins, because a replica set has
//     imported its checkpoints;
//   - wrapping [ErrHandlerRunning] if a handler has not returned 10s after ctx ended.
//
// All other errors are logged and retried, including lost connections, deadlocks, serialization failures and locks that
// could not be acquired (55P03). The delay is at most 100ms at first and 5s later.
//
// A handler may leave its transaction idle for 10 minutes. If it takes longer, it is called again and gets more time, up
// to an hour. Several concurrent Runs are like several processors of the partition.
func (p *PostgresProcessor) Run(ctx context.Context) error {
	d, policied, err := p.config.describe()
	if err != nil {
		return fmt.Errorf("running a projection: %w", err)
	}
	r := newRunner(p.config, d, policied)
	r.grace, r.idle = p.grace, p.idle
	r.hook = handling.StartHook(p.config.FailureHook, handling.HookGrace, r.log, r.hookDropped())
	defer r.hook.End()
	r.places = budget.Join(p.config.DB, budget.KeptForProcessors, budget.Slow, r.name)
	defer r.places.Leave()
	err = r.run(ctx)
	if err == nil || ctx.Err() != nil && !errors.Is(err, ErrHandlerRunning) {
		return nil // what failed because ctx ended is no failure
	}
	return fmt.Errorf("running the projection %q, partition %v: %w", d.Name, r.partition, err)
}

const (
	// roundTrip bounds everything that does not run a handler.
	roundTrip = 30 * time.Second
	// failuresReport is the number of consecutive failures after which they are logged as an error that a person should
	// see.
	failuresReport = 16
	// horizonAge is how old the horizon may be when events that were read up to it are handled. The pool pings a
	// connection that was idle for a second, and opens another if it is dead. So the server may have crashed since the
	// horizon was found although no statement has failed.
	horizonAge = time.Second
	// keepEvery is how often the checkpoint is advanced over unwanted events, or read if there was nothing to advance.
	keepEvery = time.Second
)

// runner is one call of Run.
type runner struct {
	config      ProcessorConfig
	projection  handling.Projection
	name        string
	scope       handling.Scope
	policy      handling.Policy
	policied    bool // an error policy was set: what becomes of an event is kept in tables
	hook        *handling.Hook[Failure]
	tracer      *tracing.Tracer
	partition   slot.Partition
	application string        // the application_name of its transactions
	grace       time.Duration // see PostgresProcessor
	idle        time.Duration // the same, or more where that was too short
	log         *slog.Logger
	db          dbguard.Pool
	places      *budget.Share

	// What follows is made by resolve.
	rows    checkpoints
	letters *letters // nil where their tables are not there
	prober  *horizon.Prober
	events  *eventread.Reader

	own      []manual.Piece // what the checkpoint's rows are believed to say
	ready    bool           // they were read before
	scanned  int64          // how far the stream has been looked through, at or above the lowest row
	horizon  int64          // how far the stream may be looked through now
	table    uint32         // the horizon's events table, by oid
	epoch    uint64         // of the horizon
	probed   time.Time      // when the horizon was known to be of that epoch
	size     int            // of the next page: less than BatchSize after a failure
	kept     time.Time      // when the checkpoint was last written or looked at
	failures handling.State

	parked    map[aggregate]int // letters of each parked aggregate; nil if none is. Only this partition, or a person, changes them: see letters
	failing   failing
	retryAt   time.Time // no event is handled before
	unsettled int64     // highest position of an event that failed and must still be handled; 0: no such event
}

func newRunner(c ProcessorConfig, d handling.Description, policied bool) *runner {
	r := &runner{
		config: c, projection: d.Projection, name: d.Name, scope: d.Scope, policy: d.Policy, policied: policied,
		partition:   slot.Partition{Key: c.PartitionKey, Total: c.TotalPartitions},
		application: "pupsourcing-manual " + uuid.NewString(),
		size:        c.BatchSize, db: dbguard.New(c.DB),
	}
	r.log = c.Logger.With("component", "processor", "projection", d.Name, "partition", r.partition.String())
	r.tracer = tracing.New(c.TracerProvider, r.log)
	return r
}

// run sets up and handles batches until ctx ends or an error occurs that a retry cannot fix.
func (r *runner) run(ctx context.Context) error {
	failures, refused := 0, false
	for ctx.Err() == nil {
		err := r.setUp(ctx)
		for err == nil && ctx.Err() == nil {
			if err = r.turn(ctx); err == nil {
				failures, refused = 0, false
			}
		}
		switch {
		case errors.Is(err, ErrHandlerRunning):
			return err
		case ctx.Err() != nil:
			r.finish(ctx)
			return nil //nolint:nilerr // what failed because ctx ended is no failure
		case r.ready && !refused && isRefusal(err):
			refused = true // by a connection that somebody has left with another role, and that was closed; else setUp says what is wrong
		case !transient(err):
			return r.explain(ctx, err)
		}
		failures++
		delay := delayAfter(failures, err)
		level := slog.LevelWarn
		if failures >= failuresReport {
			level = slog.LevelError
		}
		r.log.Log(ctx, level, "a projection cannot go on and will try again", "error", err, "failures_in_a_row", failures, "delay", delay)
		wait(ctx, delay)
	}
	return nil
}

// explain adds to an error the rights that the role lacks, if a missing right may have caused it. Only a change of the
// number of partitions needs DELETE.
func (r *runner) explain(ctx context.Context, err error) error {
	events, checkpoints := r.config.EventStore.EventsTable(), r.config.EventStore.CheckpointsTable()
	return dbrights.Explain(ctx, r.config.DB, err,
		append(r.needs(), dbrights.On(events, "SELECT"), dbrights.OnSequence(events, "SELECT"), dbrights.On(checkpoints, "SELECT", "INSERT", "UPDATE")),
		[]dbrights.Need{dbrights.On(checkpoints, "DELETE")})
}

// setUp checks the database and reads the checkpoint.
func (r *runner) setUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, roundTrip)
	defer cancel()
	if !r.ready {
		if err := pooler.Check(ctx, r.config.DB, nil); err != nil {
			return fmt.Errorf("checking the way to the database: %w", err)
		}
		if err := dbguard.CheckSettings(ctx, r.config.DB); err != nil {
			return err
		}
	}
	db := r.db.InTransactions() // what a standby answers is not relied upon
	if err := r.resolve(ctx, db); err != nil {
		return err
	}
	if err := horizon.Check(ctx, db, r.config.EventStore.EventsTable()); err != nil {
		return err
	}
	own, replaced, err := r.rows.arrange(ctx, r.db, !r.ready)
	if err != nil {
		return err
	}
	if len(replaced) > 0 {
		r.log.WarnContext(ctx, "checkpoints for another number of partitions were replaced: stop the processors that run with that number",
			"replaced", replaced[:min(len(replaced), 20)], "rows", len(replaced))
	}
	if err := r.take(ctx, own); err != nil {
		return err
	}
	r.ready = true
	return nil
}

// resolve finds the tables, once, and makes what uses them.
func (r *runner) resolve(ctx context.Context, db eventread.DB) error {
	if r.events != nil {
		return nil
	}
	store, err := r.config.EventStore.Resolve(ctx, db)
	if err != nil {
		return dbguard.Finding(ctx, err) // a table is missing, or it is not clear which is meant
	}
	r.config.EventStore = store
	r.rows = newCheckpoints(store.CheckpointsTable(), store.EventsTable(), r.name, r.partition)
	// The rows only show that the sequence is below them: people may write them too, so they are no floor.
	r.prober = horizon.NewProber(r.db, store.EventsTable(), horizon.InMemory(func(ctx context.Context) (int64, error) {
		own, err := r.rows.read(ctx, r.db)
		return highest(own), err
	}), horizon.Options{})
	r.events = eventread.New(store, r.log)
	return nil
}

// take starts from the checkpoint's rows, and then from what is known about failed events.
func (r *runner) take(ctx context.Context, own []manual.Piece) error {
	r.noticeMoved(own)
	r.own = own
	r.scanned = r.stored()
	r.horizon, r.kept = r.scanned, time.Now()
	return r.loadLetters(ctx)
}

// reload reads the checkpoint's rows again.
func (r *runner) reload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, roundTrip)
	defer cancel()
	own, err := r.rows.read(ctx, r.db)
	if err == nil {
		err = r.take(ctx, own)
	}
	return err
}

// turn does one step and handles its result.
func (r *runner) turn(ctx context.Context) error {
	err := r.step(ctx)
	switch {
	case errors.Is(err, errAgain):
		r.scanned = max(r.scanned, r.stored())
		return nil
	case !errors.Is(err, errCheckpointMoved):
		return err
	}
	r.log.InfoContext(ctx, "another processor moved or stopped this partition's checkpoint, or somebody changed its parked aggregates", "position", r.stored())
	return r.reload(ctx)
}

// step reads and handles a page of events, or waits if there are none.
func (r *runner) step(ctx context.Context) error {
	if err := r.waitToRetry(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	if r.scanned >= r.horizon {
		if err := r.advance(ctx); err != nil {
			return err
		}
		if r.scanned >= r.horizon {
			if err := r.keep(ctx); err != nil {
				return err
			}
			wait(ctx, r.config.PollInterval)
			return nil
		}
	}
	page, err := r.read(ctx)
	if err == nil {
		err = r.handle(ctx, page)
	}
	if err == nil {
		err = r.keep(ctx)
	}
	return err
}

// read reads a page of events.
func (r *runner) read(ctx context.Context) (eventread.Page, error) {
	limited, cancel := context.WithTimeout(ctx, roundTrip)
	defer cancel()
	return r.events.Read(limited, r.db, eventread.Query{
		Pieces:          slot.Advance(manual.Slots(r.own), r.scanned),
		UpTo:            r.horizon,
		Table:           r.table,
		AggregateTypes:  r.scope.AggregateTypes,
		BoundedContexts: r.scope.BoundedContexts,
		Limit:           r.size,
	})
}

// advance probes the horizon. It returns an error if the checkpoint is above the sequence, no matter when it was moved
// there.
func (r *runner) advance(ctx context.Context) error {
	reading, err := r.probe(ctx)
	if err != nil {
		return err
	}
	if highest(r.own) > reading.LastValue { // unless the rows have changed with the server
		if err := r.reload(ctx); err != nil {
			return err
		}
		if reading, err = r.probe(ctx); err != nil {
			return err
		}
		if reached := highest(r.own); reached > reading.LastValue {
			return fmt.Errorf("comparing the checkpoint with the sequence: %w", &horizon.RegressionError{Reached: reached, LastValue: reading.LastValue, Floor: true})
		}
	}
	r.horizon, r.table = reading.Position, reading.Table
	if b := reading.Blocker; b != nil {
		r.log.DebugContext(ctx, "a transaction holds the horizon back", "horizon", reading.Position, "last_value", reading.LastValue,
			"pid", b.PID, "application_name", b.Application, "age", b.Age, "prepared_gid", b.PreparedGID)
	}
	return nil
}

// probe probes the horizon. If its epoch changed, everything since the stored checkpoint must be read again.
func (r *runner) probe(ctx context.Context) (horizon.Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, roundTrip)
	defer cancel()
	reading, err := r.prober.Probe(ctx)
	if err != nil {
		return reading, err
	}
	r.probed = time.Now()
	if reading.Epoch != r.epoch {
		r.epoch, r.scanned = reading.Epoch, r.stored()
	}
	return reading, err
}
