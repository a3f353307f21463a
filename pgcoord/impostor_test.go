package pgcoord

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// Any role may take the locks of a leader and of a worker that have just ended, and notify. Only one that could be a worker is taken for the leader.
func TestNobodyElsePassesForTheLeader(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	stranger, granted, member := newRole(t, pool, "stranger"), newRole(t, pool, "granted"), newRole(t, pool, "member")
	exec(t, pool, `REVOKE ALL ON ALL TABLES IN SCHEMA public FROM `+stranger+`, `+member)
	exec(t, pool, `ALTER ROLE `+member+` NOINHERIT`)
	exec(t, pool, `GRANT `+granted+` TO `+member)
	w, other := join(t, s, pool, "orders"), join(t, s, pool, "orders")
	for role, heard := range map[string]bool{stranger: false, granted: true, member: true, "": true} {
		session := dial(t, pool)
		if role != "" {
			session = dialAs(t, pool, role)
		}
		exec(t, session, `SELECT pg_advisory_lock($1), pg_advisory_lock($2)`, s.SessionKey(other), s.leaderKey())
		v := observe(t, s, dialAs(t, pool, granted), w, false)
		pid := int(session.PgConn().PID())
		assert.Equal(t, pid, v.LeaderPID, role)
		assert.Equal(t, map[bool]int{false: 0, true: pid}[heard], v.LeadersSession(), role)
		exec(t, session, `SELECT pg_advisory_unlock_all()`)
	}
	own := dialAs(t, pool, granted)
	exec(t, own, `SELECT pg_advisory_lock($1)`, s.SessionKey(w))
	assert.Equal(t, int(own.PgConn().PID()), observe(t, s, own, w, true).LeadersSession())
}
