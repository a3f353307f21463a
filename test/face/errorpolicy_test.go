package face

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// policied is a recorder with an error policy of its own.
type policied struct {
	recorder
	policy projection.ErrorPolicy
}

func (p policied) ErrorPolicy() projection.ErrorPolicy { return p.policy }

// unpartitioned is a recorder that must not be divided.
type unpartitioned struct{ recorder }

func (unpartitioned) Unpartitioned() bool { return true }

// inBatches is a recorder that handles whole batches.
type inBatches struct{ recorder }

func (b inBatches) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	for _, event := range events {
		if err := b.Handle(ctx, tx, event); err != nil {
			return err
		}
	}
	return nil
}

// poisoned fails on the events at these positions.
func poisoned(err error, positions ...int64) func(context.Context, es.PersistedEvent) error {
	return func(_ context.Context, event es.PersistedEvent) error {
		if slices.Contains(positions, event.GlobalPosition) {
			return err
		}
		return nil
	}
}

func TestSkipLeavesTheEventOut(t *testing.T) {
	for kind, of := range map[string]func(recorder) projection.Projection{
		"one by one": func(r recorder) projection.Projection { return r },
		"batches":    func(r recorder) projection.Projection { return inBatches{r} },
	} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			w.append("ada", 6)
			w.append("grace", 4)
			huge := errors.New("\xff\x00" + strings.Repeat("x", 10<<20))
			policy := projection.ErrorPolicy{Attempts: 3, Then: projection.Skip}
			orch := w.orchestrator("set", orchestrator.WithErrorPolicy(policy))
			r := start(t, orch, of(recorder{name: "p", before: poisoned(huge, 4, 5, 10)}))
			w.awaitHandled("p", 7)
			w.await("10", "SELECT position FROM orchestrator_checkpoints")
			assert.Equal(t, "4 skipped 3 ada true, 5 skipped 3 ada true, 10 skipped 3 grace true", w.value(`SELECT global_position, state, attempts, aggregate_id,
				skipped_at IS NOT NULL FROM orchestrator_dead_letters ORDER BY 1`))
			assert.Equal(t, "true", w.value("SELECT bool_and(length(last_error) BETWEEN 8000 AND 9000) FROM orchestrator_dead_letters"))
			awaitMetric(t, orch, "3", `events_skipped_total{projection="p",replica_set="set"}`)
			awaitMetric(t, orch, "0", `retrying{partition="0/1",projection="p",replica_set="set"}`)
			awaitMetric(t, orch, "0", `lag_events{partition="0/1",projection="p",replica_set="set"}`)
			require.NoError(t, r.stop())
			w.logs.AwaitLine(t, "the error policy has skipped it")
			assert.Equal(t, 1, strings.Count(w.logs.String(), "the projection's error policy"), "it is logged once")
			assert.Regexp(t, `the projection's error policy".* projection=p set_by=WithErrorPolicy attempts=3 then=skip first_delay=5ms max_delay=20ms`, w.logs.String())
		})
	}
}

// stale reads a table by a statement that each connection has prepared.
type stale struct{ recorder }

const staleSQL = "SELECT * FROM model WHERE id <> $1"

func (s stale) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	if _, err := tx.Exec(ctx, staleSQL, 0); err != nil {
		return err
	}
	return s.recorder.Handle(ctx, tx, event)
}

// After an ALTER TABLE each connection refuses once what it has prepared. No event is to blame.
func TestAnAlteredTableFailsNoEvent(t *testing.T) {
	w := newWorld(t)
	w.troubled = true
	w.exec("CREATE TABLE model (id bigint)")
	w.with(func(c *pgxpool.Config) { c.MaxConns = 3 })
	r := start(t, w.orchestrator("set", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: projection.Skip})), stale{recorder{name: "p"}})
	w.awaitRunning("set", 1)
	var conns []*pgxpool.Conn
	for range 3 {
		conn, err := w.application().Acquire(t.Context())
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), staleSQL, 0)
		require.NoError(t, err)
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		conn.Release()
	}
	w.exec("ALTER TABLE model ADD COLUMN name text")
	w.append("ada", 2)
	w.awaitHandled("p", 2)
	require.Equal(t, "0", w.value("SELECT count(*) FROM orchestrator_dead_letters"))
	require.NoError(t, r.stop())
}

