package actors

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// A handler that does not even look at its context holds up a change of generation for the coordination timeout, and nothing
// after that. When it returns its worker is one of them again.
func TestHandlerThatHangsIsLeftBehind(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 20)
	hangsAt := want[3] // the handler looks while want grows
	reached, release := make(chan struct{}), make(chan struct{})
	hanging := &recorder{name: "p", before: func(_ context.Context, _ pgx.Tx, e es.PersistedEvent, attempt int) error {
		if e.GlobalPosition == hangsAt && attempt == 1 {
			close(reached)
			<-release
		}
		return nil
	}}
	impatient := func(c *Config) {
		c.Timing.Coordination, c.Timing.Drain = 300*time.Millisecond, 50*time.Millisecond
		c.Batch.HangAfter = 20 * time.Millisecond
	}
	first := f.start(impatient, hanging)
	receive(t, reached, "the event is never handled")
	second := f.start(impatient, &recorder{name: "p"})
	f.awaitHandled("p", want)
	f.awaitState(first, pgcoord.Dead)
	assert.NotZero(t, f.active(1))
	log := first.log.await(t, "a handler does not return")
	assert.Equal(t, "p", log.attrs["projection"])
	assert.Equal(t, fmt.Sprint(hangsAt), log.attrs["position"])
	assert.NotEmpty(t, log.attrs["event_id"])
	assert.NotEmpty(t, log.attrs["running_for"])

	close(release)
	f.awaitState(first, pgcoord.Running)
	f.awaitState(second, pgcoord.Running)
	assert.NotZero(t, f.active(2))
	want = append(want, f.append("Order", 20)...)
	eventually(t, func() bool { return f.checkpoint("p") == want[len(want)-1] }, "the events are not handled")
	assert.ElementsMatch(t, want, f.handled("p"))
}

// Workers of two versions of an application run different projections: each is shared by those who run it, and rests while
// nobody does.
func TestProjectionsAreSharedByThoseWhoRunThem(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	owners := func(projection string) []uuid.UUID {
		return query[[]uuid.UUID](f, `SELECT coalesce(array_agg(DISTINCT worker_id) FILTER (WHERE worker_id IS NOT NULL), '{}')
			FROM orchestrator_checkpoints WHERE projection = $1`, projection)
	}
	handles := func(projection string, want []int64) {
		t.Helper()
		eventually(t, func() bool { return f.checkpoint(projection) == want[len(want)-1] }, "projection %s does not get on", projection)
		assert.ElementsMatch(t, want, f.handled(projection))
	}
	want := f.append("Order", 20)
	old := f.start(nil, &recorder{name: "p"}, &recorder{name: "q"})
	f.awaitState(old, pgcoord.Running)
	next := f.start(nil, &recorder{name: "p"}, &recorder{name: "r"})
	eventually(t, func() bool { return f.active(2) != 0 }, "they are never two")
	assert.ElementsMatch(t, []uuid.UUID{old.id, next.id}, owners("p"))
	assert.Equal(t, []uuid.UUID{old.id}, owners("q"))
	assert.Equal(t, []uuid.UUID{next.id}, owners("r"))
	for _, projection := range []string{"p", "q", "r"} {
		handles(projection, want)
	}
	for _, phase := range []string{"stop", "prepare", "start", "total"} {
		assert.Positive(t, old.count("coordination_duration_seconds", "phase", phase), phase)
	}

	old.Leave()
	old.awaitDone()
	eventually(t, func() bool { return f.active(1) > 2 }, "nobody takes its place")
	rests := len(want)
	want = append(want, f.append("Order", 20)...)
	handles("p", want)
	handles("r", want)
	assert.Empty(t, owners("q"))
	assert.Len(t, f.handled("q"), rests)

	f.start(nil, &recorder{name: "q"})
	handles("q", want)
}

// The rows of a projection are deleted after a generation was activated, and before any of its workers has read what it handles:
// no batch can miss them.
func TestCheckpointsAreDeletedBeforeTheyAreRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 20)
	workers := []*testWorker{
		f.start(nil, &recorder{name: "p"}, &recorder{name: "q"}),
		f.start(nil, &recorder{name: "p"}, &recorder{name: "q"}),
	}
	handles := func(projection string) {
		t.Helper()
		eventually(t, func() bool { return len(f.handled(projection)) >= len(want) }, "projection %s has not handled all events", projection)
		assert.ElementsMatch(t, want, f.handled(projection))
	}
	eventually(t, func() bool { return f.active(2) != 0 }, "they are never two")
	handles("p")
	handles("q")
	for _, w := range workers {
		f.awaitState(w, pgcoord.Running)
	}

	batch, err := f.pool.Begin(t.Context()) // for which the activation waits
	require.NoError(t, err)
	defer func() { _ = batch.Rollback(context.Background()) }()
	_, err = batch.Exec(t.Context(), `SELECT FROM orchestrator_checkpoints FOR UPDATE`)
	require.NoError(t, err)
	workers[0].Leave()
	workers[0].awaitDone()
	waiting := func(n int) func() bool {
		return func() bool {
			return n == query[int](f, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0`)
		}
	}
	eventually(t, waiting(1), "the activation does not wait")
	deleted := make(chan error, 1)
	go func() { // what follows waits for the activation, and the workers' reading for it
		_, err := f.pool.Exec(context.Background(), `BEGIN; LOCK TABLE orchestrator_checkpoints; DELETE FROM orchestrator_checkpoints WHERE projection = 'p';
			DELETE FROM handled WHERE projection = 'p'; COMMIT`, pgx.QueryExecModeSimpleProtocol)
		deleted <- err
	}()
	eventually(t, waiting(2), "the deletion does not wait")
	require.NoError(t, batch.Rollback(t.Context()))
	require.NoError(t, receive(t, deleted, "the rows are not deleted"))
	handles("p")
	want = append(want, f.append("Order", 20)...)
	handles("p")
	handles("q")
}
