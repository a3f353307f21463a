package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// quickDeadlocks has the server look for deadlocks soon.
func (f *fixture) quickDeadlocks() {
	f.t.Helper()
	f.exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''20ms''', current_database()); END $$`)
	f.pool.Reset()
}

// whatHandlersMakeOfErrors is how handlers return an error of the database.
var whatHandlersMakeOfErrors = map[string]func(error) error{
	"returned":  func(err error) error { return err },
	"hidden":    func(err error) error { return errors.New("it did not work: " + err.Error()) },
	"swallowed": func(error) error { return nil },
}

// TestPartitionsInEachOthersWayTakeTurns: no event is blamed for a deadlock, and after the first the partitions take turns.
func TestPartitionsInEachOthersWayTakeTurns(t *testing.T) {
	t.Parallel()
	for name, makes := range whatHandlersMakeOfErrors {
		for _, whole := range []bool{false, true} {
			t.Run(map[bool]string{false: "Handle ", true: "HandleBatch "}[whole]+name, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				f.quickDeadlocks()
				f.exec(`CREATE TABLE counters (id int PRIMARY KEY, n int NOT NULL DEFAULT 0)`)
				f.exec(`INSERT INTO counters SELECT generate_series(0, 19)`)
				want := f.append("Order", 2000)
				before := func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent, _ int) error {
					_, err := tx.Exec(ctx, `UPDATE counters SET n = n + 1 WHERE id = abs(hashint8($1)) % 20`, e.GlobalPosition)
					if err != nil {
						return makes(err)
					}
					return nil
				}
				var workers []*testWorker
				for range 2 {
					workers = append(workers, f.start(func(c *Config) { c.Membership.Partitions = 2 }, map[bool]projection.Projection{
						false: &recorder{name: "p", before: before}, true: &batchRecorder{recorder: recorder{name: "p", before: before}},
					}[whole]))
				}
				eventually(t, func() bool { return len(f.handled("p")) >= len(want) }, "not all events are handled")
				handled := f.handled("p")
				slices.Sort(handled)
				assert.Equal(t, want, handled)
				assert.Equal(t, len(want), query[int](f, `SELECT sum(n) FROM counters`))
				assert.Zero(t, query[int](f, `SELECT count(*) FROM orchestrator_dead_letters`), "innocent events are recorded")
				conflicts := 0.0
				for _, r := range workers {
					assert.Zero(t, r.count("handler_errors_total"))
					conflicts += r.count("conflicts_total", "projection", "p")
				}
				if conflicts > 0 {
					assert.Equal(t, int64(conflicts), query[int64](f, `SELECT conflicts FROM orchestrator_turns WHERE projection = 'p'`))
				}
			})
		}
	}
}

// TestAConflictIsNoFailureOfItsEvent: also when nobody takes turns with what is in the way.
func TestAConflictIsNoFailureOfItsEvent(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"40P01", "40001", "55P03"} {
		for _, at := range []string{"in a statement", "at COMMIT"} {
			if code == "40P01" && at == "at COMMIT" {
				continue // as 40001
			}
			t.Run(code+" "+at, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				f.exec(`CREATE TABLE refusals (code text)`)
				f.exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
					BEGIN RAISE EXCEPTION 'in the way' USING ERRCODE = new.code; END $$`)
				f.exec(map[string]string{
					"in a statement": `CREATE TRIGGER refuse BEFORE INSERT ON refusals FOR EACH ROW EXECUTE FUNCTION refuse()`,
					"at COMMIT": `CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON refusals DEFERRABLE INITIALLY DEFERRED
						FOR EACH ROW EXECUTE FUNCTION refuse()`,
				}[at])
				want := f.append("Order", 10)
				var free atomic.Bool
				p := &recorder{name: "p", before: func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent, _ int) error {
					if e.GlobalPosition == want[4] && !free.Load() {
						_, err := tx.Exec(ctx, `INSERT INTO refusals VALUES ($1)`, code)
						return err
					}
					return nil
				}}
				r := f.start(nil, p)
				eventually(t, func() bool { return r.count("conflicts_total", "projection", "p") >= 4 }, "the conflicts are not counted")
				r.log.Await(t, "batches are in conflict")
				free.Store(true)
				f.awaitHandled("p", want)
				assert.Zero(t, r.count("handler_errors_total"))
				assert.Zero(t, query[int](f, `SELECT count(*) FROM orchestrator_dead_letters`))
				assert.Positive(t, query[int](f, `SELECT conflicts FROM orchestrator_turns WHERE projection = 'p'`))
			})
		}
	}
}

// TestAConflictThatAHandlerDealtWithHidesNoFailure: what its handler says afterwards is the event's failure.
func TestAConflictThatAHandlerDealtWithHidesNoFailure(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 10)
	p := &recorder{name: "p", before: func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent, _ int) error {
		if e.GlobalPosition != want[4] {
			return nil
		}
		if pgx.BeginFunc(ctx, tx, func(own pgx.Tx) error {
			_, err := own.Exec(ctx, `DO $$ BEGIN RAISE EXCEPTION 'in the way' USING ERRCODE = '55P03'; END $$`)
			return err
		}) == nil {
			return nil
		}
		return errors.New("the event is bad")
	}}
	r := f.start(nil, p)
	eventually(t, func() bool {
		return query[int](f, `SELECT count(*) FROM orchestrator_dead_letters WHERE global_position = $1 AND last_error = 'the event is bad'`, want[4]) == 1
	}, "the event's failure is not recorded")
	assert.Zero(t, r.count("conflicts_total", "projection", "p"))
}

// turnsHeldByFirst has the partitions of p take turns. It returns what its handlers do: the first event that is handled waits for leave. entered waits until
// it does.
func (f *fixture) turnsHeldByFirst() (handles func(context.Context, pgx.Tx, es.PersistedEvent, int) error, entered, leave func()) {
	f.t.Helper()
	_, err := f.store.NoteConflicts(f.t.Context(), f.pool, "p", 1)
	require.NoError(f.t, err)
	in, out := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	handles = func(context.Context, pgx.Tx, es.PersistedEvent, int) error {
		if first.CompareAndSwap(false, true) {
			close(in)
			<-out
		}
		return nil
	}
	entered = func() {
		select {
		case <-in:
		case <-time.After(time.Minute):
			require.Fail(f.t, "p has handled nothing")
		}
	}
	return handles, entered, func() { close(out) }
}

// TestWhoWaitsForTheTurnHoldsNothingUp: neither its connection nor a generation change.
func TestWhoWaitsForTheTurnHoldsNothingUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.append("Order", 200)
	holds, entered, leave := f.turnsHeldByFirst()
	f.start(func(c *Config) { c.Membership.Partitions = 3 }, &recorder{name: "p", before: holds}, &recorder{name: "q"})
	entered()
	f.awaitCount("q", 200)
	eventually(t, func() bool {
		return query[int](f, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`) <= 1
	}, "several batches of a worker wait for the turn")
	leave()
	f.awaitCount("p", 200)
}

// TestBatchesThatWaitForOneRowTakeTurns: where all events change one row, no batch ends in a conflict.
func TestBatchesThatWaitForOneRowTakeTurns(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(`CREATE TABLE counters (n int NOT NULL)`)
	f.exec(`INSERT INTO counters VALUES (0)`)
	want := f.append("Order", 1000)
	before := func(ctx context.Context, tx pgx.Tx, _ es.PersistedEvent, _ int) error {
		_, err := tx.Exec(ctx, `WITH slow AS MATERIALIZED (SELECT pg_sleep(0.003)) UPDATE counters SET n = n + 1 FROM slow`)
		return err
	}
	var workers []*testWorker
	for range 3 {
		workers = append(workers, f.start(func(c *Config) { c.Batch.Size = 10 }, &recorder{name: "p", before: before}))
	}
	eventually(t, func() bool {
		return query[int](f, `SELECT count(*) FROM orchestrator_turns WHERE projection = 'p'`) == 1
	}, "the partitions do not take turns")
	f.awaitCount("p", len(want))
	assert.Equal(t, len(want), query[int](f, `SELECT n FROM counters`))
	noted, failed := 0.0, 0.0
	for _, r := range workers {
		noted += r.count("conflicts_total", "projection", "p")
		failed += r.count("handler_errors_total")
	}
	assert.Equal(t, int64(noted), query[int64](f, `SELECT conflicts FROM orchestrator_turns WHERE projection = 'p'`))
	assert.Zero(t, failed)
}

// TestWhoIsSlowByItselfTakesNoTurns: a first event that takes long waits for no other batch.
func TestWhoIsSlowByItselfTakesNoTurns(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.append("Order", 100)
	var handled atomic.Int64
	slow := func(ctx context.Context, tx pgx.Tx, _ es.PersistedEvent, _ int) error {
		_, err := tx.Exec(ctx, `SELECT pg_sleep(0.06)`) // longer than a batch may take, so each has one event
		handled.Add(1)
		return err
	}
	f.start(func(c *Config) { c.Membership.Partitions, c.Batch.Time = 2, 50*time.Millisecond }, &recorder{name: "p", before: slow})
	f.awaitCount("p", 100)
	assert.EqualValues(t, 100, handled.Load())
	assert.Zero(t, query[int](f, `SELECT count(*) FROM orchestrator_turns`))
}

// newTurnHeld has two workers share 200 events of p. A handler of one of them has the turn, and waits for leave.
func newTurnHeld(t *testing.T) (f *fixture, leave func()) {
	t.Helper()
	f = newFixture(t)
	holds, entered, leave := f.turnsHeldByFirst()
	for range 2 {
		f.start(nil, &recorder{name: "p", before: holds})
	}
	eventually(t, func() bool { return f.active(2) > 0 }, "the workers do not share the projection")
	f.exec(`UPDATE orchestrator_turns SET until = now() + interval '10 minutes'`)
	f.append("Order", 200)
	entered()
	return f, leave
}

// awaitTurnAskedFor waits until a batch asks for the turn, and none waits for it in the database.
func (f *fixture) awaitTurnAskedFor() {
	f.t.Helper()
	eventually(f.t, func() bool {
		return query[bool](f, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%THEN NOT pg_catalog.pg_try' || '_advisory_xact_lock_shared%')
			AND NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
	}, "the other worker does not ask for the turn")
}

// TestTurnsEndThoughTheirHolderDoesNot: a batch that waits for something else with the turn holds up the others no longer than turns last.
func TestTurnsEndThoughTheirHolderDoesNot(t *testing.T) {
	t.Parallel()
	f, leave := newTurnHeld(t)
	f.exec(`UPDATE orchestrator_turns SET until = now() + interval '2s'`)
	eventually(t, func() bool { return len(f.handled("p")) > 50 }, "the other worker waits though nobody takes turns any more")
	leave()
	f.awaitCount("p", 200)
}

// TestWhoWaitsForAnothersTurnWaitsOutsideTheDatabase: a statement that waits would keep the server from removing old versions of rows.
func TestWhoWaitsForAnothersTurnWaitsOutsideTheDatabase(t *testing.T) {
	t.Parallel()
	f, leave := newTurnHeld(t)
	f.awaitTurnAskedFor()
	leave()
	f.awaitCount("p", 200)
}

// awaitCount waits until a projection has handled so many events.
func (f *fixture) awaitCount(name string, n int) {
	f.t.Helper()
	eventually(f.t, func() bool { return len(f.handled(name)) >= n }, "projection %s has not handled all events", name)
	assert.Len(f.t, f.handled(name), n)
}

func TestTurnsLastLongerAfterAnotherConflict(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	note := func() string {
		took, err := f.store.NoteConflicts(t.Context(), f.pool, "p", 1)
		require.NoError(t, err)
		return fmt.Sprint(took)
	}
	ended := func(ago string) { f.exec(`UPDATE orchestrator_turns SET until = now() - $1::interval`, ago) }
	assert.Equal(t, "10s", note())
	assert.Equal(t, "0s", note(), "they take turns already")
	for _, want := range []string{"20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"} {
		ended("1s")
		assert.Equal(t, want, note(), "soon after they stopped")
	}
	ended("2 hours")
	assert.Equal(t, "10s", note(), "long after")
	ended("-2 days")
	assert.Equal(t, "20s", note(), "the clock was set back")
	assert.Equal(t, 10, query[int](f, `SELECT conflicts FROM orchestrator_turns`))
}

// batchOf is what a worker learns of a batch: whether it was found to wait for another one (if checked), what its first event and all of it took, and how many
// events it had.
type batchOf struct {
	checked, waits  bool
	first, took     time.Duration
	handled, offers int
}

// learned is a processor that has learned of batches one after the other.
func learned(batches ...batchOf) *processor {
	p := &processor{handler: &recorder{name: "p"}, fence: pgcoord.Fence{Partition: slot.Partition{Key: 0, Total: 2}}}
	for _, b := range batches {
		var watch *waitWatch
		if b.checked {
			timer := time.NewTimer(time.Hour)
			timer.Stop() // it has fired
			watch = &waitWatch{timer: timer, done: make(chan struct{}), waits: b.waits}
			close(watch.done)
		}
		p.learnWait(watch, &call{first: b.first, handled: b.handled}, b.offers, b.took)
	}
	return p
}

// TestOneChanceWaitMeansNothing: only batches that wait again and again take turns.
func TestOneChanceWaitMeansNothing(t *testing.T) {
	t.Parallel()
	slow := batchOf{first: 80 * time.Millisecond, took: 100 * time.Millisecond, handled: 11, offers: 20}
	waits, waitsNot := batchOf{checked: true, waits: true}, batchOf{checked: true}
	assert.Less(t, learned(slow, slow).turns.slow, slowBatches)
	assert.Equal(t, slowBatches, learned(slow, slow, slow).turns.slow, "the next batch is checked")
	for name, even := range map[string]batchOf{
		"all events take long":           {first: 15 * time.Millisecond, took: 30 * time.Millisecond, handled: 2, offers: 20},
		"the first is a part of it":      {first: 30 * time.Millisecond, took: 100 * time.Millisecond, handled: 11, offers: 20},
		"the first is short":             {first: 5 * time.Millisecond, took: 6 * time.Millisecond, handled: 11, offers: 20},
		"there was no other event to do": {first: 80 * time.Millisecond, took: 80 * time.Millisecond, handled: 1, offers: 1},
	} {
		assert.Zero(t, learned(slow, slow, even).turns.slow, name)
	}
	assert.Positive(t, learned(batchOf{first: 80 * time.Millisecond, took: 80 * time.Millisecond, handled: 1, offers: 20}).turns.slow, "it was cut after its first event")
	assert.Less(t, learned(slow, slow, slow, waits, waits).turns.blocked, blockedBatches)
	assert.Equal(t, blockedBatches, learned(slow, slow, slow, waits, waits, waits).turns.blocked)
	p := learned(slow, slow, slow, waits, waits, waitsNot)
	assert.Zero(t, p.turns.blocked, "one batch that waits for nobody")
	assert.Equal(t, -slowSkipped, p.turns.slow, "it is not checked again soon")
}

// TestWhoAsksForTheTurnQueuesInTheEnd: others may always be waiting for the turn in the database, and come before whoever only asks.
func TestWhoAsksForTheTurnQueuesInTheEnd(t *testing.T) {
	t.Parallel()
	f, leave := newTurnHeld(t)
	f.awaitTurnAskedFor()
	eventually(t, func() bool {
		return query[bool](f, `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
	}, "the other worker does not wait for the turn in the database")
	leave()
	f.awaitCount("p", 200)
}
