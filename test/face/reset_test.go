package face

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// rebuildable is a recorder that can empty its part of the table handled.
type rebuildable struct {
	recorder
	resets *atomic.Int64
	after  func(context.Context, pgx.Tx) error // after the table is emptied; nil does nothing
}

func (r rebuildable) Reset(ctx context.Context, tx pgx.Tx) error {
	if r.resets != nil {
		r.resets.Add(1)
	}
	if err := emptyHandled(r.name)(ctx, tx); err != nil || r.after == nil {
		return err
	}
	return r.after(ctx, tx)
}

// emptyHandled empties a recorder's read model.
func emptyHandled(name string) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM handled WHERE projection = $1", name)
		return err
	}
}

// around is a wrapper as it is documented.
type around struct{ projection.Projection }

func (a around) Unwrap() projection.Projection { return a.Projection }

// inconsistent counts events that are in the read model of p and beyond its checkpoints, or the other way round.
const inconsistent = `SELECT count(*) FROM events AS e
	JOIN orchestrator_checkpoints AS c ON c.projection = 'p' AND (hashtextextended(e.aggregate_id, 0) & 65535) >= c.slot_from AND (hashtextextended(e.aggregate_id, 0) & 65535) < c.slot_to
	LEFT JOIN handled AS h ON h.projection = 'p' AND h.position = e.global_position
	WHERE (h.position IS NULL) = (e.global_position <= c.position)`

// A reset empties the read model once, and all workers rebuild it: each event is handled again, once and in order, while others are appended and other projections go on.
func TestResetRebuildsWhileOthersRun(t *testing.T) {
	w := newWorld(t)
	ids := make([]string, 20)
	for i := range ids {
		ids[i] = fmt.Sprint("user ", i)
	}
	var resets atomic.Int64
	p := around{rebuildable{recorder: recorder{name: "p"}, resets: &resets}}
	workers := []*running{
		start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(2)), p, recorder{name: "q"}),
		start(t, w.orchestrator("set"), p, recorder{name: "q"}),
	}
	w.awaitRunning("set", 2)
	w.appendInTurn(3, ids...)
	w.awaitHandled("p", 60)
	before := w.value("SELECT max(nth) FROM handled WHERE projection = 'p'")
	require.NoError(t, w.admin("set").Reset(w.patiently(), "p", admin.Start(), "a column more"))
	assert.Equal(t, "0", w.value("SELECT count(*) FROM handled WHERE projection = 'p' AND nth <= $1::text::bigint", before))
	w.appendInTurn(1, ids...)
	w.awaitHandled("p", 80)
	w.awaitHandled("q", 80)
	w.requireOrder("p")
	assert.Equal(t, "0", w.value(inconsistent))
	assert.EqualValues(t, 1, resets.Load())
	assert.Equal(t, `reset p anna a column more done 0 worker`,
		w.value("SELECT kind, projection, actor, reason, state, result ->> 'position', arguments ->> 'emptied_by' FROM orchestrator_operations"))
	for _, r := range workers {
		require.NoError(t, r.stop())
	}
}

