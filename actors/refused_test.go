package actors

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/logbook"
)

// A batch whose rows were changed is repeated at once. After several in a row the next ones wait, and a line says so once.
func TestBatchesThatAreRefusedInARowBackOff(t *testing.T) {
	t.Parallel()
	logs := logbook.New(slog.LevelInfo, time.Minute)
	p := &processor{worker: &worker{}, log: logs.Logger(), run: &run{hard: t.Context()}}
	for range movesAtOnce {
		assert.Equal(t, next{more: true}, p.failed(nil, pgcoord.ErrMoved))
	}
	assert.Empty(t, logs.String())
	shorter := p.failed(nil, pgcoord.ErrMoved).after
	assert.Positive(t, shorter)
	for range 10 {
		p.failed(nil, pgcoord.ErrMoved)
	}
	assert.Greater(t, p.failed(nil, pgcoord.ErrMoved).after, shorter)
	assert.Contains(t, logs.String(), "refused_in_a_row=4")
	assert.NotContains(t, logs.String(), "refused_in_a_row=5")
}

// hold locks rows of the checkpoints until the test lets go of them.
func (f *fixture) hold(condition string) (release func()) {
	f.t.Helper()
	tx, err := f.pool.Begin(f.t.Context())
	require.NoError(f.t, err)
	release = sync.OnceFunc(func() { _ = tx.Rollback(context.WithoutCancel(f.t.Context())) })
	f.t.Cleanup(release)
	_, err = tx.Exec(f.t.Context(), "SELECT FROM orchestrator_checkpoints WHERE "+condition+" FOR UPDATE")
	require.NoError(f.t, err)
	return release
}

// A row that somebody else holds is no sign of a server that does not answer: the batch keeps its connection, and the server has no more time for its answers than
// before. The processor says what it waits for.
func TestACheckpointThatIsHeldIsNoSilentServer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start(func(c *Config) { c.Timing.Answer = 500 * time.Millisecond }, &recorder{name: "p"})
	want := f.append("Order", 3)
	f.awaitHandled("p", want)
	release := f.hold("true")
	want = append(want, f.append("Order", 3)...)
	r.log.AwaitLine(t, "another transaction holds a checkpoint", "partition", "0/1")
	release()
	f.awaitHandled("p", want)
	assert.NotContains(t, r.log.String(), "did not answer")
	assert.Zero(t, r.count("database_errors_total", "operation", "batch"))
}

// A reset waits for a batch that takes long. It gives the other partitions' rows back meanwhile, and waits longer the next time.
func TestAResetThatWaitsForABatchGivesWay(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start(func(c *Config) { c.Timing.Answer, c.Membership.Partitions = 500*time.Millisecond, 2 }, &emptied{recorder{name: "p"}})
	f.append("Order", 14)
	eventually(t, func() bool { return len(f.handled("p")) == 14 }, "events are not handled")
	release := f.hold("slot_from > 0")
	f.requestReset()
	f.append("Order", 14)
	r.log.AwaitLine(t, "a reset waits for a batch that takes long", "next_wait=750ms")
	eventually(t, func() bool { return len(f.handled("p")) > 14 }, "the other partition stands still")
	release()
	eventually(t, func() bool {
		return query[string](f, "SELECT state FROM orchestrator_operations") == "done" && len(f.handled("p")) == 28
	}, "the projection is not reset")
	assert.NotContains(t, r.log.String(), "did not answer")
}

// requestReset asks for a reset of the projection "p" to its beginning.
func (f *fixture) requestReset() {
	f.t.Helper()
	f.exec(`WITH operation AS (
			INSERT INTO orchestrator_operations (replica_set, projection, kind, actor, reason, state) VALUES ('main', 'p', 'reset', 'anna', '', 'waiting') RETURNING id)
		INSERT INTO orchestrator_requests (operation, projection, bounded_context, aggregate_type, aggregate_id, kind, target) SELECT id, 'p', '', '', '', 'reset', 0 FROM operation`)
	f.exec("UPDATE orchestrator_checkpoints SET revision = revision + 1 WHERE slot_from = 0")
}

// emptied can empty its read model.
type emptied struct{ recorder }

func (p *emptied) Reset(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "DELETE FROM handled WHERE projection = $1", p.name)
	return err
}

// A reset that waits for a batch of another worker keeps no generation change waiting.
func TestAResetThatWaitsStopsAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start(func(c *Config) {
		c.Timing.Answer, c.Timing.Drain, c.Membership.Partitions = time.Minute, 20*time.Second, 2
	}, &emptied{recorder{name: "p"}})
	eventually(t, func() bool {
		return query[int](f, "SELECT count(DISTINCT worker_id)::int FROM orchestrator_checkpoints WHERE total_partitions = 2") == 1
	}, "nothing runs")
	f.hold("slot_from > 0")
	f.requestReset()
	eventually(t, func() bool {
		return query[bool](f, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%WITH locked AS MATERIALIZED%')`)
	}, "the reset does not wait")
	began := time.Now()
	r.Leave()
	r.awaitDone()
	assert.Less(t, time.Since(began), 10*time.Second)
}
