package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/horizon"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// workerVariable carries what a worker must know beside its spec, as JSON.
const workerVariable = "CHAOS_WORKER"

// workerSettings is what all workers of a run have in common.
type workerSettings struct {
	Plan        failurePlan
	Journals    string // directory
	Synchronous bool   // commits
	Policed     bool   // workers have an error policy
	Versions    bool   // workers run the versions of a projection too
	Schema      string // of all tables; empty to look for them, which a pooler allows only while no session is left with another search_path
	Standby     string // where some of the connections lead; empty if there is none
}

const (
	retryFirst = 20 * time.Millisecond
	retryMax   = 500 * time.Millisecond
	// history is more generations and workers than a run has: the checks look at all of them.
	history = 100_000
)

// runWorker is a worker's process.
func runWorker(ctx context.Context, spec workload.WorkerSpec, log *slog.Logger) error {
	var settings workerSettings
	if err := json.Unmarshal([]byte(os.Getenv(workerVariable)), &settings); err != nil {
		return fmt.Errorf("reading the settings of worker %s: %w", spec.Name, err)
	}
	records, err := openJournal(settings.Journals, spec.Name)
	if err != nil {
		return err
	}
	pool, err := openPool(ctx, spec.Target, spec.PoolSize, settings.Standby)
	if err != nil {
		return err
	}
	defer pool.Close()
	options := append(spec.Options(log), orchestrator.WithSynchronousCommit(settings.Synchronous),
		orchestrator.WithRetryBackoff(retryFirst, retryMax), orchestrator.WithHistory(history))
	if settings.Policed {
		options = append(options, policed(spec.Projections)...)
	}
	events := []eventstore.Option{eventstore.WithLogger(log)}
	if settings.Schema != "" {
		options, events = append(options, orchestrator.WithSchema(settings.Schema)), append(events, eventstore.WithSchema(settings.Schema))
	}
	orch, err := orchestrator.New(pool, eventstore.New(events...), spec.ReplicaSet, options...)
	if err != nil {
		return err
	}
	frozen := newFreezer()
	projections := make([]projection.Projection, 0, len(spec.Projections)+versionCount)
	for _, p := range spec.Projections {
		projections = append(projections, newFaultyProjection(p, spec.Name, settings.Plan, records, frozen))
	}
	if settings.Versions && spec.ReplicaSet == replicaSet {
		projections = append(projections, versions()...)
	}
	for {
		err = orch.Run(ctx, projections)
		if !unfit(err) || ctx.Err() != nil {
			break
		}
		log.Warn("starting again, as whoever runs the process would", "error", err) // a fault takes rights away for a while
		select {
		case <-time.After(retryMax):
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil && errors.Is(err, orchestrator.ErrNeverReached) { // it was to leave before the database was back
		return nil
	}
	if err != nil {
		return fmt.Errorf("running worker %s: %w", spec.Name, err)
	}
	return nil
}

// skipAfter is how many failed attempts skip an event.
const skipAfter = 2

// policed is the error policy: few attempts, and caps that are met now and then. What must not be divided cannot be parked.
func policed(specs []workload.ProjectionSpec) (options []orchestrator.Option) {
	policy := projection.ErrorPolicy{
		Attempts: 2, First: retryFirst, Max: retryMax, Timeout: 3 * time.Second, Then: projection.Park, MaxParked: 12, MaxParkedEvents: 60,
	}
	options = append(options, orchestrator.WithErrorPolicy(policy))
	for _, p := range specs {
		switch p.Name {
		case single:
			options = append(options, orchestrator.WithErrorPolicyFor(single, projection.ErrorPolicy{Attempts: 3, First: retryFirst, Max: retryMax}))
		case skipping:
			skip := policy
			skip.Attempts, skip.Then = skipAfter, projection.Skip
			options = append(options, orchestrator.WithErrorPolicyFor(skipping, skip))
		}
	}
	return options
}

// unfit says whether a worker refused to start for want of a right.
func unfit(err error) bool {
	_, unfit := errors.AsType[*horizon.UnfitError](err)
	return unfit || errors.Is(err, orchestrator.ErrNotGranted)
}

// freezeInBatch asks a worker's process to stop itself in the middle of a batch. A process that does not listen yet ignores it.
const freezeInBatch = syscall.SIGWINCH

// freezeWithin is how long the request holds; then the process is either frozen or will not be.
const freezeWithin = time.Second

// freezer stops the process, as SIGSTOP does, at the next event after the process was asked to.
type freezer struct{ until atomic.Int64 }

func newFreezer() *freezer {
	f := &freezer{}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, freezeInBatch)
	go func() {
		for range asked {
			f.until.Store(time.Now().Add(freezeWithin).UnixNano())
		}
	}()
	return f
}

// freezeIfAsked stops the process at once or, as often, a moment later: around the batch's COMMIT and the next one's BEGIN.
func (f *freezer) freezeIfAsked() error {
	if until := f.until.Swap(0); until < time.Now().UnixNano() {
		return nil
	}
	stop := func() error { return syscall.Kill(os.Getpid(), syscall.SIGSTOP) }
	if rand.IntN(2) == 0 {
		return stop()
	}
	time.AfterFunc(rand.N(aroundCommit), func() { _ = stop() })
	return nil
}

// aroundCommit is how long a batch takes to end and the next one to begin, about.
const aroundCommit = 3 * time.Millisecond

// faultyProjection is a projection that handles events by the workload's Recorder, keeps a journal of it, and meets with failures.
type faultyProjection struct {
	recorder projection.Projection
	plan     failurePlan
	journal  *journal
	freezer  *freezer
	single   bool
}

var (
	_ projection.UnpartitionedProjection = (*faultyProjection)(nil)
	_ projection.AggregateScoped         = (*faultyProjection)(nil)
	_ projection.BatchProjection         = faultyBatchProjection{}
)

// newFaultyProjection makes the projection for spec.
func newFaultyProjection(spec workload.ProjectionSpec, worker string, m failurePlan, records *journal, f *freezer) projection.Projection {
	v := &faultyProjection{recorder: workload.NewRecorder(spec, worker), plan: m, journal: records, freezer: f, single: spec.Name == single}
	if spec.Batch {
		return faultyBatchProjection{v}
	}
	return v
}

// Name is the projection's name.
func (v *faultyProjection) Name() string { return v.recorder.Name() }

// AggregateTypes are the wanted types.
func (v *faultyProjection) AggregateTypes() []string {
	if scoped, ok := v.recorder.(projection.AggregateScoped); ok {
		return scoped.AggregateTypes()
	}
	return nil
}

// Unpartitioned says whether the projection is the one that is not to be divided.
func (v *faultyProjection) Unpartitioned() bool { return v.single }

// errInjected is what a handler returns that is to fail.
var errInjected = errors.New("injected failure")

// Handle handles one event.
func (v *faultyProjection) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	return v.act(ctx, tx, []es.PersistedEvent{event}, func() error { return v.recorder.Handle(ctx, tx, event) })
}