// Wherever the server process of a reset ends, all of the reset has happened or nothing: the read model is what the checkpoints say, at every moment.
func TestAResetIsAllOrNothing(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.troubled = true
	w.exec(`CREATE TABLE killing (at text)`)
	w.exec(`INSERT INTO killing VALUES ('')`)
	w.exec(`CREATE SEQUENCE kills`) // not undone by a rollback
	w.exec(`CREATE FUNCTION kill() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF (current_setting('test.reset', true) = 'yes' OR current_setting('application_name') = 'the admin')
				AND (SELECT at FROM killing) = TG_TABLE_NAME || ' ' || TG_OP AND nextval('kills') = 1 THEN
				PERFORM pg_terminate_backend(pg_backend_pid());
				PERFORM pg_sleep(1);
			END IF;
			RETURN NULL;
		END $$`)
	points := []string{"handled DELETE", "the end of Reset", "the commit"}
	for table, kinds := range map[string][]string{
		"operations": {"UPDATE"}, "checkpoints": {"UPDATE"}, "dead_letters": {"DELETE"}, "parked_aggregates": {"UPDATE", "DELETE"}, "requests": {"UPDATE"},
	} {
		for _, kind := range kinds {
			w.exec(fmt.Sprintf("CREATE TRIGGER kill_%s BEFORE %s ON orchestrator_%s EXECUTE FUNCTION kill()", kind, kind, table))
			points = append(points, "orchestrator_"+table+" "+kind)
		}
	}
	w.exec("CREATE TRIGGER kill_delete BEFORE DELETE ON handled EXECUTE FUNCTION kill()")
	w.exec(`CREATE FUNCTION kill_late() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF (SELECT at FROM killing) = 'the commit' AND nextval('kills') = 1 THEN
				PERFORM pg_terminate_backend(pg_backend_pid());
				PERFORM pg_sleep(1);
			END IF;
			RETURN NULL;
		END $$`)
	w.exec("CREATE CONSTRAINT TRIGGER late AFTER DELETE ON handled DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION kill_late()")
	w.alwaysFire("kill")
	w.alwaysFire("kill_late")
	const sqlEnd = "SELECT CASE WHEN (SELECT at FROM killing) = 'the end of Reset' AND nextval('kills') = 1 THEN pg_terminate_backend(pg_backend_pid()) END"
	end := func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sqlEnd)
		return err
	}
	p := rebuildable{recorder: recorder{name: "p"}, after: end}
	marked := markedReset{p}
	r := start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(3)), marked)
	w.appendInTurn(4, "ada", "grace", "alan", "kurt")
	w.awaitHandled("p", 16)

	done := make(chan struct{})
	var looks sync.WaitGroup
	looks.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if got := w.value(inconsistent); got != "0" {
				assert.Equal(t, "0", got, "the read model and the checkpoints differ")
				return
			}
		}
	})
	config := w.db.Config()
	config.ConnConfig.RuntimeParams["application_name"] = "the admin"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	other, err := admin.New(pool, w.store, "set")
	require.NoError(t, err)
	for _, at := range points {
		for name, reset := range map[string]func() error{
			"by a worker": func() error { return w.admin("set").Reset(w.patiently(), "p", admin.Start(), at) },
			"by the caller": func() error { // who does it again after an error, as people do
				err := other.ResetWith(w.patiently(), "p", admin.Start(), at, p.Reset)
				if err != nil {
					err = other.ResetWith(w.patiently(), "p", admin.Start(), at, p.Reset)
				}
				return err
			},
		} {
			w.exec("ALTER SEQUENCE kills RESTART")
			w.exec("UPDATE killing SET at = $1", at)
			require.NoError(t, reset(), "%s, %s", name, at)
			assert.NotEqual(t, "1 false", w.value("SELECT last_value, is_called FROM kills"), "%s, %s: nobody was killed", name, at)
			w.exec("UPDATE killing SET at = ''")
			w.awaitHandled("p", 16)
			w.requireOrder("p")
		}
	}
	close(done)
	looks.Wait()
	require.NoError(t, r.stop())
}

// markedReset marks the transaction of its Reset.
type markedReset struct{ rebuildable }

func (m markedReset) Reset(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "SELECT set_config('test.reset', 'yes', true)"); err != nil {
		return err
	}
	return m.rebuildable.Reset(ctx, tx)
}

