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

// claimant is the replica set that has the projection.
func claimant(t testing.TB, pool *pgxpool.Pool, projection string) string {
	t.Helper()
	return value[string](t, pool, `SELECT string_agg(DISTINCT replica_set, '+') FROM orchestrator_checkpoints WHERE projection = $1`, projection)
}

func TestClaimBeginsAtTheStreamsBeginning(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	for range 2 {
		require.NoError(t, s.Claim(t.Context(), pool, []string{"b", "a"}))
	}
	assert.Equal(t, 2, value[int](t, pool, `SELECT count(*) FROM orchestrator_checkpoints WHERE slot_from = 0 AND slot_to = 65536
		AND position = 0 AND generation = 0 AND worker_id IS NULL AND replica_set = 'main' AND events_table = 'public.events'`))
}

func TestProjectionBelongsToOneReplicaSet(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	stranger := open(t, pool, "stranger")
	require.NoError(t, s.Claim(t.Context(), pool, []string{"orders"}))
	err := stranger.Join(t.Context(), pool, membership("letters", "orders"))
	claimed, ok := errors.AsType[*ClaimedError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, ClaimedError{Projection: "orders", ReplicaSet: "main", EventsTable: "public.events", Own: "public.events"}, *claimed)
	assert.Contains(t, err.Error(), `projection "orders" belongs to replica set "main" already`)
	assert.Zero(t, value[int](t, pool, `SELECT count(*) FROM orchestrator_workers`), "who may not join is not entered")
	assert.Equal(t, "main", claimant(t, pool, "orders"))
}

// Positions of one events table mean nothing in another.
func TestProjectionKeepsItsEventsTable(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	require.NoError(t, s.Claim(t.Context(), pool, []string{"orders"}))
	exec(t, pool, `CREATE SCHEMA archive CREATE TABLE events ()`)
	other, err := Open(t.Context(), pool, "", "main", pgx.Identifier{"archive", "events"})
	require.NoError(t, err)
	err = other.Claim(t.Context(), pool, []string{"orders"})
	claimed, ok := errors.AsType[*ClaimedError](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, ClaimedError{Projection: "orders", ReplicaSet: "main", EventsTable: "public.events", Own: "archive.events"}, *claimed)
	assert.Contains(t, err.Error(), "speak of the events table public.events, this replica set reads archive.events")
}

func TestOfTwoReplicaSetsOneClaims(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	names := [2]string{"left", "right"}
	stores := [2]*Store{open(t, pool, names[0]), open(t, pool, names[1])}
	for round := range 30 {
		projection := "orders " + uuid.NewString()
		// Both claim them in opposite order.
		lists := [2][]string{{projection, projection + "a", projection + "z"}, {projection + "z", projection + "a", projection}}
		var errs [2]error
		var both sync.WaitGroup
		start := make(chan struct{})
		for i := range stores {
			both.Go(func() {
				<-start
				errs[i] = stores[i].Claim(context.Background(), pool, lists[i])
			})
		}
		close(start)
		both.Wait()
		winner := 0
		if errs[0] != nil {
			winner = 1
		}
		require.NoError(t, errs[winner], "round %d", round)
		claimed, ok := errors.AsType[*ClaimedError](errs[1-winner])
		require.True(t, ok, "round %d: both have it: %v", round, errs)
		require.Equal(t, names[winner], claimed.ReplicaSet)
		require.Equal(t, projection, claimed.Projection)
		require.Equal(t, names[winner], claimant(t, pool, projection))
	}
}

// The first claim is not committed yet: the second waits for what becomes of it.
func TestClaimWaitsForAnotherClaim(t *testing.T) {
	t.Parallel()
	for _, commits := range []bool{true, false} {
		s, pool := newStore(t)
		stranger := open(t, pool, "stranger")
		tx, err := pool.Begin(t.Context())
		require.NoError(t, err)
		defer func() { _ = tx.Rollback(context.Background()) }()
		require.NoError(t, s.Claim(t.Context(), tx, []string{"orders"}))
		second := async(func() error { return stranger.Claim(context.Background(), pool, []string{"orders"}) })
		awaitBlockedBy(t, pool, tx.Conn().PgConn().PID())
		if commits {
			require.NoError(t, tx.Commit(t.Context()))
			claimed, ok := errors.AsType[*ClaimedError](await(t, second, "the second claim"))
			require.True(t, ok)
			assert.Equal(t, "main", claimed.ReplicaSet)
		} else {
			require.NoError(t, tx.Rollback(t.Context()))
			require.NoError(t, await(t, second, "the second claim"))
		}
	}
}

