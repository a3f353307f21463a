package pgcoord

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/slot"
)

// change asks for the generation after from.
func change(from int64, lost ...Loss) Change {
	return Change{From: from, Cause: CauseLost, Reason: "a test", By: uuid.New(), Lost: lost}
}

// held is a connection whose transaction stops before its commit.
type held struct {
	Conn
	reached chan uint32 // receives the backend's process id
	end     chan bool   // whether to commit
}

// hold makes transitions on db stop before they commit; those that are not told
// to are rolled back when the test ends.
func hold(t *testing.T, db Conn) held {
	t.Helper()
	h := held{Conn: db, reached: make(chan uint32, 1), end: make(chan bool)}
	t.Cleanup(func() { close(h.end) })
	return h
}

func (h held) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	tx, err := h.Conn.BeginTx(ctx, options)
	return heldTx{tx, h}, err
}

type heldTx struct {
	pgx.Tx
	held held
}

var errNotCommitted = errors.New("the test does not want the commit")

func (tx heldTx) Commit(ctx context.Context) error {
	if _, err := tx.Exec(ctx, `SET LOCAL idle_in_transaction_session_timeout = 0`); err != nil {
		return err
	}
	tx.held.reached <- tx.Conn().PgConn().PID()
	if !<-tx.held.end {
		return errNotCommitted
	}
	return tx.Tx.Commit(ctx)
}

// outcome is what a transition returned.
type outcome struct {
	number    int64
	activated bool
	err       error
}

// preparing runs Prepare in a goroutine.
func preparing(s *Store, db Conn, c Change) <-chan outcome {
	return async(func() (out outcome) {
		out.number, out.err = s.Prepare(context.Background(), db, c)
		return out
	})
}

// activating runs Activate in a goroutine.
func activating(s *Store, db Conn, a Activation) <-chan outcome {
	return async(func() (out outcome) {
		out.activated, out.err = s.Activate(context.Background(), db, a)
		return out
	})
}

func TestPrepareSupersedesTheGenerationBefore(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	w := join(t, s, pool, "orders")
	by := uuid.New()
	number, err := s.Prepare(t.Context(), pool, Change{Cause: CauseFirst, Reason: "a worker joined", By: by})
	require.NoError(t, err)
	assert.Equal(t, int64(1), number)
	v, err := s.Observe(t.Context(), pool, w, false)
	require.NoError(t, err)
	assert.Equal(t, Preparing, v.Generation.State)
	assert.Equal(t, CauseFirst, v.Generation.Cause)
	assert.Equal(t, "a worker joined", v.Generation.Reason)
	assert.Equal(t, by, value[uuid.UUID](t, pool, `SELECT prepared_by FROM orchestrator_generations`))

	for _, from := range []int64{0, 1, 2} {
		number, err = s.Prepare(t.Context(), pool, change(from))
		require.NoError(t, err)
		assert.Zero(t, number, "a generation in preparation is not superseded (from %d)", from)
	}
	setState(t, s, pool, w, Ready, 1)
	activated, err := s.Activate(t.Context(), pool, Activation{Number: 1})
	require.NoError(t, err)
	require.True(t, activated)
	for _, from := range []int64{0, 2} {
		number, err = s.Prepare(t.Context(), pool, change(from))
		require.NoError(t, err)
		assert.Zero(t, number, "the current generation is not %d", from)
	}
	number, err = s.Prepare(t.Context(), pool, change(1))
	require.NoError(t, err)
	assert.Equal(t, int64(2), number)
	assert.Equal(t, "superseded", value[string](t, pool, `SELECT state FROM orchestrator_generations WHERE number = 1 AND superseded_at IS NOT NULL`))
}

// A leader that believes in an old generation must not harm the workers that it
// would have declared dead.
func TestPrepareThatComesTooLateDeclaresNobodyDead(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	w := join(t, s, pool, "orders")
	number := generation(t, s, pool, 0, w)
	number = generation(t, s, pool, number, w)
	prepared, err := s.Prepare(t.Context(), pool, change(number-1, Loss{Worker: w, SessionGone: true}))
	require.NoError(t, err)
	require.Zero(t, prepared)
	assert.Equal(t, Running, stateOf(t, pool, w))
}

