package face

import (
	"context"
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

// acting is a recorder that has an effect for each event, unless it replays.
type acting struct{ recorder }

func (a acting) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	if err := a.recorder.Handle(ctx, tx, event); err != nil {
		return err
	}
	if d, _ := projection.DeliveryFrom(ctx); d.Replay {
		return nil
	}
	_, err := tx.Exec(ctx, "INSERT INTO effects (position, by) VALUES ($1, $2)", event.GlobalPosition, a.name)
	return err
}

// succeeding is an acting that is to replace another projection.
type succeeding struct {
	acting
	replaces string
}

func (s succeeding) Replaces() string { return s.replaces }

func oldVersion() acting { return acting{recorder{name: "p1"}} }

func newVersion() succeeding { return succeeding{acting{recorder{name: "p2"}}, "p1"} }

// withEffects makes the table in which no event may have two effects.
func withEffects(w *world) *world {
	w.exec("CREATE TABLE effects (position bigint PRIMARY KEY, by text)")
	return w
}

// effects is how many effects there are by the old version, by the new one, and on which side of the other's.
const effects = `SELECT count(*) FILTER (WHERE by = 'p1'), count(*) FILTER (WHERE by = 'p2') FROM effects`

// returns is how many aggregates have an effect by the new version before one by the old one. Slots may be at different positions when both versions are level.
const returns = `SELECT count(*) FROM (SELECT FROM effects JOIN events ON global_position = position GROUP BY aggregate_id
	HAVING max(position) FILTER (WHERE by = 'p1') >= min(position) FILTER (WHERE by = 'p2')) AS aggregates`

// The new version is built beside the old one, across restarts and changes of N, without effects. After the cut-over it has them, and the old one handles nothing.
func TestCutOver(t *testing.T) {
	w := withEffects(newWorld(t))
	ids := []string{"ada", "grace", "alan", "kurt", "emmy"}
	old := start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(2)), oldVersion())
	w.appendInTurn(4, ids...)
	w.awaitHandled("p1", 20)
	r := start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(3)), oldVersion(), newVersion())
	w.awaitHandled("p2", 20)
	w.logs.AwaitLine(t, "the projection is being built beside the one that it will replace")
	require.NoError(t, old.stop())
	w.appendInTurn(1, ids...)
	w.awaitHandled("p2", 25)
	w.awaitHandled("p1", 25)
	assert.Equal(t, "25 0", w.value(effects))

	a := w.admin("set")
	const revisions = "SELECT projection, min(revision) FROM orchestrator_checkpoints GROUP BY 1 ORDER BY 1"
	w.await("25 25", "SELECT min(position), max(position) FROM orchestrator_checkpoints")
	assert.Equal(t, "p1 0, p2 0", w.value(revisions))
	result, err := a.CutOver(w.patiently(), "p1", "p2", "a new column")
	require.NoError(t, err)
	assert.EqualValues(t, 25, result.Position)
	assert.Zero(t, result.Paused, "both were where they had to be")
	assert.Equal(t, "p1 1, p2 1", w.value(revisions), "whoever does not know of the cut-over commits nothing")
	assert.Equal(t, "p2 p1", w.value("SELECT projection, replaced FROM orchestrator_successions"))
	assert.Equal(t, "cut-over p2 anna a new column done p1", w.value("SELECT kind, projection, actor, reason, state, arguments ->> 'from' FROM orchestrator_operations ORDER BY id DESC LIMIT 1"))
	w.appendInTurn(1, ids...)
	w.await("25 5", effects)
	assert.Equal(t, "25 30", w.value("SELECT count(*) FILTER (WHERE projection = 'p1'), count(*) FILTER (WHERE projection = 'p2') FROM handled"))
	w.logs.AwaitLine(t, "the projection was replaced at a cut-over, and no longer handles events")
	require.NoError(t, r.stop())

	old = start(t, w.orchestrator("set"), oldVersion(), recorder{name: "q"}) // an old deployment
	w.awaitRunning("set", 1)
	r = start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(2)), newVersion())
	w.appendInTurn(1, ids...)
	w.await("25 10", effects)
	w.awaitHandled("q", 35)
	w.requireOrder("p2")
	assert.Equal(t, "25", w.value("SELECT count(*) FROM handled WHERE projection = 'p1'"))
	require.NoError(t, old.stop())
	require.NoError(t, r.stop())
}

// Whatever is appended and however many workers come and go meanwhile, each event has one effect, and those of the old version come first.
func TestEachEffectOnceAcrossACutOver(t *testing.T) {
	w := withEffects(newWorld(t))
	ids := make([]string, 30)
	for i := range ids {
		ids[i] = fmt.Sprint("user ", i)
	}
	r := start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(2)), oldVersion(), newVersion())
	w.appendInTurn(3, ids...)
	w.awaitHandled("p2", 90)
	ended := make(chan error, 1)
	other := start(t, w.orchestrator("set"), oldVersion(), newVersion())
	go func() {
		_, err := w.admin("set").CutOver(w.patiently(), "p1", "p2", "")
		ended <- err
	}()
	for range 5 {
		w.appendInTurn(1, ids...)
	}
	require.NoError(t, other.stop())
	require.NoError(t, await(t, ended, "the cut-over"))
	w.appendInTurn(1, ids...)
	w.await("270", "SELECT count(*) FROM effects")
	w.awaitHandled("p2", 270)
	w.requireOrder("p2")
	assert.Equal(t, "0", w.value(returns))
	require.NoError(t, r.stop())
}

