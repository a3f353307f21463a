package pgcoord

import (
	"context"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

func TestActivationWaitsForABatchAndSeesWhereItEnds(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	b := o.begin(t, whole(0), 10)
	number := prepare(t, o.Store, o.pool, o.fence.Generation)
	setState(t, o.Store, o.pool, o.worker, replicaset.Ready, number)
	second := join(t, o.Store, o.pool, "orders")
	setState(t, o.Store, o.pool, second, replicaset.Ready, number)
	activation := activating(o.Store, o.pool, replicaset.Activation{Number: number})
	awaitBlockedBy(t, o.pool, b.conn.Conn().PgConn().PID())
	require.NoError(t, b.Commit(t.Context(), 7))
	require.Equal(t, outcome{activated: true}, await(t, activation, "the activation"))

	divided := map[slot.Partition]slot.Piece{}
	for _, w := range []uuid.UUID{o.worker, second} {
		rows, err := o.Assignment(t.Context(), o.pool, w, number)
		require.NoError(t, err)
		require.Len(t, rows, 1)
		divided[rows[0].Partition] = rows[0].Piece
	}
	assert.Equal(t, map[slot.Partition]slot.Piece{
		{Key: 0, Total: 2}: {Range: slot.Range{From: 0, To: 32768}, Position: 7},
		{Key: 1, Total: 2}: {Range: slot.Range{From: 32768, To: 65536}, Position: 7},
	}, divided)
	o.refused(t, o.fence, whole(7), 20)
	assert.Empty(t, o.pieces(t), "the worker learns that it is fenced")
}

// Where the range and its owner stay the same only the generation tells.
func TestBatchOfTheGenerationBeforeIsFenced(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	generation(t, o.Store, o.pool, o.fence.Generation, o.worker)
	o.refused(t, o.fence, whole(0), 20)
	assert.Empty(t, o.pieces(t))
	o.fence.Generation++
	o.advance(t, whole(0), 20)
}

// A batch that waits while the rows are rewritten must find them rewritten.
func TestBatchBehindAnActivationIsFenced(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	number := prepare(t, o.Store, o.pool, o.fence.Generation)
	setState(t, o.Store, o.pool, o.worker, replicaset.Ready, number)
	h := hold(t, o.pool)
	activation := activating(o.Store, h, replicaset.Activation{Number: number})
	pid := await(t, h.reached, "the activation")
	batch := async(func() error { return o.attempt(context.Background(), o.pool, o.fence, whole(0), 10) })
	awaitBlockedBy(t, o.pool, pid)
	h.end <- true
	require.Equal(t, outcome{activated: true}, await(t, activation, "the activation"))
	require.ErrorIs(t, await(t, batch, "the batch"), ErrMoved)
}

// A third transaction holds the row in the middle, so that a batch and an
// activation are both under way when it lets go. If they took the rows in
// different orders, one would be ended as the victim of a deadlock.
func TestBatchesAndActivationsTakeTheRowsInOneOrder(t *testing.T) {
	t.Parallel()
	for _, batchFirst := range []bool{true, false} {
		o := newOwner(t)
		pieces := o.cut(t, 0, 0, 0)
		number := prepare(t, o.Store, o.pool, o.fence.Generation)
		setState(t, o.Store, o.pool, o.worker, replicaset.Ready, number)
		blocker, err := o.pool.Begin(t.Context())
		require.NoError(t, err)
		defer func() { _ = blocker.Rollback(context.Background()) }()
		exec(t, blocker, `SELECT FROM orchestrator_checkpoints WHERE slot_from = 1000 FOR UPDATE`)

		backwards := []slot.Piece{pieces[2], pieces[1], pieces[0]}
		batch := func() error {
			b, err := o.BeginBatch(context.Background(), o.pool, o.fence, backwards, 10, BatchSettings{})
			if err != nil {
				return err
			}
			return b.Commit(context.Background(), 10)
		}
		activation := func() error {
			_, err := o.Activate(context.Background(), o.pool, replicaset.Activation{Number: number}, nil)
			return err
		}
		first, second := batch, activation
		if !batchFirst {
			first, second = activation, batch
		}
		one := async(first)
		awaitBlockedBy(t, o.pool, blocker.Conn().PgConn().PID())
		two := async(second)
		eventually(t, o.pool, "the second never waited",
			`SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0`)
		require.NoError(t, blocker.Rollback(t.Context()))
		require.NoError(t, await(t, one, "the first"))
		err = await(t, two, "the second")
		if batchFirst {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, ErrMoved)
	}
}

func TestBatchesAndActivationsNeverDeadlock(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	current := o.fence.Generation
	for round := range 25 {
		o.fence.Generation = current
		pieces := o.cut(t, 1, 2, 3, 4, 5, 6, 7, 8)
		number := prepare(t, o.Store, o.pool, current)
		setState(t, o.Store, o.pool, o.worker, replicaset.Ready, number)
		done := activating(o.Store, o.pool, replicaset.Activation{Number: number})
		reached := int64(0)
		for fenced := false; !fenced; {
			b, err := o.BeginBatch(t.Context(), o.pool, o.fence, slot.Advance(pieces, reached), reached+20, BatchSettings{})
			if fenced = err != nil; fenced {
				require.ErrorIs(t, err, ErrMoved)
				break
			}
			reached += 10
			require.NoError(t, b.Commit(t.Context(), reached))
		}
		require.Equal(t, outcome{activated: true}, await(t, done, "the activation"))
		after, err := o.Assignment(t.Context(), o.pool, o.worker, number)
		require.NoError(t, err)
		require.Len(t, after, map[bool]int{true: 8, false: 1}[reached == 0], "round %d", round)
		require.Equal(t, max(reached, 1), after[0].Position)
		current = number
	}
}

// A member that leaves while the activation waits for a batch does so after it:
// no partition is given to somebody who has gone.
func TestMembersWaitForTheActivation(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	batch := o.begin(t, whole(0), 10)
	number := prepare(t, o.Store, o.pool, o.fence.Generation)
	setState(t, o.Store, o.pool, o.worker, replicaset.Ready, number)
	leader := dial(t, o.pool)
	activation := activating(o.Store, leader, replicaset.Activation{Number: number})
	awaitBlocked(t, o.pool, leader.PgConn().PID())
	left := async(func() error { return o.Stop(context.Background(), o.pool, o.worker, "leaves") })
	awaitBlockedBy(t, o.pool, leader.PgConn().PID())
	require.NoError(t, batch.Commit(t.Context(), 10))
	require.Equal(t, outcome{activated: true}, await(t, activation, "the activation"))
	require.NoError(t, await(t, left, "the departure"))
	assert.Equal(t, replicaset.Stopped, stateOf(t, o.pool, o.worker))
}

func TestActivateIsRefused(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	w := join(t, s, pool, "orders")
	other := join(t, s, pool, "orders")
	stranger := open(t, pool, "stranger")
	foreign := join(t, stranger, pool, "letters")
	refused := func(number int64, why string) {
		t.Helper()
		activated, err := isActive(s.Activate(t.Context(), pool, replicaset.Activation{Number: number, Exclude: []uuid.UUID{other}}, nil))
		require.NoError(t, err)
		assert.False(t, activated, why)
	}
	refused(0, "there is no generation")
	refused(1, "there is no generation")
	number := prepare(t, s, pool, 0)
	setState(t, stranger, pool, foreign, replicaset.Ready, number)
	refused(number, "nobody is ready")
	setState(t, s, pool, w, replicaset.Ready, number-1)
	refused(number, "the worker is ready for another generation")
	setState(t, s, pool, w, replicaset.Running, number)
	refused(number, "the worker runs")
	setState(t, s, pool, w, replicaset.Ready, number)
	setState(t, s, pool, other, replicaset.Ready, number+1)
	refused(number+1, "that one is not in preparation")
	setState(t, s, pool, other, replicaset.Pending, 0)
	assert.Equal(t, "preparing", value[string](t, pool, `SELECT state FROM orchestrator_generations`))
	assert.Equal(t, replicaset.Pending, stateOf(t, pool, other), "who refuses excludes nobody")
	activated, err := isActive(s.Activate(t.Context(), pool, replicaset.Activation{Number: number}, nil))
	require.NoError(t, err)
	require.True(t, activated)
	refused(number, "it is active already")
}

func TestOfTwoLeadersOneActivates(t *testing.T) {
	t.Parallel()
	for _, commits := range []bool{true, false} {
		s, pool := newStore(t)
		w := join(t, s, pool, "orders")
		number := prepare(t, s, pool, 0)
		setState(t, s, pool, w, replicaset.Ready, number)
		h := hold(t, pool)
		first := activating(s, h, replicaset.Activation{Number: number})
		pid := await(t, h.reached, "the first leader")
		second := activating(s, pool, replicaset.Activation{Number: number})
		awaitBlockedBy(t, pool, pid)
		assert.Contains(t, value[string](t, pool, `SELECT query FROM pg_stat_activity WHERE $1::int = ANY(pg_blocking_pids(pid))`, pid),
			"orchestrator_generations", "the second leader goes by a state that the first one is changing")
		h.end <- commits
		await(t, first, "the first leader")
		assert.Equal(t, outcome{activated: !commits}, await(t, second, "the second leader"))
	}
}

func TestActivateExcludesWhoIsNotReady(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	number := prepare(t, s, pool, 0)
	states := []struct {
		state      replicaset.WorkerState
		generation int64
		want       replicaset.WorkerState
	}{
		{replicaset.Ready, number, replicaset.Ready},
		{replicaset.Pending, 0, replicaset.Dead},
		{replicaset.Ready, number - 1, replicaset.Dead},
		{replicaset.Running, number, replicaset.Dead},
		{replicaset.Stopping, number, replicaset.Stopping},
		{replicaset.Stopped, number, replicaset.Stopped},
	}
	workers := make([]uuid.UUID, len(states))
	for i, w := range states {
		workers[i] = join(t, s, pool, "orders")
		setState(t, s, pool, workers[i], w.state, w.generation)
	}
	unnamed := join(t, s, pool, "orders")
	stranger := open(t, pool, "stranger")
	foreign := join(t, stranger, pool, "letters")
	activated, err := s.Activate(t.Context(), pool, replicaset.Activation{
		Number: number, Exclude: slices.Concat(workers, []uuid.UUID{foreign}), Detail: "did not stop within 1m",
	}, nil)
	require.NoError(t, err)
	require.True(t, activated.Active)
	for i, w := range states {
		assert.Equal(t, w.want, stateOf(t, pool, workers[i]), "%s for %d", w.state, w.generation)
		if w.want == replicaset.Dead {
			assert.Equal(t, "did not stop within 1m", detailOf(t, pool, workers[i]))
		}
	}
	assert.Equal(t, replicaset.Pending, stateOf(t, pool, unnamed))
	assert.Equal(t, replicaset.Pending, stateOf(t, pool, foreign))
	v, err := s.Observe(t.Context(), pool, workers[0], false)
	require.NoError(t, err)
	assert.Equal(t, workers[:1], v.Generation.Members)
}

func TestActivationTouchesOnlyItsReplicaSet(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	stranger := open(t, o.pool, "stranger")
	w := join(t, stranger, o.pool, "letters")
	generation(t, stranger, o.pool, 0, w)
	o.advance(t, whole(0), 10)
	assert.Equal(t, 2, value[int](t, o.pool, `SELECT count(*) FROM orchestrator_generations WHERE state = 'active'`))
}

func TestProjectionThatNobodyRunsIsOwnedByNobody(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	o.advance(t, whole(0), 10)
	other := join(t, o.Store, o.pool, "letters")
	generation(t, o.Store, o.pool, o.fence.Generation, other)
	o.refused(t, o.fence, whole(10), 20)
	assert.True(t, value[bool](t, o.pool, `SELECT worker_id IS NULL AND partition_key IS NULL AND position = 10
		FROM orchestrator_checkpoints WHERE projection = 'orders'`))
}

func TestActivationThatIsRolledBackChangesNothing(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	number := prepare(t, o.Store, o.pool, o.fence.Generation)
	late, other := join(t, o.Store, o.pool, "orders"), join(t, o.Store, o.pool, "orders")
	setState(t, o.Store, o.pool, other, replicaset.Ready, number)
	h := hold(t, o.pool)
	activation := activating(o.Store, h, replicaset.Activation{Number: number, Exclude: []uuid.UUID{late}})
	await(t, h.reached, "the activation")
	h.end <- false
	require.ErrorIs(t, await(t, activation, "the activation").err, errNotCommitted)
	assert.Equal(t, whole(0), o.pieces(t))
	assert.Equal(t, replicaset.Pending, stateOf(t, o.pool, late))
}

// bySlot is the position of every slot; -1 where there is none, -2 where there are several.
func bySlot(rows []replicaset.Checkpoint) []int64 {
	positions := slices.Repeat([]int64{-1}, slot.Count)
	for _, row := range rows {
		for s := row.From; s < row.To; s++ {
			if positions[s] != -1 {
				positions[s] = -2
				continue
			}
			positions[s] = row.Position
		}
	}
	return positions
}

// Positions go through any sequence of Ns without a replay and without a gap,
// while the workers take turns.
func TestPositionsSurviveEveryNumberOfWorkers(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	var workers []uuid.UUID
	for range 5 {
		workers = append(workers, join(t, s, pool, "orders"))
	}
	current, want := int64(0), []replicaset.Checkpoint{{Piece: slot.Piece{Range: slot.All()}}}
	for round, n := range []int{1, 3, 2, 5, 4, 1, 5} {
		current = generation(t, s, pool, current, workers[:n]...)
		var rows []replicaset.Checkpoint
		for _, w := range workers[:n] {
			own, err := s.Assignment(t.Context(), pool, w, current)
			require.NoError(t, err)
			rows = append(rows, own...)
		}
		require.Equal(t, bySlot(want), bySlot(rows))
		f := Fence{Projection: "orders", Partition: rows[0].Partition, Generation: current, Worker: rows[0].Owner}
		pieces, err := s.Pieces(t.Context(), pool, f)
		require.NoError(t, err)
		upTo := int64(10 * (round + 1))
		b, err := s.BeginBatch(t.Context(), pool, f, pieces, upTo, BatchSettings{})
		require.NoError(t, err)
		require.NoError(t, b.Commit(t.Context(), upTo))
		want = rows
		for i := range want {
			if want[i].Partition == f.Partition {
				want[i].Position = upTo
			}
		}
		for _, w := range workers {
			setState(t, s, pool, w, replicaset.Pending, 0)
		}
	}
}