// A letter that cannot be written keeps its event from being passed.
func TestNothingIsSkippedWithoutALetter(t *testing.T) {
	w := newWorld(t)
	w.troubled = true
	w.append("ada", 3)
	w.exec("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$no letters$$; END'")
	w.exec("CREATE TRIGGER refuse BEFORE INSERT ON orchestrator_dead_letters EXECUTE FUNCTION refuse()")
	w.alwaysFire("refuse")
	r := start(t, w.orchestrator("set", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Then: projection.Skip})),
		recorder{name: "p", before: poisoned(projection.Permanent(errBad), 2)})
	w.logs.AwaitLine(t, "no letters")
	w.await("1", "SELECT position FROM orchestrator_checkpoints") // and no further
	w.logs.AwaitLine(t, "committing the batch of projection")
	assert.Equal(t, "1", w.value("SELECT position FROM orchestrator_checkpoints"))
	w.exec("DROP TRIGGER refuse ON orchestrator_dead_letters")
	w.awaitHandled("p", 2)
	w.await("skipped 3", "SELECT state, (SELECT position FROM orchestrator_checkpoints) FROM orchestrator_dead_letters")
	require.NoError(t, r.stop())
}

// A permanent error is not tried again, a conflict and a retry that was asked for are.
func TestClassesDecide(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 5)
	var mu sync.Mutex
	calls := map[int64]int{}
	p := recorder{name: "p", before: func(_ context.Context, event es.PersistedEvent) error {
		mu.Lock()
		defer mu.Unlock()
		calls[event.GlobalPosition]++
		switch n := calls[event.GlobalPosition]; {
		case event.GlobalPosition == 2:
			return projection.Permanent(errBad)
		case event.GlobalPosition == 3 && n <= 3:
			return fmt.Errorf("counted elsewhere: %w", errors.ErrUnsupported)
		case event.GlobalPosition == 4:
			return projection.RetryAfter(time.Millisecond, errBad)
		}
		return nil
	}}
	policy := projection.ErrorPolicy{Attempts: 2, First: time.Hour, Max: time.Hour, Then: projection.Skip, Classify: func(err error) projection.Class {
		if errors.Is(err, errors.ErrUnsupported) {
			return projection.ClassConflict
		}
		return projection.DefaultClass(err)
	}}
	r := start(t, w.orchestrator("set", orchestrator.WithErrorPolicyFor("p", policy)), p)
	w.awaitHandled("p", 3)
	w.await("2 1, 4 2", "SELECT global_position, attempts FROM orchestrator_dead_letters WHERE state = 'skipped' ORDER BY 1")
	require.NoError(t, r.stop())
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, map[int64]int{2: 1, 3: 4, 4: 2}, map[int64]int{2: calls[2], 3: calls[3], 4: calls[4]})
}

// A call has a time of its own. That its handler waits for the database changes nothing.
func TestTimeoutOfACall(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 4)
	p := recorder{name: "p", before: func(ctx context.Context, event es.PersistedEvent) error {
		if event.GlobalPosition != 3 {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}}
	orch := w.orchestrator("set", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 2, Timeout: 2 * time.Second, Then: projection.Skip}))
	r := start(t, orch, p)
	w.awaitHandled("p", 3)
	assert.Contains(t, w.value("SELECT last_error FROM orchestrator_dead_letters"), "longer than the error policy's Timeout of 2s")
	assert.Equal(t, "2", metric(t, orch, `handler_errors_total{kind="timeout",projection="p",replica_set="set"}`))
	require.NoError(t, r.stop())
}

