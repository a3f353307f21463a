package face

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// A projection moves with its positions, letters, parked aggregates, pauses and what is asked for. The other replica set goes on, under a higher fencing token, and
// back again.
func TestMoveTakesAllOfAProjection(t *testing.T) {
	w := newWorld(t)
	tokens := make(chan int64, 1000)
	p := recorder{name: "users", before: func(ctx context.Context, event es.PersistedEvent) error {
		d, _ := projection.DeliveryFrom(ctx)
		tokens <- d.Generation
		return poisoned(errBad, 1)(ctx, event)
	}}
	for range 3 { // generations
		r := start(t, w.orchestrator("old", parkAtOnce), p, recorder{name: "mails"})
		w.awaitRunning("old", 1)
		require.NoError(t, r.stop())
	}
	w.appendInTurn(2, "ada", "grace") // ada has 1 and 3
	r := start(t, w.orchestrator("old", parkAtOnce), p, recorder{name: "mails"})
	w.awaitHandled("users", 2)
	w.awaitHandled("mails", 4)
	w.await("2", "SELECT letters FROM orchestrator_parked_aggregates")
	require.NoError(t, r.stop())
	before, after := w.admin("old"), w.admin("new")
	_, err := w.asks(before, admin.Filter{Projection: "users"})
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, before.Pause(t.Context(), admin.Target{Projection: "users"}, "", time.Time{}))

	require.NoError(t, before.Move(t.Context(), "users", "new", "they have grown"))
	assert.Equal(t, "new, old", w.value("SELECT DISTINCT replica_set FROM orchestrator_checkpoints ORDER BY 1"))
	assert.Equal(t, "new", w.value("SELECT replica_set FROM orchestrator_dead_letters UNION SELECT replica_set FROM orchestrator_parked_aggregates"))
	assert.Equal(t, "new retry waiting, new pause done, old move done", w.value("SELECT replica_set, kind, state FROM orchestrator_operations ORDER BY id"))
	assert.Equal(t, `they have grown {"to": "new"}`, w.value("SELECT reason, arguments::text FROM orchestrator_operations WHERE kind = 'move'"))
	require.ErrorContains(t, before.Resume(t.Context(), admin.Target{Projection: "users"}, ""), "it has no checkpoints")

	highest := int64(0)
	drain := func() (lowest int64) {
		for lowest = 1 << 40; len(tokens) > 0; {
			token := <-tokens
			lowest, highest = min(lowest, token), max(highest, token)
		}
		return lowest
	}
	drain()
	p.before = func(ctx context.Context, _ es.PersistedEvent) error {
		d, _ := projection.DeliveryFrom(ctx)
		tokens <- d.Generation
		return nil
	}
	old := start(t, w.orchestrator("old"), recorder{name: "mails"})
	r = start(t, w.orchestrator("new", orchestrator.WithPartitionsPerWorker(2)), p)
	w.awaitRunning("new", 1)
	w.appendInTurn(1, "ada", "grace")
	w.awaitHandled("mails", 6)
	assert.Equal(t, "2", w.value("SELECT count(*) FROM handled WHERE projection = 'users'"), "it is paused")
	require.NoError(t, after.Resume(t.Context(), admin.Target{Projection: "users"}, ""))
	w.awaitHandled("users", 6)
	w.await("done", "SELECT state FROM orchestrator_operations WHERE kind = 'retry'")
	w.requireOrder("users")
	was := highest
	assert.Greater(t, drain(), was)
	require.NoError(t, r.stop())
	require.NoError(t, old.stop())

	require.NoError(t, after.Move(t.Context(), "users", "old", ""))
	r = start(t, w.orchestrator("old"), p, recorder{name: "mails"})
	w.appendInTurn(1, "ada", "grace")
	w.awaitHandled("users", 8)
	w.awaitHandled("mails", 8)
	w.requireOrder("users")
	was = highest
	assert.Greater(t, drain(), was)
	require.NoError(t, r.stop())
}

