package pgcoord

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// named opens a connection with an application_name.
func named(t testing.TB, pool *pgxpool.Pool, name string) *pgx.Conn {
	t.Helper()
	config := pool.Config().ConnConfig.Copy()
	config.RuntimeParams["application_name"] = name
	return dialWith(t, config)
}

// alive says whether the backend is there.
func alive(t testing.TB, db DB, conn *pgx.Conn) bool {
	t.Helper()
	return value[bool](t, db, `SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = $1)`, conn.PgConn().PID())
}

func TestBlockersFindsTheReplicaSetsBackends(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	own, dead := join(t, s, pool, "orders"), join(t, s, pool, "orders")
	bury(t, s, pool, dead)
	foreign := join(t, open(t, pool, "stranger"), pool, "letters")
	// All of them hold a lock that one backend wants, and one that shows whose they are.
	exec(t, pool, `CREATE TABLE wanted ()`)
	holders := map[string]*pgx.Conn{}
	for _, name := range []string{
		ApplicationName(own), ApplicationName(dead), ApplicationName(foreign), ApplicationName(uuid.New()),
		own.String(), "the application", ApplicationName(own) + "x",
	} {
		conn := named(t, pool, ApplicationName(own)) // which proves nothing
		exec(t, conn, `BEGIN`)
		exec(t, conn, `SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))`, name)
		exec(t, conn, `LOCK TABLE wanted IN ACCESS SHARE MODE`)
		holders[name] = conn
	}
	waiter := dial(t, pool)
	exec(t, waiter, `BEGIN`)
	waits := async(func() error {
		_, err := waiter.Exec(context.Background(), `LOCK TABLE wanted IN ACCESS EXCLUSIVE MODE`)
		return err
	})
	awaitBlocked(t, pool, waiter.PgConn().PID())
	found, err := s.Blockers(t.Context(), pool, int(waiter.PgConn().PID()))
	require.NoError(t, err)
	pidOf := func(w uuid.UUID) int { return int(holders[ApplicationName(w)].PgConn().PID()) }
	var workers []Blocker
	for _, b := range found {
		if b.Worker != uuid.Nil {
			workers = append(workers, Blocker{PID: b.PID, Worker: b.Worker, State: b.State})
		}
		assert.Equal(t, ApplicationName(own), b.Application)
		assert.NotEmpty(t, b.Role)
	}
	assert.Len(t, found, len(holders))
	assert.ElementsMatch(t, []Blocker{{PID: pidOf(own), Worker: own, State: replicaset.Pending}, {PID: pidOf(dead), Worker: dead, State: replicaset.Dead}}, workers)

	for _, w := range []uuid.UUID{foreign, own} { // neither is the other's
		for name, conn := range holders {
			if name != ApplicationName(own) {
				require.NoError(t, s.EndBackend(t.Context(), pool, int(conn.PgConn().PID()), w))
			}
		}
	}
	for name, conn := range holders {
		assert.True(t, alive(t, pool, conn), "the backend of %q was ended", name)
	}
	require.NoError(t, s.EndBackend(t.Context(), pool, pidOf(own), own))
	require.NoError(t, s.EndBackend(t.Context(), pool, pidOf(dead), dead))
	eventually(t, pool, "the backends were not ended", `SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = ANY($1))`,
		[]int32{int32(pidOf(own)), int32(pidOf(dead))})
	for name, conn := range holders {
		if name != ApplicationName(own) && name != ApplicationName(dead) {
			assert.True(t, alive(t, pool, conn), "the backend of %q was ended", name)
			exec(t, conn, `ROLLBACK`)
		}
	}
	require.NoError(t, await(t, waits, "the lock"))
}

// The batch of a frozen worker is found behind the activation that waits for it,
// and with its end the generation goes on; also where a pooler makes up the
// process ids that connections know.
func TestBlockersOfAnActivationAreEnded(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, pool *pgxpool.Pool) { checkBlockersAreEnded(t, ownerOn(t, pool)) })
}

func checkBlockersAreEnded(t *testing.T, o owner) {
	frozen := o.begin(t, whole(0), 10)
	backend := value[int](t, frozen.Tx(), `SELECT pg_backend_pid()`)
	other := join(t, o.Store, o.pool, "orders")
	number := prepare(t, o.Store, o.pool, o.fence.Generation)
	setState(t, o.Store, o.pool, other, replicaset.Ready, number)
	began := make(chan int, 1)
	activation := async(func() (out outcome) {
		a := replicaset.Activation{Number: number, Exclude: []uuid.UUID{o.worker}}
		out.activated, out.err = isActive(o.Activate(context.Background(), o.pool, a, func(pid int) { began <- pid }))
		return out
	})
	pid := await(t, began, "the activation to begin")
	awaitBlocked(t, o.pool, uint32(pid))
	blockers, err := o.Blockers(t.Context(), o.pool, pid)
	require.NoError(t, err)
	require.Len(t, blockers, 1)
	require.Equal(t, []any{backend, o.worker, replicaset.Running}, []any{blockers[0].PID, blockers[0].Worker, blockers[0].State})
	require.NoError(t, o.EndBackend(t.Context(), o.pool, blockers[0].PID, blockers[0].Worker))
	require.Equal(t, outcome{activated: true}, await(t, activation, "the activation"))
	require.Error(t, frozen.Commit(t.Context(), 10))
	assert.Equal(t, int64(0), value[int64](t, o.pool, `SELECT position FROM orchestrator_checkpoints WHERE worker_id = $1`, other))
}