// The stop is stored: a restart, another number of partitions and other workers leave it. A person ends it.
func TestStopOutlivesRestartsAndPartitions(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 3)
	for i := range 20 {
		w.append(fmt.Sprint("user ", i), 1)
	}
	slotOf := "hashtextextended(aggregate_id, 0) & 65535"
	half := "(" + slotOf + ") / 32768"
	own := w.value("SELECT count(*) FROM events WHERE " + half + " = (SELECT " + half + " FROM events WHERE global_position = 2)")
	require.NotEqual(t, "23", own)
	free := func() string {
		return w.value("SELECT count(*) FROM events WHERE " + half + " <> (SELECT " + half + " FROM events WHERE global_position = 2)")
	}
	g := &gate{position: 2, fail: func() error { return errBad }}
	p := policied{recorder{name: "p", before: g.check}, projection.ErrorPolicy{Attempts: 2, Then: projection.Stop}}
	stopped := "SELECT count(*) FROM orchestrator_checkpoints WHERE stopped_at = 2 AND position = 1 AND revision > 0"
	orch := w.orchestrator("set", orchestrator.WithPartitionsPerWorker(2))
	r := start(t, orch, p)
	w.await("1", stopped)
	w.await("stopped 2", "SELECT state, attempts FROM orchestrator_dead_letters")
	w.await("1", "SELECT count(*) FROM handled WHERE aggregate_id = 'ada'")
	handled := func() string { return w.value("SELECT count(*) FROM handled WHERE aggregate_id <> 'ada'") }
	elsewhere := free()
	eventually(t, func() bool { return handled() == elsewhere }, func() string { return "the other partition: " + handled() + " of " + elsewhere })
	key := w.value("SELECT partition_key FROM orchestrator_checkpoints WHERE stopped_at IS NOT NULL")
	awaitMetric(t, orch, "1", `stopped{partition="`+key+`/2",projection="p",replica_set="set"}`)
	awaitMetric(t, orch, "0", `retrying{partition="`+key+`/2",projection="p",replica_set="set"}`)
	w.logs.AwaitLine(t, "the projection is stopped at an event")
	require.NoError(t, r.stop())
	failures := g.failures.Load()

	for _, partitions := range []int{1, 3} {
		for i := range 10 {
			w.append(fmt.Sprint(partitions, " later ", i), 1)
		}
		r = start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(partitions)), p)
		elsewhere = free()
		eventually(t, func() bool { return handled() == elsewhere }, func() string { return "other slots: " + handled() + " of " + elsewhere })
		require.NoError(t, r.stop())
		assert.Equal(t, fmt.Sprint(elsewhere, " ", "1"), w.value("SELECT count(*) FILTER (WHERE aggregate_id <> 'ada'), count(*) FILTER (WHERE aggregate_id = 'ada') FROM handled"))
		assert.Equal(t, "32768", w.value("SELECT sum(slot_to - slot_from) FROM orchestrator_checkpoints WHERE stopped_at = 2"))
	}
	assert.Equal(t, failures, g.failures.Load(), "nobody has tried the event again")

	g.opened.Store(true)
	r = start(t, w.orchestrator("set"), p)
	w.awaitRunning("set", 1)
	w.exec("UPDATE orchestrator_checkpoints SET stopped_at = NULL, revision = revision + 1 WHERE projection = 'p'")
	w.awaitHandled("p", 43)
	w.await("handled", "SELECT state FROM orchestrator_dead_letters")
	require.NoError(t, r.stop())
	w.requireOrder("p")
}