// A move is refused while a worker has the projection that would contradict it, until that has ended or has not been heard of for a minute.
func TestAMoveThatIsRefused(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	a := w.admin("old")
	require.ErrorContains(t, a.Move(t.Context(), "users", "new", ""), `moving projection "users" to replica set "new" of replica set "old": it has no checkpoints`)
	require.ErrorContains(t, a.Move(t.Context(), "users", "old", ""), `the other replica set must be another one than "old"`)
	require.ErrorContains(t, a.Move(t.Context(), "users", "", ""), "the other replica set's name must not be empty")
	r := start(t, w.orchestrator("old", orchestrator.WithWorkerName("w1")), recorder{name: "users"})
	w.append("ada", 1)
	w.awaitHandled("users", 1)
	require.ErrorContains(t, a.Move(t.Context(), "users", "new", ""), "the workers w1 of old still run it: restart them without it")
	require.ErrorContains(t, w.admin("third").Move(t.Context(), "users", "new", ""), "it has no checkpoints")
	require.NoError(t, r.stop())
	w.exec("INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, replica_set, events_table) VALUES ('x', 0, 65536, 'new', 'other.events')")
	require.ErrorContains(t, a.Move(t.Context(), "users", "new", ""), "that replica set reads the events of other.events")
	assert.Equal(t, "old 1", w.value("SELECT replica_set, position FROM orchestrator_checkpoints WHERE projection = 'users'"))
	assert.Equal(t, "0", w.value("SELECT count(*) FROM orchestrator_operations"))
	w.exec("DELETE FROM orchestrator_checkpoints WHERE projection = 'x'")

	w.exec("UPDATE orchestrator_workers SET state = 'running'") // as if all had been killed
	require.ErrorContains(t, a.Move(t.Context(), "users", "new", ""), "the workers w1 of old still run it")
	w.exec("UPDATE orchestrator_heartbeats SET last_heartbeat = now() - interval '61 seconds'")
	require.NoError(t, a.Move(t.Context(), "users", "new", ""))
	assert.Equal(t, "new 1", w.value("SELECT replica_set, position FROM orchestrator_checkpoints WHERE projection = 'users'"))
}

// A move waits for the batch of a worker that nobody has heard of, and the worker commits nothing afterwards.
func TestAMoveFencesWhoIsLeft(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.appendInTurn(1, "ada", "grace")
	entered, release := make(chan struct{}), make(chan struct{})
	first := true
	r := start(t, w.orchestrator("old", orchestrator.WithBatchSize(1)), recorder{name: "users", before: func(context.Context, es.PersistedEvent) error {
		if first {
			first = false
			close(entered)
			<-release
		}
		return nil
	}}, recorder{name: "mails"})
	await(t, entered, "the handler to be called")
	w.exec("UPDATE orchestrator_workers SET projections = '{mails}'") // as if it had never had it
	moved := make(chan error, 1)
	go func() { moved <- w.admin("old").Move(w.patiently(), "users", "new", "") }()
	w.await("1", "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
	close(release)
	require.NoError(t, await(t, moved, "Move to return"))
	at := w.value("SELECT position FROM orchestrator_checkpoints WHERE projection = 'users'")
	w.append("alan", 1)
	w.awaitHandled("mails", 3)
	assert.Equal(t, at, w.value("SELECT count(*) FROM handled WHERE projection = 'users'"))
	assert.Equal(t, "new "+at, w.value("SELECT replica_set, position FROM orchestrator_checkpoints WHERE projection = 'users'"))
	require.NoError(t, r.stop())
	other := start(t, w.orchestrator("new"), recorder{name: "users"})
	w.awaitHandled("users", 3)
	require.NoError(t, other.stop())
}

// Whatever ends a move in the middle, everything is one replica set's.
func TestAMoveIsAllOrNothing(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 2)
	r := start(t, w.orchestrator("old", parkAtOnce, orchestrator.WithPartitionsPerWorker(2)), recorder{name: "users", before: poisoned(errBad, 1)})
	w.await("2", "SELECT letters FROM orchestrator_parked_aggregates")
	require.NoError(t, r.stop())
	a := w.admin("old")
	require.NoError(t, a.Pause(t.Context(), admin.Target{}, "", time.Time{}))
	w.exec("UPDATE orchestrator_operations SET projection = 'users'")
	const sets = `SELECT DISTINCT replica_set FROM (SELECT replica_set FROM orchestrator_checkpoints UNION ALL SELECT replica_set FROM orchestrator_dead_letters
		UNION ALL SELECT replica_set FROM orchestrator_parked_aggregates UNION ALL SELECT replica_set FROM orchestrator_operations WHERE kind <> 'move') AS all_of_it`
	w.exec(`CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); RETURN NULL; END $$`)
	for _, at := range []string{"UPDATE ON orchestrator_checkpoints", "UPDATE ON orchestrator_dead_letters", "UPDATE ON orchestrator_parked_aggregates", "UPDATE ON orchestrator_operations", "INSERT ON orchestrator_operations"} {
		w.exec(fmt.Sprintf("CREATE TRIGGER fails AFTER %s EXECUTE FUNCTION fail()", at))
		w.alwaysFire("fail")
		require.Error(t, a.Move(t.Context(), "users", "new", ""), at)
		assert.Equal(t, "old", w.value(sets), at)
		w.exec("DROP TRIGGER fails ON " + at[len("UPDATE ON "):])
	}
	require.NoError(t, a.Move(t.Context(), "users", "new", ""))
	assert.Equal(t, "new", w.value(sets))
}