// What is put aside after the point is handled again; what is before it stays. A stop ends, a pause stays, and nothing is advanced.
func TestWhatAResetDoesWithLettersStopsAndPauses(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.appendInTurn(3, "ada", "grace", "alan") // ada 1, 4, 7; grace 2, 5, 8; alan 3, 6, 9
	p := recorder{name: "p", before: poisoned(errBad, 1, 5)}
	r := start(t, w.orchestrator("set", parkAtOnce), p)
	w.await(w.lastPosition(), "SELECT position FROM orchestrator_checkpoints")
	w.await("ada 3, grace 2", "SELECT aggregate_id, letters FROM orchestrator_parked_aggregates ORDER BY 1")
	require.NoError(t, r.stop())
	a := w.admin("set")
	_, err := w.asks(a, admin.Filter{})
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, a.Pause(t.Context(), admin.Target{Projection: "p"}, "", time.Time{}))
	w.exec("UPDATE orchestrator_checkpoints SET stopped_at = 10")

	require.NoError(t, a.ResetWith(t.Context(), "p", admin.Position(4), "", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM handled WHERE position > 4")
		return err
	}))
	assert.Equal(t, "ada 2 1", w.value("SELECT aggregate_id, letters, global_position FROM orchestrator_parked_aggregates"), "4 is a letter still, and 7 is handled again")
	assert.Equal(t, "1 parked, 4 parked", w.value("SELECT global_position, state FROM orchestrator_dead_letters ORDER BY 1"))
	assert.Equal(t, "4 4 true", w.value("SELECT position, hold_at, stopped_at IS NULL FROM orchestrator_checkpoints"))
	assert.Equal(t, "ada waiting , grace cancelled the projection was reset", w.value("SELECT aggregate_id, state, error FROM orchestrator_requests ORDER BY 1"))
	assert.Equal(t, "retry waiting, pause done, reset done", w.value("SELECT kind, state FROM orchestrator_operations ORDER BY id"))

	r = start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p"}, recorder{name: "q"})
	w.awaitHandled("q", 9)
	assert.Equal(t, "2", w.value("SELECT count(*) FROM handled WHERE projection = 'p'"), "it is paused")
	require.NoError(t, a.Resume(t.Context(), admin.Target{Projection: "p"}, ""))
	w.awaitHandled("p", 9)
	w.requireOrder("p")
	require.NoError(t, r.stop())
	assert.Equal(t, "retry done 1", w.value("SELECT kind, state, result ->> 'succeeded' FROM orchestrator_operations WHERE id = 1"))

	w.exec("UPDATE orchestrator_checkpoints SET hold_at = 20 WHERE projection = 'p'")
	require.NoError(t, a.ResetCheckpoints(t.Context(), "p", admin.Position(9), ""), "which changes no position")
	require.NoError(t, a.ResetCheckpoints(t.Context(), "p", admin.Start(), ""))
	assert.Equal(t, "0 20", w.value("SELECT position, hold_at FROM orchestrator_checkpoints WHERE projection = 'p'"), "a hold ahead stays where it is")
}

// A paused projection is reset by a worker at once, and stays paused.
func TestAWorkerResetsWhatIsPaused(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 3)
	r := start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(2)), rebuildable{recorder: recorder{name: "p"}})
	w.awaitHandled("p", 3)
	a := w.admin("set")
	require.NoError(t, a.Pause(t.Context(), admin.Target{Projection: "p"}, "", time.Time{}))
	require.NoError(t, a.Reset(w.patiently(), "p", admin.Start(), ""))
	assert.Equal(t, "0 0 0, 0 0 0", w.value("SELECT position, hold_at, (SELECT count(*) FROM handled) FROM orchestrator_checkpoints"))
	require.NoError(t, a.Resume(t.Context(), admin.Target{Projection: "p"}, ""))
	w.awaitHandled("p", 3)
	require.NoError(t, r.stop())
}

// A paused projection is reset although more retries than are read at once wait before the reset. A pause keeps them waiting.
func TestAWorkerResetsWhatIsPausedBeforeItsRetries(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 1)
	r := start(t, w.orchestrator("set"), rebuildable{recorder: recorder{name: "p"}})
	w.awaitHandled("p", 1)
	a := w.admin("set")
	require.NoError(t, a.Pause(t.Context(), admin.Target{Projection: "p"}, "", time.Time{}))
	w.exec(`WITH o AS (INSERT INTO orchestrator_operations (replica_set, projection, kind, actor, reason, state) VALUES ('set', 'p', 'retry', '', '', 'waiting') RETURNING id)
		INSERT INTO orchestrator_requests (operation, projection, bounded_context, aggregate_type, aggregate_id, kind)
		SELECT id, 'p', 'c', 't', 'aggregate ' || i, 'retry' FROM o, generate_series(1, 150) AS i`)
	require.NoError(t, a.Reset(w.patiently(), "p", admin.Start(), ""))
	assert.Equal(t, "0 0", w.value("SELECT position, (SELECT count(*) FROM handled) FROM orchestrator_checkpoints"))
	require.NoError(t, r.stop())
}