// Attempts are counted over restarts, and the log counts them as the table does, also where the outcome follows at once.
func TestAttemptsAreCountedOverRestarts(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 2)
	for range 2 {
		tried := make(chan struct{}, 100)
		r := start(t, w.orchestrator("set", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 3, First: time.Hour, Max: time.Hour, Then: projection.Skip})),
			recorder{name: "p", before: func(_ context.Context, event es.PersistedEvent) error {
				if event.GlobalPosition == 1 {
					tried <- struct{}{}
					return errBad
				}
				return nil
			}})
		await(t, tried, "the event to fail")
		w.logs.AwaitLine(t, "waits for the event")
		require.NoError(t, r.stop())
	}
	assert.Equal(t, "retrying 2", w.value("SELECT state, attempts FROM orchestrator_dead_letters"))
	for i, last := range []error{errBad, projection.Permanent(errBad)} {
		w.exec("UPDATE orchestrator_checkpoints SET position = 0")
		w.exec("TRUNCATE handled")
		w.exec("UPDATE orchestrator_dead_letters SET state = 'retrying', attempts = $1, skipped_at = NULL", 2+13*i)
		r := start(t, w.orchestrator("set", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 3, First: time.Hour, Max: time.Hour, Then: projection.Skip})),
			recorder{name: "p", before: poisoned(last, 1)})
		w.awaitHandled("p", 1)
		want := fmt.Sprint(3 + 13*i)
		assert.Equal(t, "skipped "+want, w.value("SELECT state, attempts FROM orchestrator_dead_letters"))
		w.logs.AwaitLine(t, "attempt="+want+" outcome=skip")
		w.logs.AwaitLine(t, "position=1 aggregate_id=ada attempts="+want)
		require.NoError(t, r.stop())
	}
}

func TestRunRefusesErrorPolicies(t *testing.T) {
	w := newWorld(t)
	own := func(p projection.ErrorPolicy) projection.Projection { return policied{recorder{name: "p"}, p} }
	for name, tt := range map[string]struct {
		options []orchestrator.Option
		p       projection.Projection
		is      error
		text    string
	}{
		"an unknown name": {
			[]orchestrator.Option{orchestrator.WithErrorPolicyFor("q", projection.ErrorPolicy{})},
			recorder{name: "p"},
			orchestrator.ErrInvalidOption, `names the projection "q", which is not run: the projections are ["p"]`,
		},
		"a bad value for all": {
			[]orchestrator.Option{orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: -1})},
			recorder{name: "p"},
			orchestrator.ErrInvalidOption, `the error policy of projection "p", by WithErrorPolicy: Attempts must not be negative, got -1`,
		},
		"a bad value for one": {
			[]orchestrator.Option{orchestrator.WithErrorPolicyFor("p", projection.ErrorPolicy{Then: 3})},
			recorder{name: "p"},
			orchestrator.ErrInvalidOption, `by WithErrorPolicyFor: Then must be`,
		},
		"a bad value of its own": {
			nil, own(projection.ErrorPolicy{First: time.Hour}),
			orchestrator.ErrInvalidProjections, `by its method ErrorPolicy: First (1h0m0s) must not be above Max (20ms)`,
		},
		"an unpartitioned projection that parks": {
			[]orchestrator.Option{orchestrator.WithErrorPolicy(projection.ErrorPolicy{Then: projection.Park})},
			unpartitioned{recorder{name: "p"}},
			orchestrator.ErrInvalidOption, `Then must not be Park, since the projection is unpartitioned`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := w.orchestrator("set", tt.options...).Run(ctx, []projection.Projection{tt.p})
			require.ErrorIs(t, err, tt.is)
			assert.ErrorContains(t, err, tt.text)
		})
	}
}

// Of the policies that are set, the one for the projection counts, then its own, then the one for all.
func TestErrorPolicyPrecedence(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 1)
	ten, twenty, thirty := projection.ErrorPolicy{Attempts: 10}, projection.ErrorPolicy{Attempts: 20}, projection.ErrorPolicy{Attempts: 30}
	r := start(t, w.orchestrator("set", orchestrator.WithErrorPolicy(ten), orchestrator.WithErrorPolicyFor("for", thirty), orchestrator.WithErrorPolicyFor("zero", projection.ErrorPolicy{})),
		recorder{name: "all"}, policied{recorder{name: "own"}, twenty}, policied{recorder{name: "for"}, twenty}, policied{recorder{name: "zero"}, twenty})
	for _, p := range []string{"all", "own", "for", "zero"} {
		w.awaitHandled(p, 1)
	}
	require.NoError(t, r.stop())
	logs := w.logs.String()
	for _, line := range []string{
		`projection=all set_by=WithErrorPolicy attempts=10 then=stop`, `projection=own set_by="its method ErrorPolicy" attempts=20 then=stop`,
		`projection=for set_by=WithErrorPolicyFor attempts=30 then=stop`, `projection=zero set_by=WithErrorPolicyFor then="retry for ever"`,
	} {
		assert.Equal(t, 1, strings.Count(logs, line), "%s", line)
	}
}

