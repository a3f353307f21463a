package pgcoord

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// away makes an aid unusable for the connection's role in one of the ways in which people do. The function it returns undoes that.
var away = map[string]func(t *testing.T, admin *pgx.Conn, role, table string) (back func()){
	"revoked": func(t *testing.T, admin *pgx.Conn, role, table string) func() {
		exec(t, admin, `REVOKE ALL ON `+table+` FROM `+role)
		return func() { exec(t, admin, `GRANT ALL ON `+table+` TO `+role) }
	},
	"renamed": func(t *testing.T, admin *pgx.Conn, _, table string) func() {
		exec(t, admin, `ALTER TABLE `+table+` RENAME TO elsewhere`)
		return func() { exec(t, admin, `ALTER TABLE elsewhere RENAME TO `+table) }
	},
	"locked": func(t *testing.T, admin *pgx.Conn, _, table string) func() {
		exec(t, admin, `BEGIN`)
		exec(t, admin, `LOCK TABLE `+table+` IN ACCESS EXCLUSIVE MODE`)
		return func() { exec(t, admin, `COMMIT`) }
	},
}

// Who may not read the abandoned handlers looks and activates nevertheless, by what the generation before has left out.
func TestGenerationsChangeWithoutTheAbandonedHandlers(t *testing.T) {
	t.Parallel()
	for name, take := range away {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOwner(t)
			role := newRole(t, o.pool, name)
			handlers := []replicaset.AbandonedHandler{{Projection: "orders", Partition: slot.Partition{Total: 1}, Generation: 1, Position: 7, EventID: uuid.New()}}
			require.NoError(t, o.SetAbandoned(t.Context(), o.pool, o.worker, handlers))
			other := join(t, o.Store, o.pool, "orders")
			number := generation(t, o.Store, o.pool, o.fence.Generation, o.worker, other)
			leftOut := func(s *Store, db DB) (abandoned, leftOut []string, why error) {
				v := observe(t, s, db, o.worker, false)
				me, _ := v.Worker(o.worker)
				glance, err := s.Glance(t.Context(), db, o.worker)
				require.NoError(t, err)
				same, _ := glance.Worker(o.worker)
				assert.Equal(t, me.Abandoned, same.Abandoned)
				return me.Abandoned, me.LeftOut, v.WithoutAids
			}
			session := dialAs(t, o.pool, role)
			exec(t, session, sqlSessionSettings)
			s := open(t, o.pool, "main")
			back := take(t, dial(t, o.pool), role, "orchestrator_abandoned_handlers")
			abandoned, left, why := leftOut(s, session)
			assert.Equal(t, []string{"orders"}, abandoned)
			assert.Equal(t, []string{"orders"}, left)
			require.Error(t, why)
			_, _, why = leftOut(s, session)
			require.NoError(t, why, "it is said once, and not tried again for a while")

			number = prepare(t, s, session, number)
			setState(t, s, session, o.worker, replicaset.Ready, number)
			setState(t, s, session, other, replicaset.Ready, number)
			s = open(t, o.pool, "main") // which has not looked
			activated, err := s.Activate(t.Context(), session, replicaset.Activation{Number: number, By: o.worker}, nil)
			require.NoError(t, err)
			assert.True(t, activated.Active)
			require.Error(t, activated.WithoutAids)
			assert.True(t, mayDoWithout(activated.WithoutAids))
			assert.Equal(t, 65536, value[int](t, o.pool, `SELECT sum(slot_to - slot_from)::int FROM orchestrator_checkpoints WHERE worker_id = $1`, other))
			require.Error(t, s.SetAbandoned(t.Context(), session, o.worker, nil))
			require.NoError(t, session.Ping(t.Context()), "it costs no session")

			back()
			s = open(t, o.pool, "main")
			require.NoError(t, s.SetAbandoned(t.Context(), session, o.worker, nil))
			abandoned, left, why = leftOut(s, session)
			assert.Empty(t, abandoned)
			assert.Equal(t, []string{"orders"}, left)
			require.NoError(t, why)
		})
	}
}

// Without a session a lock bounds no look either.
func TestALookOfThePoolDoesNotWaitForAnAid(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	defer away["locked"](t, dial(t, o.pool), "", "orchestrator_abandoned_handlers")()
	v, err := o.Glance(t.Context(), dbguard.New(o.pool).InTransactions().Waiting(LockPatience), o.worker)
	require.NoError(t, err)
	require.Error(t, v.WithoutAids)
}

// What fails with and without the aid is not the aid's fault.
func TestOtherFailuresAreNoAids(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	exec(t, o.pool, `ALTER TABLE orchestrator_heartbeats RENAME TO elsewhere`)
	_, err := o.Glance(t.Context(), o.pool, o.worker)
	require.ErrorContains(t, err, "42P01")
	assert.False(t, o.aids.rests())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = o.Glance(ctx, o.pool, o.worker)
	require.ErrorIs(t, err, context.Canceled)
}

// What could not be used is tried again soon, and no more often than is good for the looks.
func TestTheRestsOfAnAid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var a aid
		for _, rest := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second} {
			assert.False(t, a.rests())
			a.rest()
			<-time.After(rest - time.Millisecond)
			assert.True(t, a.rests(), rest)
			<-time.After(time.Millisecond)
		}
		a.used()
		a.rest()
		<-time.After(firstAidRest)
		assert.False(t, a.rests())
	})
}

// A table of waits that is locked, or gone, costs a process one short wait now and then, and not one for each question of its waits.
func TestWaitsAreNotNotedWhereThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, take := range away {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			role := newRole(t, pool, name)
			session := dialAs(t, pool, role)
			s := open(t, pool, "main")
			back := take(t, dial(t, pool), role, "orchestrator_waits")
			require.Error(t, s.NoteWait(t.Context(), session, "orders", time.Minute))
			for range 3 {
				require.NoError(t, s.NoteWait(t.Context(), session, "orders", time.Minute), "it is not tried")
			}
			back()
			assert.Zero(t, value[int](t, pool, `SELECT count(*)::int FROM orchestrator_waits`))
			s.notes.until.Store(0) // some seconds later
			require.NoError(t, s.NoteWait(t.Context(), session, "orders", time.Minute))
			assert.Equal(t, 1, value[int](t, pool, `SELECT count(*)::int FROM orchestrator_waits`))
			assert.Zero(t, s.notes.next.Load())
		})
	}
	s := open(t, newPool(t), "main")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.NoteWait(ctx, newPool(t), "orders", time.Minute), context.Canceled)
	assert.False(t, s.notes.rests(), "the table is not at fault")
}