// The first leader's transaction is held open, the second waits behind it.
func TestOfTwoLeadersOnePrepares(t *testing.T) {
	t.Parallel()
	for _, from := range []int64{0, 1} {
		for _, commits := range []bool{true, false} {
			s, pool := newStore(t)
			w := join(t, s, pool, "orders")
			if from > 0 {
				generation(t, s, pool, 0, w)
			}
			h := hold(t, pool)
			first := preparing(s, h, change(from))
			pid := await(t, h.reached, "the first leader")
			second := preparing(s, pool, change(from))
			awaitBlockedBy(t, pool, pid)
			h.end <- commits
			if commits {
				assert.Equal(t, outcome{number: from + 1}, await(t, first, "the first leader"))
				assert.Equal(t, outcome{}, await(t, second, "the second leader"))
			} else {
				require.ErrorIs(t, await(t, first, "the first leader").err, errNotCommitted)
				assert.Equal(t, outcome{number: from + 1}, await(t, second, "the second leader"))
			}
			assert.Equal(t, 1, value[int](t, pool, `SELECT count(*) FROM orchestrator_generations WHERE state <> 'superseded'`))
		}
	}
}

func TestManyLeadersPrepareAndActivateAtOnce(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	w := join(t, s, pool, "orders")
	const leaders, rounds = 5, 12
	for from := range int64(rounds) {
		var won, activations numbers
		race(leaders, func() {
			number, err := s.Prepare(context.Background(), pool, change(from))
			assert.NoError(t, err)
			won.add(number)
		})
		require.Equal(t, from+1, won.sum(), "one wins, the others get 0")
		setState(t, s, pool, w, Ready, from+1)
		race(leaders, func() {
			activated, err := s.Activate(context.Background(), pool, Activation{Number: from + 1})
			assert.NoError(t, err)
			if activated {
				activations.add(1)
			}
		})
		require.Equal(t, int64(1), activations.sum())
	}
}

// race runs f several times at once and waits for all.
func race(n int, f func()) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for range n {
		all.Go(func() { <-start; f() })
	}
	close(start)
	all.Wait()
}

// numbers adds up what goroutines report.
type numbers struct {
	mu    sync.Mutex
	total int64
}

func (n *numbers) add(v int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.total += v
}

func (n *numbers) sum() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.total
}

func TestActivationWaitsForABatchAndSeesWhereItEnds(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	b := o.begin(t, whole(0), 10)
	number := prepare(t, o.Store, o.pool, o.fence.Generation)
	setState(t, o.Store, o.pool, o.worker, Ready, number)
	second := join(t, o.Store, o.pool, "orders")
	setState(t, o.Store, o.pool, second, Ready, number)
	activation := activating(o.Store, o.pool, Activation{Number: number})
	awaitBlockedBy(t, o.pool, b.conn.Conn().PgConn().PID())
	require.NoError(t, b.Commit(t.Context(), 7))
	require.Equal(t, outcome{activated: true}, await(t, activation, "the activation"))

	for key, w := range []uuid.UUID{o.worker, second} {
		p := slot.Partition{Key: key, Total: 2}
		rows, err := o.Assignment(t.Context(), o.pool, w, number)
		require.NoError(t, err)
		assert.Equal(t, []Checkpoint{{
			Projection: "orders", Piece: slot.Piece{Range: p.Range(), Position: 7}, Owner: w, Partition: p,
		}}, rows)
	}
	_, err := o.BeginBatch(t.Context(), o.pool, o.fence, whole(7), 20, BatchSettings{})
	require.ErrorIs(t, err, ErrMoved)
	assert.Empty(t, o.pieces(t), "the worker learns that it is fenced")
}

// Where the range and its owner stay the same only the generation tells.
func TestBatchOfTheGenerationBeforeIsFenced(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	generation(t, o.Store, o.pool, o.fence.Generation, o.worker)
	_, err := o.BeginBatch(t.Context(), o.pool, o.fence, whole(0), 20, BatchSettings{})
	require.ErrorIs(t, err, ErrMoved)
	assert.Empty(t, o.pieces(t))
	o.fence.Generation++
	o.advance(t, whole(0), 20)
}