// The hook is told of each attempt and of the outcome, without the payload. Whatever it does, events are handled.
func TestFailureHook(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 3)
	told := make(chan projection.Failure, 10)
	orch := w.orchestrator("set", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 2, Then: projection.Skip}),
		orchestrator.WithFailureHook(func(_ context.Context, f projection.Failure) {
			told <- f
			panic("the hook is bad too")
		}))
	r := start(t, orch, recorder{name: "p", before: poisoned(errBad, 2)})
	w.awaitHandled("p", 2)
	first, second := await(t, told, "the first attempt"), await(t, told, "the outcome")
	require.NoError(t, r.stop())
	assert.Empty(t, told)
	require.ErrorIs(t, first.Err, errBad)
	assert.Equal(t, "set p 1 ada Something 2 true", fmt.Sprint(first.ReplicaSet, " ", first.Projection, " ", first.Attempt, " ", first.Event.AggregateID, " ", first.Event.EventType, " ",
		first.Event.GlobalPosition, " ", first.Retry))
	assert.Equal(t, []any{2, false, projection.Skip, projection.ClassError}, []any{second.Attempt, second.Retry, second.Outcome, second.Class})
	w.logs.AwaitLine(t, "the failure hook panicked")
}

func TestFailureHookThatBlocks(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 200)
	bad := make([]int64, 150)
	for i := range bad {
		bad[i] = int64(i + 1)
	}
	release := make(chan struct{})
	defer close(release)
	orch := w.orchestrator("set", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: projection.Skip}),
		orchestrator.WithShutdownTimeout(2*time.Second), orchestrator.WithFailureHook(func(context.Context, projection.Failure) { <-release }))
	r := start(t, orch, recorder{name: "p", before: poisoned(errBad, bad...)})
	w.awaitHandled("p", 50)
	awaitMetric(t, orch, "21", `failure_hook_dropped_total{replica_set="set"}`)
	require.NoError(t, r.stop(), "the worker does not wait for it")
}

// careless is an error whose methods do not expect a nil pointer.
type careless struct{ cause error }

func (c *careless) Error() string { return c.cause.Error() }
func (c *careless) Unwrap() error { return c.cause }

// A nil pointer that a handler returns as an error is the failure of its event. It crashes no processor.
func TestAnErrorWhoseMethodsPanicParksItsAggregate(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 1)
	w.append("grace", 1)
	r := start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: func(_ context.Context, event es.PersistedEvent) error {
		if event.AggregateID == "ada" {
			var none *careless
			return none
		}
		return nil
	}})
	w.awaitHandled("p", 1)
	assert.Equal(t, "ada 1", w.value("SELECT aggregate_id, letters FROM orchestrator_parked_aggregates"))
	assert.Contains(t, w.value("SELECT last_error FROM orchestrator_dead_letters"), "a method of its error, of type *face.careless, panicked")
	require.NoError(t, r.stop())
}

// So does an error that wraps a nil pointer of the driver's, as after an errors.As that found none.
func TestAnErrorThatWrapsNothingParksItsAggregate(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 1)
	w.append("grace", 1)
	r := start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: poisoned(fmt.Errorf("saving: %w", (*pgconn.PgError)(nil)), 1)})
	w.awaitHandled("p", 1)
	assert.Equal(t, "ada 1", w.value("SELECT aggregate_id, letters FROM orchestrator_parked_aggregates"))
	require.NoError(t, r.stop())
}
