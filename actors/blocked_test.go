package actors

import (
	"context"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// A person has locked a checkpoint and gone to lunch. Nobody ends such a session, but it is named, and costs no worker its own.
func TestWhatHoldsUpAGenerationIsNamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	soon := func(c *Config) { c.Timing.Coordination, c.Timing.Stale = 400*time.Millisecond, time.Minute }
	first := f.start(soon, &recorder{name: "p"})
	f.awaitState(first, replicaset.Running)
	person, err := f.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = person.Rollback(context.Background()) }()
	var pid int
	require.NoError(t, person.QueryRow(t.Context(), `SELECT pg_backend_pid() FROM orchestrator_checkpoints FOR UPDATE`).Scan(&pid))
	second := f.start(soon, &recorder{name: "p"})
	blocked := func() float64 { return first.count("generation_blocked") + second.count("generation_blocked") }
	eventually(t, func() bool { return blocked() == 1 }, "no metric says so")
	lines := append(first.log.Find("holds up the new generation"), second.log.Find("holds up the new generation")...)
	require.Len(t, lines, 1)
	assert.Equal(t, slog.LevelError, lines[0].Level)
	assert.Equal(t, strconv.Itoa(pid), lines[0].Attrs["pid"])
	assert.Contains(t, lines[0].Attrs["remedy"], "pg_terminate_backend")
	require.NoError(t, person.Rollback(t.Context()))
	eventually(t, func() bool { return f.active(2) != 0 && blocked() == 0 }, "the generation does not go on")
	want := f.append("Order", 10)
	eventually(t, func() bool { return len(f.handled("p")) >= len(want) }, "events are not handled")
	assert.Zero(t, first.count("session_reconnects_total")+second.count("session_reconnects_total"), "the watch cost a session")
}

// An activation that is repeated has waited already.
func TestPatienceCountsFromTheGeneration(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start(func(c *Config) { c.Timing.Coordination = time.Hour }, &recorder{name: "p"})
	f.awaitState(r, replicaset.Running)
	tx, err := f.dial("").Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock_shared(hashtextextended('`+pgcoord.ApplicationName(r.id)+`', 0)); LOCK TABLE handled`)
	require.NoError(t, err)
	waiter, err := f.dial("").Begin(t.Context()) // whose backend stays the same behind a pooler
	require.NoError(t, err)
	defer func() { _ = waiter.Rollback(context.Background()) }()
	var pid int
	require.NoError(t, waiter.QueryRow(t.Context(), `SELECT pg_backend_pid()`).Scan(&pid))
	waited := make(chan error, 1)
	go func() {
		_, err := waiter.Exec(t.Context(), `TRUNCATE handled`)
		waited <- err
	}()
	eventually(t, func() bool { return query[bool](f, `SELECT cardinality(pg_blocking_pids($1)) > 0`, pid) }, "nobody waits")
	watch := watchBlockers(t.Context(), r.worker, pid, time.Hour, r.log.Logger())
	defer watch.end()
	require.NoError(t, receive(t, waited, "the living worker's batch is not ended"))
	require.Error(t, tx.Commit(t.Context()))
}
