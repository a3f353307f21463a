package face

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// named makes a worker with a name.
func (w *world) named(name string, options ...orchestrator.Option) *orchestrator.Orchestrator {
	w.t.Helper()
	return w.orchestrator("set", append(options, orchestrator.WithWorkerName(name))...)
}

// ownersOf are the names of the workers that have partitions of a projection.
const ownersOf = `SELECT coalesce(string_agg(DISTINCT coalesce(w.name, 'nobody'), ' '), '') FROM orchestrator_checkpoints AS c LEFT JOIN orchestrator_workers AS w USING (worker_id) WHERE c.projection = $1`

// A drained worker runs on without partitions, until it is undrained. By its name, that outlasts its restart.
func TestDrainOutlivesRestarts(t *testing.T) {
	w := newWorld(t)
	a := w.admin("set")
	first, second := w.named("first"), w.named("second")
	one := start(t, first, recorder{name: "p"}, recorder{name: "q"})
	two := start(t, second, recorder{name: "p"}, recorder{name: "q"})
	w.awaitRunning("set", 2)
	w.appendInTurn(2, "ada", "grace", "alan", "kurt")
	w.awaitHandled("p", 8)
	assert.Equal(t, "first second", w.value(ownersOf, "p"))

	require.NoError(t, a.Drain(w.patiently(), "first", "its host is patched"))
	assert.Equal(t, "second", w.value(ownersOf, "p"))
	w.awaitRunning("set", 2)
	awaitMetric(t, first, "1", `drained{replica_set="set"}`)
	awaitMetric(t, first, "0", `partitions{replica_set="set"}`)
	awaitMetric(t, second, "0", `drained{replica_set="set"}`)
	snapshot, err := a.Snapshot(t.Context())
	require.NoError(t, err)
	for _, worker := range snapshot.Workers {
		assert.Equal(t, worker.Name == "first", worker.Drained)
		assert.Equal(t, worker.Drained, len(worker.Partitions) == 0)
	}
	w.logs.AwaitLine(t, "this worker was drained or undrained")
	assert.Equal(t, "drained", w.value("SELECT cause FROM orchestrator_generations WHERE state = 'active'"))
	assert.Contains(t, w.value("SELECT reason FROM orchestrator_generations WHERE state = 'active'"), "worker first")
	w.appendInTurn(1, "ada", "grace", "alan", "kurt")
	w.awaitHandled("p", 12)

	require.NoError(t, one.stop())
	one = start(t, w.named("first"), recorder{name: "p"}, recorder{name: "q"})
	w.awaitRunning("set", 2)
	w.appendInTurn(1, "ada", "grace", "alan", "kurt")
	w.awaitHandled("p", 16)
	assert.Equal(t, "second", w.value(ownersOf, "p"))

	before := w.value("SELECT max(number) FROM orchestrator_generations")
	require.NoError(t, a.Undrain(t.Context(), "first", "it is patched"))
	w.await("first second", ownersOf, "p")
	w.awaitRunning("set", 2)
	w.appendInTurn(1, "ada", "grace", "alan", "kurt")
	w.awaitHandled("p", 20)
	w.awaitHandled("q", 20)
	w.requireOrder("p")
	assert.Equal(t, "1", w.value("SELECT max(number) - $1::text::bigint FROM orchestrator_generations", before))
	require.NoError(t, one.stop())
	require.NoError(t, two.stop())
	assert.Equal(t, `drain anna its host is patched done {"worker": "first"}, undrain anna it is patched done {"worker": "first"}`,
		w.value("SELECT kind, actor, reason, state, arguments::text FROM orchestrator_operations ORDER BY id"))
}

// A drained worker takes no partitions though nobody else is left, and nothing goes round in circles. A drain by id ends with that worker.
func TestADrainedWorkerTakesNothing(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	a := w.admin("set")
	one := start(t, w.named("same", orchestrator.WithHeartbeatInterval(100*time.Millisecond)), recorder{name: "p"})
	w.awaitRunning("set", 1)
	id := w.value("SELECT worker_id::text FROM orchestrator_workers WHERE state = 'running'")
	two := start(t, w.named("same"), recorder{name: "p"})
	w.awaitRunning("set", 2)
	require.NoError(t, a.Drain(w.patiently(), id, ""))
	assert.Equal(t, "1 0", w.value("SELECT count(*), count(*) FILTER (WHERE worker_id = $1::text::uuid) FROM orchestrator_checkpoints", id))
	require.NoError(t, two.stop())
	w.await("nobody", ownersOf, "p")
	w.awaitRunning("set", 1)
	assert.Contains(t, w.value("SELECT reason FROM orchestrator_generations WHERE state = 'active'"), `no worker handles "p"`)
	w.exec("DELETE FROM orchestrator_checkpoints") // which a drained worker leaves to others
	other := start(t, w.named("another"), recorder{name: "q"})
	w.awaitRunning("set", 2)
	generation := w.value("SELECT max(number) FROM orchestrator_generations")
	w.append("ada", 1)
	began := w.value("SELECT max(last_heartbeat)::text FROM orchestrator_heartbeats")
	w.await("true", "SELECT max(last_heartbeat) > $1::text::timestamptz + interval '1 second' FROM orchestrator_heartbeats", began)
	assert.Equal(t, generation, w.value("SELECT max(number) FROM orchestrator_generations"))
	assert.Equal(t, "0", w.value("SELECT count(*) FROM handled WHERE projection = 'p'"))

	three := start(t, w.named("same"), recorder{name: "p"})
	w.awaitHandled("p", 1)
	require.NoError(t, a.Undrain(t.Context(), id, ""))
	w.await("2", "SELECT count(DISTINCT worker_id) FROM orchestrator_checkpoints WHERE projection = 'p'")
	require.NoError(t, other.stop())
	require.NoError(t, one.stop())
	require.NoError(t, three.stop())
}