// Points are positions, or what events' times lead to. None may skip events.
func TestThePointsOfAReset(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 5)
	w.exec("UPDATE events SET created_at = '2024-01-01'::timestamptz + (global_position % 4) * interval '1 day'") // 1 to 5: 2nd, 3rd, 4th, 1st, 2nd of January
	r := start(t, w.orchestrator("set"), recorder{name: "p"})
	w.awaitHandled("p", 5)
	require.NoError(t, r.stop())
	a := w.admin("set")
	for point, want := range map[admin.Point]string{
		admin.Start(): "0", admin.Position(0): "0", admin.Position(3): "3", admin.Position(5): "5", {}: "0",
		admin.Time(time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC)):  "0",
		admin.Time(time.Date(2024, 1, 3, 0, 0, 0, 0, time.UTC)):  "1",
		admin.Time(time.Date(2024, 1, 3, 12, 0, 0, 0, time.UTC)): "2",
		admin.Time(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)):  "0",
	} {
		w.exec("UPDATE orchestrator_checkpoints SET position = 5")
		require.NoError(t, a.ResetCheckpoints(t.Context(), "p", point, ""), point)
		assert.Equal(t, want, w.value("SELECT position FROM orchestrator_checkpoints"), point)
	}
	before := w.value("SELECT count(*) FROM orchestrator_operations")
	w.exec("UPDATE orchestrator_checkpoints SET position = 4")
	for want, point := range map[string]admin.Point{
		"must not be a negative position, got -1":                          admin.Position(-1),
		"must not be the zero time":                                        admin.Time(time.Time{}),
		"position 5 is above 4, where the projection, or a part of it, is": admin.Position(5),
		"no event was created at 2024-01-05T00:00:00Z or later":            admin.Time(time.Date(2024, 1, 5, 0, 0, 0, 0, time.UTC)),
	} {
		require.ErrorContains(t, a.ResetCheckpoints(t.Context(), "p", point, ""), want)
	}
	w.exec("UPDATE orchestrator_checkpoints SET position = 100")
	require.ErrorContains(t, a.ResetCheckpoints(t.Context(), "p", admin.Position(50), ""), "position 50 is above 5, the last that the events table has given out")
	assert.Equal(t, "100 "+before, w.value("SELECT position, (SELECT count(*) FROM orchestrator_operations) FROM orchestrator_checkpoints"), "nothing has changed")
}

// A reset that cannot be done says why, and changes nothing.
func TestAResetThatIsRefused(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 3)
	a := w.admin("set")
	nothing := func(context.Context, pgx.Tx) error { return nil }
	require.ErrorContains(t, a.Reset(t.Context(), "p", admin.Start(), ""), `resetting projection "p" of replica set "set" to the beginning: no worker runs it:`)
	require.ErrorContains(t, a.ResetWith(t.Context(), "p", admin.Start(), "", nothing), "it has no checkpoints")
	r := start(t, w.orchestrator("set", orchestrator.WithWorkerName("old")), recorder{name: "p"})
	w.awaitHandled("p", 3)
	require.ErrorContains(t, a.Reset(t.Context(), "p", admin.Start(), ""), "no worker runs it with a method Reset")
	other := start(t, w.orchestrator("set", orchestrator.WithWorkerName("new")), rebuildable{recorder: recorder{name: "p"}})
	w.awaitRunning("set", 2)
	require.ErrorContains(t, a.Reset(t.Context(), "p", admin.Start(), ""), "the workers old run it without a method Reset (projection.Resettable): wait until they run the same version as new")
	require.NoError(t, r.stop())
	require.NoError(t, other.stop())

	require.ErrorContains(t, a.ResetWith(t.Context(), "p", admin.Start(), "", nil), "the function must not be nil")
	require.ErrorContains(t, a.ResetWith(t.Context(), "", admin.Start(), "", nothing), "the projection's name must not be empty")
	require.ErrorContains(t, a.Reset(t.Context(), "p", admin.Start(), "\x00"), "the reason must not contain NUL")
	for want, empty := range map[string]func(context.Context, pgx.Tx) error{
		"emptying the read model: bad":   func(context.Context, pgx.Tx) error { return errors.New("bad") },
		"panicked: oh":                   func(context.Context, pgx.Tx) error { panic("oh") },
		"the library ends it itself":     func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) },
		"has ended the transaction":      func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, "ROLLBACK AND CHAIN"); return err },
		"current transaction is aborted": func(ctx context.Context, tx pgx.Tx) error { _, _ = tx.Exec(ctx, "SELECT 1/0"); return nil },
	} {
		require.ErrorContains(t, a.ResetWith(t.Context(), "p", admin.Start(), "", func(ctx context.Context, tx pgx.Tx) error {
			require.NoError(t, emptyHandled("p")(ctx, tx))
			return empty(ctx, tx)
		}), want)
	}
	assert.Equal(t, "3 3 0", w.value("SELECT DISTINCT position, (SELECT count(*) FROM handled), (SELECT count(*) FROM orchestrator_operations) FROM orchestrator_checkpoints"))
}