// A batch that waits while the rows are rewritten must find them rewritten.
func TestBatchBehindAnActivationIsFenced(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	number := prepare(t, o.Store, o.pool, o.fence.Generation)
	setState(t, o.Store, o.pool, o.worker, Ready, number)
	h := hold(t, o.pool)
	activation := activating(o.Store, h, Activation{Number: number})
	pid := await(t, h.reached, "the activation")
	batch := async(func() error {
		_, err := o.BeginBatch(context.Background(), o.pool, o.fence, whole(0), 10, BatchSettings{})
		return err
	})
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
		setState(t, o.Store, o.pool, o.worker, Ready, number)
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
			_, err := o.Activate(context.Background(), o.pool, Activation{Number: number})
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
		setState(t, o.Store, o.pool, o.worker, Ready, number)
		done := activating(o.Store, o.pool, Activation{Number: number})
		reached := int64(0)
		for fenced := false; !fenced; {
			b, err := o.BeginBatch(t.Context(), o.pool, o.fence, slot.Lift(pieces, reached), reached+20, BatchSettings{})
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

// A member that leaves or fails while its partitions are given to it does so
// before, and gets none, or after.
func TestMembersWaitForTheActivation(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	w := join(t, s, pool, "orders")
	number := prepare(t, s, pool, 0)
	setState(t, s, pool, w, Ready, number)
	h := hold(t, pool)
	activation := activating(s, h, Activation{Number: number})
	pid := await(t, h.reached, "the activation")
	left := async(func() error { return s.Stop(context.Background(), pool, w, "leaves") })
	awaitBlockedBy(t, pool, pid)
	h.end <- true
	require.Equal(t, outcome{activated: true}, await(t, activation, "the activation"))
	require.NoError(t, await(t, left, "the departure"))
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
		activated, err := s.Activate(t.Context(), pool, Activation{Number: number, Exclude: []uuid.UUID{other}})
		require.NoError(t, err)
		assert.False(t, activated, why)
	}
	refused(0, "there is no generation")
	refused(1, "there is no generation")
	number := prepare(t, s, pool, 0)
	setState(t, stranger, pool, foreign, Ready, number)
	refused(number, "nobody is ready")
	setState(t, s, pool, w, Ready, number-1)
	refused(number, "the worker is ready for another generation")
	setState(t, s, pool, w, Running, number)
	refused(number, "the worker runs")
	setState(t, s, pool, w, Ready, number)
	refused(number+1, "that one is not in preparation")
	assert.Equal(t, "preparing", value[string](t, pool, `SELECT state FROM orchestrator_generations`))
	assert.Equal(t, Pending, stateOf(t, pool, other), "who refuses excludes nobody")
	activated, err := s.Activate(t.Context(), pool, Activation{Number: number})
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
		setState(t, s, pool, w, Ready, number)
		h := hold(t, pool)
		first := activating(s, h, Activation{Number: number})
		pid := await(t, h.reached, "the first leader")
		second := activating(s, pool, Activation{Number: number})
		awaitBlockedBy(t, pool, pid)
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
		state      WorkerState
		generation int64
		want       WorkerState
	}{
		{Ready, number, Ready}, {Pending, 0, Dead}, {Ready, number - 1, Dead}, {Running, number, Dead},
		{Stopping, number, Stopping}, {Stopped, number, Stopped},
	}
	workers := make([]uuid.UUID, len(states))
	for i, w := range states {
		workers[i] = join(t, s, pool, "orders")
		setState(t, s, pool, workers[i], w.state, w.generation)
	}
	unnamed := join(t, s, pool, "orders")
	stranger := open(t, pool, "stranger")
	foreign := join(t, stranger, pool, "letters")
	activated, err := s.Activate(t.Context(), pool, Activation{
		Number: number, Exclude: append(workers, foreign), Detail: "did not stop within 1m",
	})
	require.NoError(t, err)
	require.True(t, activated)
	for i, w := range states {
		assert.Equal(t, w.want, stateOf(t, pool, workers[i]), "%s for %d", w.state, w.generation)
		if w.want == Dead {
			assert.Equal(t, "did not stop within 1m", detailOf(t, pool, workers[i]))
		}
	}
	assert.Equal(t, Pending, stateOf(t, pool, unnamed))
	assert.Equal(t, Pending, stateOf(t, pool, foreign))
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
	_, err := o.BeginBatch(t.Context(), o.pool, o.fence, whole(10), 20, BatchSettings{})
	require.ErrorIs(t, err, ErrMoved)
	assert.True(t, value[bool](t, o.pool, `SELECT worker_id IS NULL AND partition_key IS NULL AND position = 10
		FROM orchestrator_checkpoints WHERE projection = 'orders'`))
}

func TestActivationThatIsRolledBackChangesNothing(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	number := prepare(t, o.Store, o.pool, o.fence.Generation)
	late, other := join(t, o.Store, o.pool, "orders"), join(t, o.Store, o.pool, "orders")
	setState(t, o.Store, o.pool, other, Ready, number)
	h := hold(t, o.pool)
	activation := activating(o.Store, h, Activation{Number: number, Exclude: []uuid.UUID{late}})
	await(t, h.reached, "the activation")
	h.end <- false
	require.ErrorIs(t, await(t, activation, "the activation").err, errNotCommitted)
	assert.Equal(t, whole(0), o.pieces(t))
	assert.Equal(t, Pending, stateOf(t, o.pool, late))
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
	current, want := int64(0), claimed("orders")
	for round, n := range []int{1, 3, 2, 5, 4, 1, 5} {
		current = generation(t, s, pool, current, workers[:n]...)
		var rows []Checkpoint
		for _, w := range workers[:n] {
			own, err := s.Assignment(t.Context(), pool, w, current)
			require.NoError(t, err)
			rows = append(rows, own...)
		}
		require.Equal(t, positions(t, want, "orders"), positions(t, rows, "orders"))
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
			setState(t, s, pool, w, Pending, 0)
		}
	}
}

