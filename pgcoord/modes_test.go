package pgcoord

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// Behind PgBouncer applications choose a mode without prepared statements.
func TestEveryQueryExecModeGoesThroughTheWholeCycle(t *testing.T) {
	t.Parallel()
	modes := []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	}
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			config := pgtest.NewDatabase(t).Config()
			config.ConnConfig.RuntimeParams["array_nulls"] = "off"
			pool := pgtest.PoolInMode(t, config, mode)
			createTables(t, pool)
			goThroughTheWholeCycle(t, pool, "")
		})
	}
}

// A role's extra_float_digits decides how many digits a float has in an answer that comes as text. Ages and the clock must not depend on it.
func TestTimesAreExactWhateverTheDigits(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		config := pgtest.NewDatabase(t).Config()
		config.ConnConfig.RuntimeParams["extra_float_digits"] = "-15"
		pool := pgtest.PoolInMode(t, config, mode)
		createTables(t, pool)
		s := openIn(t, pool, "", "set")
		m := membership("p")
		require.NoError(t, s.Join(t.Context(), pool, m))
		seen, err := s.Glance(t.Context(), pool, m.ID)
		require.NoError(t, err)
		assert.WithinDuration(t, time.Now(), time.Unix(0, 0).Add(seen.Clock), time.Minute, mode.String())
	}
}

func goThroughTheWholeCycle(t *testing.T, pool *pgxpool.Pool, schema string) {
	t.Helper()
	ctx := t.Context()
	s := openIn(t, pool, schema, "it's \\ a $1 name")
	m, other := membership("ord'ers", `"q"`, "{a,b}", "NULL", ""), membership("ord'ers")
	m.Unpartitioned = []string{`"q"`, "NULL"}
	require.NoError(t, s.Join(ctx, pool, m))
	require.NoError(t, s.Join(ctx, pool, other))
	stranger := openIn(t, pool, schema, "another")
	claimed := &ClaimedError{}
	require.ErrorAs(t, stranger.Claim(ctx, pool, []string{"mine", "ord'ers"}), &claimed)
	assert.Equal(t, "it's \\ a $1 name", claimed.ReplicaSet)

	alive, err := s.Heartbeat(ctx, pool, m.ID)
	require.NoError(t, err)
	assert.True(t, alive)
	number := generation(t, s, pool, 0, m.ID, other.ID)
	checkAssignments(t, s, pool, m.ID, other.ID)

	f := Fence{Projection: "ord'ers", Generation: number, Worker: other.ID}
	rows, err := s.Assignment(ctx, pool, other.ID, number)
	require.NoError(t, err)
	require.Len(t, rows, 1)
	f.Partition = rows[0].Partition
	pieces, err := s.Pieces(ctx, pool, f)
	require.NoError(t, err)
	require.Equal(t, []slot.Piece{rows[0].Piece}, pieces)
	for i, settings := range []BatchSettings{{IdleTimeout: time.Minute}, {SynchronousCommit: true}} {
		b, err := s.BeginBatch(ctx, pool, f, pieces, 10+int64(i), settings)
		require.NoError(t, err)
		exec(t, b.Tx(), `CREATE TABLE IF NOT EXISTS handled AS SELECT 1`)
		require.NoError(t, b.Commit(ctx, 5+int64(i)))
		pieces = slot.Advance(pieces, 5+int64(i))
		again, err := s.Pieces(ctx, pool, f)
		require.NoError(t, err)
		require.Equal(t, pieces, again)
	}
	_, err = s.BeginBatch(ctx, pool, f, []slot.Piece{rows[0].Piece}, 11, BatchSettings{})
	require.ErrorIs(t, err, ErrMoved)
	checkRegressions(t, s.Regressions(pool), 6)

	event := es.PersistedEvent{GlobalPosition: 7, EventID: uuid.New(), EventType: "o'", AggregateID: aggregateIn(t, pool, rows[0].Range)}
	attempts, err := s.RecordFailure(ctx, dbguard.New(pool).InTransactions(), f, Letter{Event: event, Attempts: 1, Error: "it's \\ $1"})
	require.NoError(t, err)
	require.Equal(t, 1, attempts)
	skipped, err := s.RecordSkipped(ctx, dbguard.New(pool).InTransactions(), f)
	require.NoError(t, err)
	require.Empty(t, skipped)
	b, err := s.BeginBatch(ctx, pool, f, pieces, 7, BatchSettings{})
	require.NoError(t, err)
	b.Recovered([]int64{7})
	require.NoError(t, b.Commit(ctx, 7))
	assert.Equal(t, "handled", value[string](t, pool, s.q(`SELECT state FROM {{schema}}orchestrator_dead_letters WHERE last_error = $1`), "it's \\ $1"))
	retrying, err := s.Unsettled(ctx, pool)
	require.NoError(t, err)
	assert.Empty(t, retrying)
	require.NoError(t, s.Prune(ctx, pool, 10))
	require.NoError(t, s.PruneFailures(ctx, pool, 10))
	checkOutcomes(t, s, pool, f, slot.Advance(pieces, 7), event)
	changeAndLeave(t, s, pool, number, m.ID, other.ID)
}

