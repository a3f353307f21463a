package pgcoord

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
)

func TestOpenFindsTheTables(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	exec(t, pool, `CREATE SCHEMA app; CREATE SCHEMA log CREATE TABLE "My Events" ()`)
	conn := dial(t, pool)
	exec(t, conn, `SET search_path = missing, app, public`)
	s, err := Open(t.Context(), conn, "", "main", eventsTable)
	require.NoError(t, err)
	assert.Equal(t, "public", s.schema, "the first schema in the search_path has no tables")
	assert.Equal(t, "public.events", s.events)
	exec(t, pool, `CREATE TABLE app.events ()`)
	s, err = Open(t.Context(), conn, "public", "main", eventsTable)
	require.NoError(t, err)
	assert.Equal(t, "app.events", s.events)
	s, err = Open(t.Context(), conn, "public", "main", pgx.Identifier{"log", "My Events"})
	require.NoError(t, err)
	assert.Equal(t, "public", s.schema)
	assert.Equal(t, "log.My Events", s.events)
	assert.Equal(t, "main", s.ReplicaSet())

	_, err = Open(t.Context(), conn, "app", "main", eventsTable)
	require.ErrorContains(t, err, `"app"."orchestrator_checkpoints"`)
	_, err = Open(t.Context(), conn, "", "main", pgx.Identifier{"absent"})
	require.ErrorContains(t, err, `"absent"`)
	exec(t, conn, `SET search_path = missing`)
	_, err = Open(t.Context(), conn, "", "main", eventsTable)
	require.ErrorContains(t, err, "search_path")
}

// Names that need quotes work in every statement, and two schemas of one
// database have nothing in common.
func TestSchemasAreApart(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	const awkward = `My-Schema`
	require.NoError(t, migrations.Run(t.Context(), pool, awkward))
	plain := open(t, pool, "main")
	odd, err := Open(t.Context(), pool, awkward, "main", eventsTable)
	require.NoError(t, err)
	odd2, err := Open(t.Context(), pool, awkward, "main", eventsTable)
	require.NoError(t, err)
	assert.Equal(t, odd.leaderKey(), odd2.leaderKey(), "all workers compute the same")
	assert.Equal(t, odd.Channel(), odd2.Channel())
	assert.LessOrEqual(t, len(odd.Channel()), 63)

	goThroughTheWholeCycle(t, pool, awkward)
	one, two := dial(t, pool), dial(t, pool)
	w, x := join(t, plain, pool, "orders"), join(t, odd, pool, "orders")
	assert.True(t, observe(t, plain, one, w, true).Leading)
	assert.True(t, observe(t, odd, two, x, true).Leading, "the leaders' locks are apart")
	assert.NotEqual(t, plain.Channel(), odd.Channel())
	assert.NotEqual(t, plain.SessionKey(w), odd.SessionKey(w))
	assert.NotEqual(t, plain.leaderKey(), open(t, pool, "other").leaderKey())
	assert.NotEqual(t, plain.Channel(), open(t, pool, "other").Channel())
	generation(t, plain, pool, 0, w)
	assert.Zero(t, observe(t, odd, pool, x, false).Generation.Number)
	require.Len(t, observe(t, odd, pool, x, false).Workers, 1)
}

// Checkpoints of one events table are read in another replica set's prober, but
// not in that of another table.
func TestFloorIsTheHighestCheckpointOfTheEventsTable(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	exec(t, o.pool, `CREATE TABLE archive (); CREATE SCHEMA log CREATE TABLE events ()`)
	floor := func(replicaSet string, events ...string) int64 {
		s, err := Open(t.Context(), o.pool, "", replicaSet, events)
		require.NoError(t, err)
		known, err := s.Regressions(o.pool).Known(t.Context())
		require.NoError(t, err)
		return known.Checkpoint
	}
	assert.Zero(t, floor("main", "events"))
	pieces := o.cut(t, 3, 8, 5)
	assert.Equal(t, int64(8), floor("main", "events"))
	assert.Equal(t, int64(8), floor("stranger", "public", "events"))
	assert.Zero(t, floor("main", "archive"))
	assert.Zero(t, floor("main", "log", "events"))
	b := o.begin(t, pieces, 20)
	assert.Equal(t, int64(8), floor("main", "events"), "what is not committed does not count")
	require.NoError(t, b.Commit(t.Context(), 20))
	assert.Equal(t, int64(20), floor("main", "events"))
}