func TestGenerationsAreNotified(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	listener := listen(t, s, pool)
	ctx := t.Context()
	m := membership("orders")
	require.NoError(t, s.Join(ctx, pool, m))
	assert.Equal(t, "joined "+m.ID.String(), hears(t, listener))
	c := change(0)
	number, err := s.Prepare(ctx, pool, c)
	require.NoError(t, err)
	assert.Equal(t, "generation "+c.By.String(), hears(t, listener))
	setState(t, s, pool, m.ID, Ready, number)
	assert.Equal(t, "ready "+m.ID.String(), hears(t, listener))
	_, err = s.Activate(ctx, pool, Activation{Number: number, By: m.ID})
	require.NoError(t, err)
	assert.Equal(t, "generation "+m.ID.String(), hears(t, listener))
	setState(t, s, pool, m.ID, Running, number)
	require.NoError(t, s.MarkDead(ctx, pool, []Loss{{Worker: m.ID, Stale: -time.Hour}}))
	require.NoError(t, s.Rejoin(ctx, pool, m.ID))
	assert.Equal(t, "joined "+m.ID.String(), hears(t, listener), "running and dead are not told")
	require.NoError(t, s.Stop(ctx, pool, m.ID, ""))
	assert.Equal(t, "left "+m.ID.String(), hears(t, listener))
}

// Transitions and batches see what they waited for, whatever isolation the
// application prefers for its own transactions.
func TestConnectionsDefaultsDoNotMatter(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	config := o.pool.Config()
	config.ConnConfig.RuntimeParams["default_transaction_isolation"] = "serializable"
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)

	first, err := o.BeginBatch(t.Context(), pool, o.fence, whole(0), 10, BatchSettings{})
	require.NoError(t, err)
	pid := first.conn.Conn().PgConn().PID()
	second := async(func() error {
		_, err := o.BeginBatch(context.Background(), pool, o.fence, whole(0), 10, BatchSettings{})
		return err
	})
	awaitBlockedBy(t, o.pool, pid)
	require.NoError(t, first.Commit(t.Context(), 10))
	require.ErrorIs(t, await(t, second, "the second batch"), ErrMoved)

	h := hold(t, pool)
	leader := preparing(o.Store, h, change(o.fence.Generation))
	pid = await(t, h.reached, "the leader")
	other := preparing(o.Store, pool, change(o.fence.Generation))
	awaitBlockedBy(t, o.pool, pid)
	h.end <- true
	number := o.fence.Generation + 1
	require.Equal(t, outcome{number: number}, await(t, leader, "the leader"))
	require.Equal(t, outcome{}, await(t, other, "the other leader"))

	setState(t, o.Store, o.pool, o.worker, Ready, number)
	last := o.begin(t, whole(10), 20)
	activation := activating(o.Store, pool, Activation{Number: number})
	awaitBlockedBy(t, o.pool, last.conn.Conn().PgConn().PID())
	require.NoError(t, last.Commit(t.Context(), 20))
	require.Equal(t, outcome{activated: true}, await(t, activation, "the activation"))
	o.fence.Generation = number
	assert.Equal(t, whole(20), o.pieces(t))
}

// A transition of a leader that freezes is found by its name and ended soon.
func TestTransitionsAreNamedAndBounded(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	by := uuid.New()
	one := single(t, pool, map[string]string{"application_name": "the application"})
	var seen []string
	require.NoError(t, s.inTransaction(t.Context(), one, by, func(tx pgx.Tx) error {
		seen = value[[]string](t, tx, `SELECT ARRAY[current_setting('application_name'), current_setting('idle_in_transaction_session_timeout')]`)
		return nil
	}))
	assert.Equal(t, []string{ApplicationName(by), "2s"}, seen)
	assert.Equal(t, "the application", value[string](t, one, `SELECT current_setting('application_name')`))
	assert.Equal(t, "0", value[string](t, one, `SELECT current_setting('idle_in_transaction_session_timeout')`))
}