// What nobody else would handle is not drained, also where two are drained at once.
func TestADrainThatIsRefused(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	a := w.admin("set")
	one := start(t, w.named("first"), recorder{name: "p"}, recorder{name: "q"})
	w.awaitRunning("set", 1)
	require.ErrorContains(t, a.Drain(t.Context(), "first", ""), `draining worker "first" of replica set "set": no other worker handles p, q: start one first`)
	two := start(t, w.named("second"), recorder{name: "p"})
	w.awaitRunning("set", 2)
	require.ErrorContains(t, a.Drain(t.Context(), "first", ""), `no other worker handles q: start one first`)
	require.ErrorContains(t, a.Drain(t.Context(), "firs", ""), "no worker of the replica set has that name or id")
	require.ErrorContains(t, w.admin("other").Drain(t.Context(), "second", ""), "no worker of the replica set has that name or id")
	require.ErrorContains(t, a.Drain(t.Context(), "", ""), "the worker's name or id must not be empty")
	require.ErrorContains(t, a.Undrain(t.Context(), "second", ""), "no worker is drained")
	three := start(t, w.named("third"), recorder{name: "p"}, recorder{name: "q"})
	w.awaitRunning("set", 3)
	tx, err := w.db.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), "INSERT INTO orchestrator_drains (replica_set, worker, actor, reason) VALUES ('set', 'third', '', '')") // by somebody else
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- a.Drain(w.patiently(), "first", "") }()
	w.await("1", "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
	require.NoError(t, tx.Commit(t.Context()))
	require.ErrorContains(t, await(t, ended, "Drain to return"), "no other worker handles q")
	require.ErrorContains(t, a.Undrain(t.Context(), "second", ""), "it is not drained; these are: third")
	assert.Equal(t, "0", w.value("SELECT count(*) FROM orchestrator_operations"))
	for _, r := range []*running{one, two, three} {
		require.NoError(t, r.stop())
	}
}

// Drain waits for the worker's handlers, and names what it waits for. The worker stays drained.
func TestDrainWaitsForHandlers(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	entered, release := make(chan struct{}), make(chan struct{})
	slow := recorder{name: "p", before: func(context.Context, es.PersistedEvent) error {
		close(entered)
		<-release
		return nil
	}}
	one := start(t, w.named("first"), slow)
	w.awaitRunning("set", 1)
	w.append("ada", 1)
	await(t, entered, "the handler to be called")
	two := start(t, w.named("second"), recorder{name: "p"})
	w.await("pending", "SELECT state FROM orchestrator_workers WHERE name = 'second'")
	err := w.givesUp("1", "SELECT count(*) FROM orchestrator_drains", func(ctx context.Context) error {
		return w.admin("set", admin.WithActor("anna")).Drain(ctx, "first", "")
	})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "it is drained, but still has the partitions p 0/1")
	close(release)
	w.await("second", ownersOf, "p")
	w.awaitHandled("p", 1)
	require.NoError(t, one.stop())
	require.NoError(t, two.stop())
}

// Drain returns only when no generation can give the worker partitions any more, also not one that began before the drain.
func TestDrainWaitsForAGenerationThatBegins(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 1)
	first := start(t, w.orchestrator("set", orchestrator.WithWorkerName("first")), recorder{name: "p"})
	w.awaitHandled("p", 1)
	tx, err := w.db.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), "SELECT FROM orchestrator_checkpoints FOR NO KEY UPDATE")
	require.NoError(t, err)
	second := start(t, w.orchestrator("set", orchestrator.WithWorkerName("second")), recorder{name: "p"})
	w.await("true", "SELECT count(*) >= 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") // the activation
	drained := make(chan error, 1)
	go func() { drained <- w.admin("set").Drain(w.patiently(), "second", "") }()
	w.await("1", "SELECT count(*) FROM orchestrator_drains")
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, await(t, drained, "Drain to return"))
	assert.Equal(t, "true", w.value("SELECT drained FROM orchestrator_workers WHERE name = 'second'"))
	require.NoError(t, first.stop())
	require.NoError(t, second.stop())
}