// checkOutcomes skips an event, parks an aggregate with two letters, and stops.
func checkOutcomes(t *testing.T, s *Store, pool *pgxpool.Pool, f Fence, pieces []slot.Piece, event es.PersistedEvent) {
	t.Helper()
	event.AggregateType, event.BoundedContext = "NULL", `{"a\,'`
	letter := Letter{Event: event, Attempts: 1, Error: "it's \\ $1"}
	for position, decide := range []func(*Batch){
		8:  func(b *Batch) { b.Skip(letter) },
		9:  func(b *Batch) { b.Park(letter, 7) },
		10: func(b *Batch) { b.PutAside(packedEvents(letter, 10)) },
		11: func(b *Batch) { b.Stop(letter) },
	} {
		if decide == nil {
			continue
		}
		letter.Event.GlobalPosition = int64(position)
		b, err := s.BeginBatch(t.Context(), pool, f, pieces, int64(position), BatchSettings{})
		require.NoError(t, err)
		decide(b)
		require.NoError(t, b.Commit(t.Context(), min(10, int64(position))))
		pieces = slot.Advance(pieces, min(10, int64(position)))
	}
	parked, err := s.Parked(t.Context(), pool, f.Projection)
	require.NoError(t, err)
	require.Len(t, parked, 1)
	assert.Equal(t, replicaset.Aggregate{BoundedContext: event.BoundedContext, Type: event.AggregateType, ID: event.AggregateID}, parked[0].Aggregate)
	assert.Equal(t, 2, parked[0].Letters)
	stopped, err := s.Pieces(t.Context(), pool, f)
	require.NoError(t, err)
	for i := range pieces {
		pieces[i].Stopped, pieces[i].Revision = 11, 1
	}
	assert.Equal(t, pieces, stopped)
}

// checkAssignments observes a generation of two workers.
func checkAssignments(t *testing.T, s *Store, pool *pgxpool.Pool, first, second uuid.UUID) {
	t.Helper()
	v, err := s.Observe(t.Context(), pool, first, false)
	require.NoError(t, err)
	assert.Equal(t, replicaset.Active, v.Generation.State)
	assert.ElementsMatch(t, []uuid.UUID{first, second}, v.Generation.Members)
	require.Len(t, v.Workers, 2)
	w, ok := v.Worker(first)
	require.True(t, ok)
	assert.Equal(t, replicaset.Running, w.State)
	assert.Equal(t, []string{"ord'ers", `"q"`, "{a,b}", "NULL", ""}, w.Projections)
	assert.Equal(t, []string{`"q"`, "NULL"}, w.Unpartitioned)
	assert.True(t, w.HasSession)
	assert.Zero(t, w.SessionPID)
	rows, err := s.Assignment(t.Context(), pool, first, v.Generation.Number)
	require.NoError(t, err)
	assert.Len(t, rows, 5)
}

// changeAndLeave declares one worker dead, excludes it, lets it come back, and
// lets both leave.
func changeAndLeave(t *testing.T, s *Store, pool *pgxpool.Pool, number int64, dead, stays uuid.UUID) {
	t.Helper()
	ctx := t.Context()
	prepared, err := s.Prepare(ctx, pool, replicaset.Preparation{
		From: number, Changes: []replicaset.Change{{Kind: replicaset.Lost, Name: "o'hara \\", Detail: "it's {\"x\"}"}}, By: stays,
		Lost: []replicaset.Loss{{Worker: dead, Detail: "it's gone", SessionGone: true}, {Worker: stays, Heartbeat: "0.000000"}},
	})
	require.NoError(t, err)
	require.Equal(t, number+1, prepared.Number)
	setState(t, s, pool, stays, replicaset.Ready, prepared.Number)
	require.NoError(t, s.Rejoin(ctx, pool, dead))
	activated, err := isActive(s.Activate(ctx, pool, replicaset.Activation{Number: prepared.Number, By: stays, Exclude: []uuid.UUID{dead}, Detail: "it's late"}, nil))
	require.NoError(t, err)
	require.True(t, activated)
	v, err := s.Observe(ctx, pool, dead, false)
	require.NoError(t, err)
	assert.Equal(t, []uuid.UUID{stays}, v.Generation.Members)
	w, _ := v.Worker(dead)
	assert.Equal(t, replicaset.Dead, w.State)
	blockers, err := s.Blockers(ctx, pool, 1)
	require.NoError(t, err)
	assert.Empty(t, blockers)
	require.NoError(t, s.EndBackend(ctx, pool, 1, dead))
	require.NoError(t, s.Stop(ctx, pool, dead, "it's over"))
	require.NoError(t, s.Stop(ctx, pool, stays, "it's over"))
	assert.Equal(t, 2, value[int](t, pool, s.q(`SELECT count(*) FROM {{schema}}orchestrator_workers WHERE state = 'stopped' AND detail = $1`), "it's over"))
}