// faultyBatchProjection handles whole batches.
type faultyBatchProjection struct{ *faultyProjection }

// HandleBatch handles the events in order.
func (v faultyBatchProjection) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	recorder, ok := v.recorder.(projection.BatchProjection)
	if !ok {
		return fmt.Errorf("projection %q has no batches", v.Name())
	}
	return v.act(ctx, tx, events, func() error { return recorder.HandleBatch(ctx, tx, events) })
}

// act journals the events, has them recorded, and lets failures happen. The transaction is to be the only one in a handler of
// these slots as long as it lives.
func (v *faultyProjection) act(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent, record func() error) (err error) {
	outcome := outcomePanic
	var backend uint32 // the connection's own idea of it is a pooler's invention
	if err := tx.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&backend); err != nil {
		return fmt.Errorf("asking for the backend: %w", err)
	}
	calls := make([]int64, len(events))
	for i := range events {
		if calls[i], err = v.journal.begin(v.Name(), events[i].GlobalPosition, backend); err != nil {
			return err
		}
	}
	defer func() {
		for _, call := range calls {
			err = errors.Join(err, v.journal.end(call, outcome))
		}
	}()
	alone, err := v.alone(ctx, tx, events)
	if err == nil {
		err = record()
	}
	if err == nil {
		err = v.freezer.freezeIfAsked()
	}
	if err == nil && v.single && time.Since(events[0].CreatedAt) < dawdleUpTo {
		err = wait(ctx, dawdle)
	}
	excused := false
	for i := 0; i < len(events) && err == nil; i++ {
		var spoilt bool
		spoilt, err = v.stumble(ctx, tx, events[i].GlobalPosition)
		excused = excused || spoilt
	}
	switch {
	case err != nil || excused:
		outcome = outcomeFailed
	case !alone:
		outcome = outcomeOverlap
	case trial(ctx):
		outcome = outcomeTrial
	case ctx.Err() != nil:
		outcome = outcomeLate
	default:
		outcome = outcomeOK
	}
	return err
}

