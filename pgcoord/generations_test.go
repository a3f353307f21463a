package pgcoord

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// change asks for the generation after from.
func change(from int64, lost ...replicaset.Loss) replicaset.Preparation {
	return replicaset.Preparation{From: from, Changes: aTest, By: uuid.New(), Lost: lost}
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
func preparing(s *Store, db Conn, c replicaset.Preparation) <-chan outcome {
	return async(func() (out outcome) {
		out.number, out.err = numberOf(s.Prepare(context.Background(), db, c))
		return out
	})
}

// activating runs Activate in a goroutine.
func activating(s *Store, db Conn, a replicaset.Activation) <-chan outcome {
	return async(func() (out outcome) {
		out.activated, out.err = isActive(s.Activate(context.Background(), db, a, nil))
		return out
	})
}

func TestPrepareSupersedesTheGenerationBefore(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	w := join(t, s, pool, "orders")
	by := uuid.New()
	number, err := numberOf(s.Prepare(t.Context(), pool, replicaset.Preparation{Changes: []replicaset.Change{{Kind: replicaset.Joined, Name: "ann", Worker: by}}, By: by}))
	require.NoError(t, err)
	assert.Equal(t, int64(1), number)
	v, err := s.Observe(t.Context(), pool, w, false)
	require.NoError(t, err)
	assert.Equal(t, replicaset.Preparing, v.Generation.State)
	assert.Equal(t, replicaset.CauseFirst, v.Generation.Cause)
	assert.Equal(t, replicaset.Called("ann", by)+" joined", v.Generation.Reason)
	assert.Equal(t, by, value[uuid.UUID](t, pool, `SELECT prepared_by FROM orchestrator_generations`))

	for _, from := range []int64{0, 1, 2} {
		number, err = numberOf(s.Prepare(t.Context(), pool, change(from)))
		require.NoError(t, err)
		assert.Zero(t, number, "a generation in preparation is not superseded (from %d)", from)
	}
	setState(t, s, pool, w, replicaset.Ready, 1)
	activated, err := isActive(s.Activate(t.Context(), pool, replicaset.Activation{Number: 1}, nil))
	require.NoError(t, err)
	require.True(t, activated)
	for _, from := range []int64{0, 2} {
		number, err = numberOf(s.Prepare(t.Context(), pool, change(from)))
		require.NoError(t, err)
		assert.Zero(t, number, "the current generation is not %d", from)
	}
	number, err = numberOf(s.Prepare(t.Context(), pool, change(1)))
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
	prepared, err := numberOf(s.Prepare(t.Context(), pool, change(number-1, replicaset.Loss{Worker: w, SessionGone: true})))
	require.NoError(t, err)
	require.Zero(t, prepared)
	assert.Equal(t, replicaset.Running, stateOf(t, pool, w))
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

// Without session locks any number of workers may hold themselves for the leader.
func TestManyLeadersPrepareAndActivateAtOnce(t *testing.T) {
	t.Parallel()
	eachWay(t, checkManyLeaders)
}

func checkManyLeaders(t *testing.T, pool *pgxpool.Pool) {
	s := open(t, pool, "main")
	w := join(t, s, pool, "orders")
	const leaders, rounds = 5, 12
	for from := range int64(rounds) {
		var won, activations numbers
		race(leaders, func() {
			number, err := numberOf(s.Prepare(context.Background(), pool, change(from)))
			assert.NoError(t, err)
			won.add(number)
		})
		require.Equal(t, from+1, won.sum(), "one wins, the others get 0")
		setState(t, s, pool, w, replicaset.Ready, from+1)
		race(leaders, func() {
			activated, err := isActive(s.Activate(context.Background(), pool, replicaset.Activation{Number: from + 1}, nil))
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

func TestGenerationsAreNotified(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	listener := listen(t, s, pool)
	ctx := t.Context()
	m := membership("orders")
	require.NoError(t, s.Join(ctx, pool, m))
	assert.Equal(t, "joined "+m.ID.String(), hears(t, listener))
	other := membership("orders")
	require.NoError(t, s.Join(ctx, pool, other))
	assert.Equal(t, "joined "+other.ID.String(), hears(t, listener))
	c := change(0)
	number, err := numberOf(s.Prepare(ctx, pool, c))
	require.NoError(t, err)
	assert.Equal(t, "generation "+c.By.String(), hears(t, listener))
	require.NoError(t, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		exec(t, tx, `UPDATE orchestrator_generations SET created_at = now()`)
		setState(t, s, tx, m.ID, replicaset.Ready, number) // at once, and not the last: nobody is told
		setState(t, s, tx, other.ID, replicaset.Ready, number)
		return nil
	}))
	assert.Equal(t, "ready "+other.ID.String(), hears(t, listener), "it is the last")
	exec(t, pool, `UPDATE orchestrator_workers SET generation = $2 WHERE worker_id = $1`, other.ID, number-1)
	exec(t, pool, `UPDATE orchestrator_generations SET created_at = created_at - interval '2 s'`)
	setState(t, s, pool, m.ID, replicaset.Ready, number)
	assert.Equal(t, "ready "+m.ID.String(), hears(t, listener), "the leader looks seldom by now")
	require.NoError(t, s.Stop(ctx, pool, other.ID, ""))
	assert.Equal(t, "left "+other.ID.String(), hears(t, listener))
	_, err = s.Activate(ctx, pool, replicaset.Activation{Number: number, By: m.ID}, nil)
	require.NoError(t, err)
	assert.Equal(t, "generation "+m.ID.String(), hears(t, listener))
	setState(t, s, pool, m.ID, replicaset.Running, number)
	markDead(t, s, pool, []replicaset.Loss{stale(t, pool, m.ID)})
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
	second := async(func() error { return o.attempt(context.Background(), pool, o.fence, whole(0), 10) })
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

	setState(t, o.Store, o.pool, o.worker, replicaset.Ready, number)
	last := o.begin(t, whole(10), 20)
	activation := activating(o.Store, pool, replicaset.Activation{Number: number})
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
	require.NoError(t, s.inTransaction(t.Context(), one, by, func(tx pgx.Tx, _ int) error {
		seen = value[[]string](t, tx, `SELECT ARRAY[current_setting('application_name'), current_setting('idle_in_transaction_session_timeout')]`)
		return nil
	}))
	assert.Equal(t, []string{ApplicationName(by), "2s"}, seen)
	assert.Equal(t, "the application", value[string](t, one, `SELECT current_setting('application_name')`))
	assert.Equal(t, "0", value[string](t, one, `SELECT current_setting('idle_in_transaction_session_timeout')`))
}