func TestPiecesAreThoseOfThePartition(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	pieces := o.cut(t, 3, 8, 5)
	assert.Equal(t, pieces, o.pieces(t), "in order of their slots")
	for name, change := range map[string]func(*Fence){
		"another generation": func(f *Fence) { f.Generation++ },
		"another worker":     func(f *Fence) { f.Worker[0]++ },
		"another projection": func(f *Fence) { f.Projection = "letters" },
		"another partition":  func(f *Fence) { f.Partition.Key = 1 },
		"another total":      func(f *Fence) { f.Partition.Total = 2 },
	} {
		f := o.fence
		change(&f)
		got, err := o.Pieces(t.Context(), o.pool, f)
		require.NoError(t, err)
		assert.Empty(t, got, name)
		if name == "another generation" || name == "another worker" {
			rows, err := o.Assignment(t.Context(), o.pool, f.Worker, f.Generation)
			require.NoError(t, err)
			assert.Empty(t, rows, name)
		}
	}
	rows, err := o.Assignment(t.Context(), o.pool, o.worker, o.fence.Generation)
	require.NoError(t, err)
	require.Len(t, rows, 3)
	for i, row := range rows {
		assert.Equal(t, replicaset.Checkpoint{Projection: "orders", Piece: pieces[i], Owner: o.worker, Partition: o.fence.Partition, Generation: o.fence.Generation}, row)
	}
}

func TestTablesRefuseWhatMustNeverBe(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	require.Equal(t, slot.Count, 65536, "the constraints say so")
	o.cut(t, 3, 8)
	const (
		insert = `INSERT INTO orchestrator_checkpoints (events_table, replica_set, projection, slot_from, slot_to, position`
		free   = insert + `) VALUES ('e', `
		owned  = insert + `, partition_key, worker_id, total_partitions) VALUES ('e', 'main', 'x', 0, 5, 0, `
	)
	const overlap, check, unique = "23P01", "23514", "23505"
	tests := map[string]struct{ sql, state string }{
		"a range within another":   {free + `'main', 'orders', 500, 600, 0)`, overlap},
		"a range that ends inside": {`UPDATE orchestrator_checkpoints SET slot_to = 1001 WHERE slot_from = 0`, overlap},
		"another set's range":      {free + `'stranger', 'orders', 1, 2, 0)`, overlap},
		"two that begin together":  {free + `'main', 'orders', 0, 1, 0)`, unique},
		"an empty range":           {free + `'main', 'x', 5, 5, 0)`, check},
		"a negative slot":          {free + `'main', 'x', -1, 5, 0)`, check},
		"a slot too many":          {free + `'main', 'x', 0, 65537, 0)`, check},
		"a negative position":      {free + `'main', 'x', 0, 5, -1)`, check},
		"an owner without a part":  {owned + `NULL, gen_random_uuid(), NULL)`, check},
		"a part without an owner":  {owned + `0, NULL, 1)`, check},
		"a part of nothing":        {owned + `0, gen_random_uuid(), NULL)`, check},
		"a part beyond the total":  {owned + `2, gen_random_uuid(), 2)`, check},
		"two current generations": {`INSERT INTO orchestrator_generations (replica_set, number, state, cause, reason, prepared_by)
			VALUES ('main', 2, 'preparing', '', '', gen_random_uuid())`, unique},
		"a generation 0": {`INSERT INTO orchestrator_generations (replica_set, number, state, cause, reason, prepared_by)
			VALUES ('x', 0, 'preparing', '', '', gen_random_uuid())`, check},
		"an unknown generation's state": {`UPDATE orchestrator_generations SET state = 'odd'`, check},
		"superseded at no time":         {`UPDATE orchestrator_generations SET state = 'superseded'`, check},
		"active since never":            {`UPDATE orchestrator_generations SET activated_at = NULL`, check},
		"an unknown worker's state":     {`UPDATE orchestrator_workers SET state = 'odd'`, check},
		"a worker without partitions":   {`UPDATE orchestrator_workers SET partitions = 0`, check},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := o.pool.Exec(t.Context(), tt.sql)
			assert.Equal(t, tt.state, sqlState(err), "%v", err)
		})
	}
	for _, fits := range []string{`'x', 5, 7`, `'x', 0, 5`, `'y', 0, 65536`} {
		exec(t, o.pool, free+`'main', `+fits+`, 0)`)
	}
}