// slowly takes time for each event while it is slow.
func slowly(slow func() bool, d time.Duration) func(context.Context, es.PersistedEvent) error {
	return func(ctx context.Context, _ es.PersistedEvent) error {
		if slow() {
			select {
			case <-ctx.Done():
			case <-time.After(d):
			}
		}
		return nil
	}
}

// untilHeld has no version be slow any more as soon as a cut-over holds two, or the caller stops that.
func untilHeld(w *world, slow *atomic.Int64) (stop func()) {
	done := make(chan struct{})
	var looks sync.WaitGroup
	looks.Go(func() {
		defer slow.Store(0)
		for w.value(holdsBegun) != "true" {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	return func() { close(done); looks.Wait() }
}

// holdsBegun is whether both projections are held by a cut-over that waits.
const holdsBegun = "SELECT count(*) > 0 FROM orchestrator_operations WHERE kind = 'cut-over' AND state = 'waiting'"

// Wherever the server process of a cut-over ends, all of each transaction has happened or nothing. Whoever does it again gets it done, and each event has one effect.
func TestACutOverIsAllOrNothing(t *testing.T) {
	directOnly(t)
	w := withEffects(newWorld(t))
	w.troubled = true
	w.exec(`CREATE TABLE killing (at text)`)
	w.exec(`INSERT INTO killing VALUES ('')`)
	w.exec(`CREATE SEQUENCE kills`) // not undone by a rollback
	w.exec(`CREATE FUNCTION kill() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF current_setting('application_name') = 'the admin' AND 'kill_' || (SELECT at FROM killing) = TG_NAME AND nextval('kills') = 1 THEN
				PERFORM pg_terminate_backend(pg_backend_pid());
				PERFORM pg_sleep(1);
			END IF;
			RETURN NULL;
		END $$`)
	for name, trigger := range map[string]string{
		"hold":          "BEFORE UPDATE OF hold_at ON orchestrator_checkpoints",
		"record":        "BEFORE INSERT ON orchestrator_operations",
		"end":           "BEFORE UPDATE ON orchestrator_operations",
		"succeed":       "BEFORE INSERT ON orchestrator_successions",
		"after_succeed": "AFTER INSERT ON orchestrator_successions",
	} {
		w.exec(fmt.Sprintf("CREATE TRIGGER kill_%s %s EXECUTE FUNCTION kill()", name, trigger))
	}
	for name, table := range map[string]string{"hold_commit": "orchestrator_operations", "commit": "orchestrator_successions"} {
		w.exec(fmt.Sprintf("CREATE CONSTRAINT TRIGGER kill_%s AFTER INSERT ON %s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION kill()", name, table))
	}
	type kill struct {
		at    string
		apart bool // the projections are at different positions, so that they are held first
	}
	kills := []kill{
		{"hold", true},
		{"record", true},
		{"hold_commit", true},
		{"end", true},
		{"succeed", true},
		{"commit", true},
		{"record", false},
		{"hold", false},
		{"after_succeed", false},
		{"commit", false},
	}
	var slow atomic.Int64
	versions := []projection.Projection{oldVersion()}
	for i := range kills {
		r := recorder{name: fmt.Sprint("p", i+2), before: slowly(func() bool { return slow.Load() == int64(i+2) }, 150*time.Millisecond)}
		versions = append(versions, succeeding{acting{r}, fmt.Sprint("p", i+1)})
	}
	r := start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(2)), versions...)
	config := w.db.Config()
	config.ConnConfig.RuntimeParams["application_name"] = "the admin"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	a, err := admin.New(pool, w.store, "set")
	require.NoError(t, err)
	total := 0
	for i, kill := range kills {
		from, to := fmt.Sprint("p", i+1), fmt.Sprint("p", i+2)
		w.exec("ALTER SEQUENCE kills RESTART")
		w.exec("UPDATE killing SET at = $1", kill.at)
		if kill.apart {
			slow.Store(int64(i + 2))
		}
		w.appendInTurn(6, "ada", "grace", "alan", "kurt")
		total += 24
		w.awaitHandled(from, total)
		if !kill.apart {
			w.awaitHandled(to, total)
		}
		stop := untilHeld(w, &slow)
		_, err := a.CutOver(w.patiently(), from, to, kill.at)
		for n := 0; n < 3 && err != nil; n++ {
			_, err = a.CutOver(w.patiently(), from, to, kill.at)
		}
		require.NoError(t, err, "%d: %v", i, kill)
		assert.NotEqual(t, "1 false", w.value("SELECT last_value, is_called FROM kills"), "%d, %v: nobody was killed", i, kill)
		stop()
		w.exec("UPDATE killing SET at = ''")
		assert.Equal(t, "0", w.value("SELECT count(*) FROM orchestrator_checkpoints WHERE hold_until IS NOT NULL OR hold_at IS NOT NULL AND projection = $1", to))
	}
	w.await(fmt.Sprint(total), "SELECT count(*) FROM effects")
	assert.Equal(t, fmt.Sprint(len(kills)), w.value("SELECT count(*) FROM orchestrator_successions"))
	require.NoError(t, r.stop())
}