// A third transaction has the name in the middle, so that both claims are under
// way when it lets go. If they took the names as they are given, one would be
// ended as the victim of a deadlock.
func TestClaimsTakeTheNamesInOneOrder(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	stranger, third := open(t, pool, "stranger"), open(t, pool, "third")
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	require.NoError(t, third.Claim(t.Context(), tx, []string{"b"}))
	one := async(func() error { return s.Claim(context.Background(), pool, []string{"c", "b", "a"}) })
	awaitBlockedBy(t, pool, tx.Conn().PgConn().PID())
	two := async(func() error { return stranger.Claim(context.Background(), pool, []string{"a", "b", "c"}) })
	eventually(t, pool, "the second never waited",
		`SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0`)
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, await(t, one, "the first claim"))
	claimed, ok := errors.AsType[*ClaimedError](await(t, two, "the second claim"))
	require.True(t, ok)
	assert.Equal(t, ClaimedError{Projection: "a", ReplicaSet: "main", EventsTable: "public.events", Own: "public.events"}, *claimed)
}

// While an activation rewrites the ranges, the row that begins at slot 0 is
// deleted and inserted again.
func TestClaimDuringAnActivation(t *testing.T) {
	t.Parallel()
	for _, commits := range []bool{true, false} {
		o := newOwner(t)
		stranger := open(t, o.pool, "stranger")
		number := prepare(t, o.Store, o.pool, o.fence.Generation)
		second := join(t, o.Store, o.pool, "orders")
		for _, w := range []uuid.UUID{o.worker, second} {
			setState(t, o.Store, o.pool, w, replicaset.Ready, number)
		}
		h := hold(t, o.pool)
		activation := activating(o.Store, h, replicaset.Activation{Number: number})
		await(t, h.reached, "the activation")
		claims := make(chan error, 2)
		go func() { claims <- stranger.Claim(context.Background(), o.pool, []string{"orders"}) }()
		// One that does not see the row, as if it had looked before, waits.
		insert := async(func() error {
			_, err := o.pool.Exec(context.Background(), `INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, replica_set, events_table)
				VALUES ('orders', 0, 65536, 'stranger', 'public.events') ON CONFLICT DO NOTHING`)
			return err
		})
		eventually(t, o.pool, "the insert did not wait", `SELECT EXISTS (SELECT 1 FROM pg_stat_activity
			WHERE datname = current_database() AND query LIKE 'INSERT INTO orchestrator_checkpoints%' AND cardinality(pg_blocking_pids(pid)) > 0)`)
		_, ok := errors.AsType[*ClaimedError](await(t, claims, "the claim during the activation"))
		assert.True(t, ok)
		h.end <- commits
		await(t, activation, "the activation")
		require.NoError(t, await(t, insert, "the insert"))
		_, ok = errors.AsType[*ClaimedError](stranger.Claim(t.Context(), o.pool, []string{"orders"}))
		assert.True(t, ok)
		assert.Equal(t, "main", claimant(t, o.pool, "orders"))
		assert.Equal(t, map[bool]int{true: 2, false: 1}[commits], value[int](t, o.pool, `SELECT count(*) FROM orchestrator_checkpoints`))
	}
}

func TestClaimsWhileGenerationsChange(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	stranger := open(t, pool, "stranger")
	workers := []uuid.UUID{join(t, s, pool, "orders"), join(t, s, pool, "orders"), join(t, s, pool, "orders")}
	stop := make(chan struct{})
	claims := async(func() error {
		for {
			err := stranger.Claim(context.Background(), pool, []string{"orders"})
			if _, ok := errors.AsType[*ClaimedError](err); !ok {
				return errors.Join(errors.New("the claim went through, or failed otherwise"), err)
			}
			select {
			case <-stop:
				return nil
			default:
			}
		}
	})
	current := int64(0)
	for round := range 12 {
		current = generation(t, s, pool, current, workers[:1+round%3]...)
		require.Equal(t, "main", claimant(t, pool, "orders"))
	}
	close(stop)
	require.NoError(t, await(t, claims, "the claims"))
}

// A batch holds its row for as long as its handler takes; a worker that joins
// must not wait for that.
func TestJoinDoesNotWaitForBatches(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	o.begin(t, whole(0), 10)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, o.Join(ctx, o.pool, membership("orders", "letters")))
}
