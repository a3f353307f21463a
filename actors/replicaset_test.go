package actors

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

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
	f.awaitState(old, replicaset.Running)
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
		f.awaitState(w, replicaset.Running)
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

// Somebody deletes one of a partition's rows, and adds another, before the worker reads what it handles. Nothing of it is handled until a
// generation has given every slot a checkpoint again.
func TestAPartitionThatLacksSlotsIsNotStarted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := f.start(nil, &recorder{name: "p"})
	f.awaitState(first, replicaset.Running)
	first.Leave()
	first.awaitDone()
	want := f.append("Order", 20)
	id := uuid.New()
	// The generation is active, and half of the partition's slots have no checkpoint.
	f.exec(`UPDATE orchestrator_checkpoints SET slot_to = 32768, generation = 1, worker_id = $1, partition_key = 0, total_partitions = 1`, id)
	covered := make(chan bool, 100)
	p := &recorder{name: "p", before: func(context.Context, pgx.Tx, es.PersistedEvent, int) error {
		covered <- query[int](f, `SELECT sum(slot_to - slot_from)::int FROM orchestrator_checkpoints WHERE projection = 'p'`) == 65536
		return nil
	}}
	f.exec(`UPDATE orchestrator_generations SET members = ARRAY[$1::uuid] WHERE state = 'active'`, id)
	f.start(func(c *Config) { c.Membership.ID = id }, p)
	eventually(t, func() bool { return len(f.handled("p")) >= len(want) }, "the events are not handled")
	assert.ElementsMatch(t, want, f.handled("p"))
	for range want {
		assert.True(t, receive(t, covered, "an event"), "handled while slots had no checkpoint")
	}
}