// A Reset that fails changes nothing, and the caller is told. The projection goes on.
func TestAReadModelThatCannotBeEmptied(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 3)
	for name, fails := range map[string]func(context.Context, pgx.Tx) error{
		"an error": func(context.Context, pgx.Tx) error { return errBad },
		"a panic":  func(context.Context, pgx.Tx) error { panic(errBad.Error()) },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, w.orchestrator("set"), rebuildable{recorder: recorder{name: "p"}, after: fails})
			w.awaitHandled("p", 3)
			w.awaitRunning("set", 1)
			err := w.admin("set").Reset(w.patiently(), "p", admin.Start(), "")
			require.ErrorContains(t, err, "the worker could not empty the read model: ")
			require.ErrorContains(t, err, errBad.Error())
			assert.Equal(t, "3 3", w.value("SELECT position, (SELECT count(*) FROM handled) FROM orchestrator_checkpoints"))
			require.NoError(t, r.stop())
		})
	}
	r := start(t, w.orchestrator("set"), rebuildable{recorder: recorder{name: "p"}})
	w.append("ada", 1)
	w.awaitHandled("p", 4)
	require.NoError(t, r.stop())
	_, err := w.admin("set").Rebuild(t.Context(), "p")
	require.ErrorIs(t, err, admin.ErrNotReset)
}

// A reset waits for the workers, and can be cancelled. While a handler runs, it waits for that.
func TestAResetThatWaits(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 1)
	entered, release := make(chan struct{}), make(chan struct{})
	first := true
	p := rebuildable{recorder: recorder{name: "p"}}
	r := start(t, w.orchestrator("set", orchestrator.WithWorkerName("w7")), p)
	w.awaitHandled("p", 1)
	require.NoError(t, r.stop())
	w.append("ada", 1)
	p.before = func(context.Context, es.PersistedEvent) error {
		if first {
			first = false
			close(entered)
			<-release
		}
		return nil
	}
	r = start(t, w.orchestrator("set", orchestrator.WithWorkerName("w7")), p)
	await(t, entered, "the handler to be called")
	err := w.givesUp("true", waitsForLock, func(ctx context.Context) error { return w.admin("set").ResetCheckpoints(ctx, "p", admin.Start(), "") })
	require.ErrorContains(t, err, `waiting for the handlers of projection "p" in partition 0/1 on worker "w7"`)
	close(release)
	w.awaitHandled("p", 2)
	require.NoError(t, r.stop())

	w.exec("UPDATE orchestrator_workers SET state = 'running' WHERE started_at = (SELECT max(started_at) FROM orchestrator_workers)") // as if it had been killed
	err = w.givesUp("1", "SELECT count(*) FROM orchestrator_operations WHERE state = 'waiting'", func(ctx context.Context) error {
		return w.admin("set").Reset(ctx, "p", admin.Start(), "")
	})
	require.ErrorContains(t, err, "1 of 1 resets still wait for a worker that runs p")
	id := w.value("SELECT max(id) FROM orchestrator_operations WHERE state = 'waiting'")
	assert.Equal(t, "2", w.value("SELECT position FROM orchestrator_checkpoints"))
	r = start(t, w.orchestrator("set"), p)
	w.await("done", "SELECT state FROM orchestrator_operations WHERE id = $1::text::bigint", id)
	w.awaitHandled("p", 2)
	require.NoError(t, r.stop())
	assert.Equal(t, "succeeded", w.value("SELECT state FROM orchestrator_requests"))
}

