package workload

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/child"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// worker is a spec with short timings.
func worker(target Target, name string) WorkerSpec {
	return WorkerSpec{
		Target: target, ReplicaSet: "r", Name: name, Projections: twoProjections,
		HeartbeatInterval: 200 * time.Millisecond, StaleWorkerTimeout: 1500 * time.Millisecond, CoordinationTimeout: 3 * time.Second,
		PollOnly: pgtest.BehindPooler(),
	}
}

// started is a worker's process, killed when the test ends.
func started(t *testing.T, spec WorkerSpec) *Process {
	t.Helper()
	p, err := Spawn(spec, t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, KillAll([]*Process{p}, patience))
		if t.Failed() {
			log, _ := os.ReadFile(p.LogFile)
			t.Logf("the log of %s:\n%s", p.Name, log)
		}
	})
	return p
}

// awaitState waits until the worker of that name is in the state, with the number of assignments.
func awaitState(t *testing.T, pool *pgxpool.Pool, name, state string, assignments int) {
	t.Helper()
	require.Eventually(t, func() bool {
		s, err := Observe(t.Context(), pool, "r")
		w, found := s.Worker(name)
		return err == nil && found && w.State == state && len(w.Assignments) == assignments
	}, patience, 20*time.Millisecond, "%s did not become %s", name, state)
}

// awaitEnd waits for the process to end.
func awaitEnd(t *testing.T, p *Process) error {
	t.Helper()
	select {
	case <-p.Done():
		return p.Outcome()
	case <-time.After(patience):
		t.Fatalf("%s has not ended", p.Name)
		return nil
	}
}

func TestWorkersShareTheEventsAndLeaveWhenAsked(t *testing.T) {
	t.Parallel()
	pool, target := migrated(t, twoProjections)
	a, b := started(t, worker(target, "a")), started(t, worker(target, "b"))
	awaitState(t, pool, "a", "running", 2)
	awaitState(t, pool, "b", "running", 2)
	writers := StartWriters(t.Context(), pool, silentStore(), WriterOptions{RollbackShare: 0.2, Transactions: 20})
	require.NoError(t, writers.Wait().Err)
	requireChecks(t, pool)

	s, err := Observe(t.Context(), pool, "r")
	require.NoError(t, err)
	assert.Len(t, s.Workers, 2)
	assert.Equal(t, "active", s.Current().State)
	assert.Len(t, s.Current().Members, 2)
	assert.Positive(t, s.Latest)
	for _, p := range []*Process{a, b} {
		w, _ := s.Worker(p.Name)
		assert.Equal(t, p.PID, w.PID)
		require.NoError(t, p.Terminate())
		require.NoError(t, awaitEnd(t, p))
		require.ErrorIs(t, p.Kill(), os.ErrProcessDone)
	}
}

// requireChecks waits until all is handled and requires that it was once and in order.
func requireChecks(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	require.Eventually(t, func() bool {
		drained, err := Drained(t.Context(), pool, "r")
		return err == nil && drained
	}, patience, 20*time.Millisecond)
	for _, c := range Checks() {
		result, err := RunCheck(t.Context(), pool, c)
		require.NoError(t, err)
		assert.True(t, result.OK(), "%s: %d", c.Title, result.Count)
	}
}

// All that happens to workers, while events come: each is still handled once, and in order.
func TestWorkersComeAndGoUnderLoad(t *testing.T) {
	t.Parallel()
	pool, target := migrated(t, twoProjections)
	writers := StartWriters(t.Context(), pool, silentStore(), WriterOptions{Writers: 2, RollbackShare: 0.1})
	defer writers.Stop()
	killed, frozen := started(t, worker(target, "killed")), started(t, worker(target, "frozen"))
	awaitState(t, pool, "killed", "running", 2)
	awaitState(t, pool, "frozen", "running", 2)
	leaver := started(t, worker(target, "leaver"))
	awaitState(t, pool, "leaver", "running", 2)

	require.NoError(t, killed.Kill())
	awaitState(t, pool, "killed", "dead", 0)
	awaitMembers(t, pool, "frozen", "leaver")
	s, err := Observe(t.Context(), pool, "r")
	require.NoError(t, err)
	status, _ := s.Worker("frozen")
	require.NoError(t, FreezeInBatch(t.Context(), pool, frozen, status))
	awaitState(t, pool, "frozen", "dead", 0)
	awaitMembers(t, pool, "leaver")
	require.NoError(t, frozen.Thaw())
	awaitMembers(t, pool, "frozen", "leaver")
	require.NoError(t, leaver.Terminate())
	require.NoError(t, awaitEnd(t, leaver))
	awaitMembers(t, pool, "frozen")

	require.NoError(t, writers.Stop().Err)
	requireChecks(t, pool)
}

// awaitMembers waits until exactly these workers are running in an active generation.
func awaitMembers(t *testing.T, pool *pgxpool.Pool, names ...string) {
	t.Helper()
	require.Eventually(t, func() bool {
		s, err := Observe(t.Context(), pool, "r")
		if err != nil || s.Current().State != "active" || len(s.Current().Members) != len(names) {
			return false
		}
		for _, name := range names {
			if w, found := s.Worker(name); !found || w.State != "running" || len(w.Assignments) != 2 {
				return false
			}
		}
		return true
	}, patience, 20*time.Millisecond, "%v are not all who run", names)
}

func TestAFrozenWorkerIsDeclaredDeadAndComesBack(t *testing.T) {
	t.Parallel()
	pool, target := migrated(t, twoProjections)
	frozen := started(t, worker(target, "frozen"))
	started(t, worker(target, "other"))
	awaitState(t, pool, "frozen", "running", 2)
	awaitState(t, pool, "other", "running", 2)
	writers := StartWriters(t.Context(), pool, silentStore(), WriterOptions{Writers: 2})
	defer writers.Stop()
	s, err := Observe(t.Context(), pool, "r")
	require.NoError(t, err)
	status, _ := s.Worker("frozen")
	require.NoError(t, FreezeInBatch(t.Context(), pool, frozen, status))
	awaitState(t, pool, "frozen", "dead", 0)
	require.NoError(t, frozen.Thaw())
	awaitState(t, pool, "frozen", "running", 2)
	require.NoError(t, frozen.Kill())
	var exit *exec.ExitError
	require.ErrorAs(t, awaitEnd(t, frozen), &exit)
	awaitState(t, pool, "frozen", "dead", 0)
}

func TestAWorkerThatCannotRunExits(t *testing.T) {
	t.Parallel()
	spec := worker(Target{DSN: "nonsense"}, "lost")
	p := started(t, spec)
	var exit *exec.ExitError
	require.ErrorAs(t, awaitEnd(t, p), &exit)
	assert.Equal(t, child.ExitFailed, exit.ExitCode())
	log, err := os.ReadFile(p.LogFile)
	require.NoError(t, err)
	assert.Contains(t, string(log), "reading the database's address")
}