// trial says whether the transaction will be rolled back whatever the handler does.
func trial(ctx context.Context) bool {
	delivery, ok := projection.DeliveryFrom(ctx)
	return ok && delivery.Trial
}

// Reset empties the read model, and the log of what was handled.
func (v *faultyProjection) Reset(ctx context.Context, tx pgx.Tx) error {
	for _, table := range []string{"public.workload_log", "public.workload_read_model"} {
		if _, err := tx.Exec(ctx, "DELETE FROM "+table+" WHERE projection = $1", v.Name()); err != nil {
			return fmt.Errorf("emptying the read model: %w", err)
		}
	}
	return nil
}

// Locks of two keys are apart from those of one, which the library takes.
const sqlAlone = `
SELECT coalesce(bool_and(pg_try_advisory_xact_lock(hashtext($1), slot)), true)
FROM (SELECT DISTINCT (hashtextextended(id, 0) & 65535)::integer AS slot FROM unnest($2::text[]) AS id) AS slots`

// alone says whether no other transaction that is alive has handled, or is handling, events of these slots for the projection.
func (v *faultyProjection) alone(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) (alone bool, err error) {
	ids := make([]string, len(events))
	for i := range events {
		ids[i] = events[i].AggregateID
	}
	if err := tx.QueryRow(ctx, sqlAlone, v.Name(), ids).Scan(&alone); err != nil {
		return false, fmt.Errorf("locking the events' slots: %w", err)
	}
	return alone, nil
}

// The projection that is not divided handles events hardly faster than they come, unless they are old: so there is nearly always
// a worker with events in hand that are not handled, and one that took its place and has not handled them either.
const (
	dawdle     = 12 * time.Millisecond
	dawdleUpTo = 8 * time.Second
)

// wait waits for d; it returns ctx's cause if that ends before.
func wait(ctx context.Context, d time.Duration) error {
	if !rest(ctx, d) {
		return context.Cause(ctx)
	}
	return nil
}

// stumble lets the event's failure happen, if it has one. spoilt says that the handler returns no error though the batch, or a later
// event of it, may fail.
func (v *faultyProjection) stumble(ctx context.Context, tx pgx.Tx, position int64) (spoilt bool, err error) {
	what, long, err := v.plan.draw(v.Name(), position)
	if err != nil {
		return false, err
	}
	switch what {
	case behave:
	case slow, hang:
		return false, wait(ctx, long)
	case hangDeaf:
		return false, wait(context.WithoutCancel(ctx), long)
	case panics:
		panic(errInjected)
	case fails, poisons:
		return false, errInjected
	case strays:
		_, err = tx.Exec(ctx, "SET search_path = "+decoySchema+", public")
		return true, err
	case demotes:
		_, err = tx.Exec(ctx, "SET LOCAL ROLE "+tenantRole+"; SET LOCAL statement_timeout = 1; SET LOCAL search_path = "+decoySchema, pgx.QueryExecModeSimpleProtocol)
		return true, err
	case undoes:
		_, err = tx.Exec(ctx, "ROLLBACK; BEGIN", pgx.QueryExecModeSimpleProtocol)
		return true, err
	}
	return false, nil
}