// Rebuild says how far a projection is since its last reset.
func TestTheProgressOfARebuild(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.appendInTurn(10, "ada", "grace")
	a := w.admin("set")
	r := start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(2)), recorder{name: "p"})
	w.await("20 20", "SELECT min(position), max(position) FROM orchestrator_checkpoints")
	_, err := a.Rebuild(t.Context(), "p")
	require.ErrorIs(t, err, admin.ErrNotReset)
	require.NoError(t, r.stop())
	require.NoError(t, a.ResetWith(t.Context(), "p", admin.Position(4), "", emptyHandled("p")))
	got, err := a.Rebuild(t.Context(), "p")
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now(), got.Began, time.Minute)
	got.Began = time.Time{}
	assert.Equal(t, admin.Rebuild{Operation: 1, From: 4, Until: 20, Position: 4}, got)
	w.exec("UPDATE orchestrator_checkpoints SET position = CASE WHEN slot_from = 0 THEN 12 ELSE 8 END") // 6 of 16 on average
	w.exec("UPDATE orchestrator_operations SET finished_at = now() - interval '6 seconds'")
	got, err = a.Rebuild(t.Context(), "p")
	require.NoError(t, err)
	assert.Equal(t, []any{int64(6), int64(8), false}, []any{got.Handled, got.Position, got.Complete})
	assert.InDelta(t, 1, got.Rate, 0.3)
	assert.InDelta(t, 10, got.Left.Seconds(), 3)
	w.exec("UPDATE orchestrator_checkpoints SET position = 21")
	got, err = a.Rebuild(t.Context(), "p")
	require.NoError(t, err)
	assert.Equal(t, []any{true, time.Duration(0), 0.0}, []any{got.Complete, got.Left, got.Rate})
	_, err = w.admin("other").Rebuild(t.Context(), "p")
	require.ErrorIs(t, err, admin.ErrNotReset)
}

// A reset that follows one whose rebuild has not come to its end is rebuilt as far as the first was to be.
func TestARebuildAfterARebuildThatWasNotComplete(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 5)
	r := start(t, w.orchestrator("set"), recorder{name: "p"})
	w.awaitHandled("p", 5)
	w.await("5", "SELECT min(position) FROM orchestrator_checkpoints")
	require.NoError(t, r.stop())
	a := w.admin("set")
	w.exec("DELETE FROM handled")
	for range 2 {
		require.NoError(t, a.ResetCheckpoints(t.Context(), "p", admin.Start(), ""))
		progress, err := a.Rebuild(t.Context(), "p")
		require.NoError(t, err)
		assert.False(t, progress.Complete)
		assert.EqualValues(t, 5, progress.Until)
	}
}

// What a role's idle_in_transaction_session_timeout says is not for the time in which the caller empties a read model elsewhere.
func TestAResetWhoseFunctionTakesItsTime(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 1)
	r := start(t, w.orchestrator("set"), recorder{name: "p"})
	w.awaitHandled("p", 1)
	require.NoError(t, r.stop())
	w.with(func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "400ms" })
	for name, ctx := range map[string]context.Context{"with a deadline": w.patiently(), "without one": t.Context()} {
		require.NoError(t, w.admin("set").ResetWith(ctx, "p", admin.Start(), "", func(ctx context.Context, tx pgx.Tx) error {
			<-time.After(600 * time.Millisecond)
			return emptyHandled("p")(ctx, tx)
		}), name)
	}
}
