package replicaset

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
)

// Ages are the database's at the first look, and grow on the worker's clock from then on, whatever the database's does.
func TestAgesAreMeasuredOnTheWorkersClock(t *testing.T) {
	var a Ages
	at := time.Duration(0)
	look := func(v View, after, heartbeat, databases time.Duration) View {
		at += after
		v.Generation = Generation{Number: 7, State: Active, Age: databases, ActiveFor: databases}
		v.Workers = []Worker{{ID: ann, Heartbeat: heartbeat.String(), HeartbeatAge: databases, StateAge: databases}}
		v.Session, v.SessionAge, v.Server, v.ServerAge = "s", databases, "s", databases
		return a.Measure(v, at)
	}
	want := func(v View, heartbeat, others time.Duration) {
		t.Helper()
		assert.Equal(t, at, v.At)
		assert.Equal(t, heartbeat, v.Workers[0].HeartbeatAge)
		assert.Equal(t, []time.Duration{others, others, others},
			[]time.Duration{v.Workers[0].StateAge, v.Generation.Age, v.Generation.ActiveFor})
	}
	const s = time.Second
	v := look(View{}, 5*s, 1, 100*s)
	want(v, 100*s, 100*s)
	v = look(View{}, 3*s, 1, 0) // its clock was set back
	want(v, 103*s, 103*s)
	assert.Equal(t, 103*s, v.SessionAge)
	v = look(View{}, 3*s, 2, time.Hour) // and ahead
	want(v, 3*s, 106*s)
	v = look(View{}, 3*s, 3, s)
	want(v, s, 109*s)
	v = look(View{Glance: true}, s, 3, -time.Hour)
	want(v, 2*s, 110*s)
	v = look(View{}, s, 4, -time.Hour)
	want(v, 0, 111*s)
	assert.Equal(t, 111*s, v.ServerAge, "a glance forgets nothing")

	missing := View{Workers: []Worker{{ID: bob, HeartbeatAge: NoHeartbeat}}}
	assert.Equal(t, NoHeartbeat, a.Measure(missing, at).Workers[0].HeartbeatAge)
	assert.Equal(t, NoHeartbeat, missing.Workers[0].HeartbeatAge)
}

// A glance shows nobody else. What is known of the others' heartbeats lasts until the next whole look, and one that came meanwhile may be as old as the whole look before.
func TestAGlanceKeepsTheOthersAges(t *testing.T) {
	var a Ages
	const s = time.Second
	whole := func(at time.Duration, heartbeat string, databases time.Duration) time.Duration {
		v := a.Measure(View{Workers: []Worker{{ID: ann, Heartbeat: heartbeat, HeartbeatAge: databases}, {ID: bob}}}, at)
		return v.Workers[0].HeartbeatAge
	}
	assert.Equal(t, 10*s, whole(5*s, "a", 10*s))
	for at := 6 * s; at < 20*s; at += s {
		a.Measure(View{Glance: true, Workers: []Worker{{ID: bob}}}, at)
	}
	assert.Equal(t, 25*s, whole(20*s, "a", 0), "the database's clock was set back")
	a.Measure(View{Glance: true, Workers: []Worker{{ID: bob}}}, 29*s)
	assert.Equal(t, 10*s, whole(30*s, "b", time.Hour), "and ahead")
}

// held is a view in which something that is no live worker's session has the leader's lock.
func held(pid int, workers ...Worker) View {
	v := sight(active(1, ann, bob), workers...)
	v.LeaderPID = pid
	return v
}

func TestTheLeastLiveLeadsWhereNobodyWhoLivesHasTheLock(t *testing.T) {
	const stranger = 77
	me, other := as(bob, Running, 1), as(cid, Pending, 0)
	stopping, frozen, greater := as(ann, Stopping, 1), as(ann, Running, 1), as(uuid.UUID{9}, Running, 1)
	frozen.HeartbeatAge = decideTiming.Stale
	for name, test := range map[string]struct {
		view  View
		leads bool
	}{
		"a stranger":              {held(stranger, me, other), true},
		"a prepared transaction":  {held(0, me, other), true},
		"a frozen worker":         {held(frozen.SessionPID, frozen, me, other), true},
		"a worker on its way out": {held(stopping.SessionPID, stopping, me, other), true},
		"a live worker":           {held(greater.SessionPID, me, other, greater), false},
		"the least live is another": {
			held(stranger, as(ann, Running, 1), me, other), false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := of(func(s *State) { runs(1)(s); s.pruned, s.Refused, s.RefusedAt = 1, frozen.SessionPID, time.Hour })
			first, actions := Decide(s, test.view)
			assert.Empty(t, actions, "it may be over in a moment")
			later := test.view
			later.At += decideTiming.SessionGrace
			second, actions := Decide(first, later)
			assert.Equal(t, test.leads, Leads(second, later))
			if !test.leads {
				assert.Empty(t, actions)
				return
			}
			assert.Equal(t, decideTiming.Observe, NextLook(second, later))
			assert.Equal(t, []string{"WarnOfLockHolder", "Prepare", "LookAgain"}, kinds(actions))
			_, actions = Decide(second, later)
			assert.Equal(t, []string{"Prepare", "LookAgain"}, kinds(actions), "people are told once")

			free := later
			free.LeaderLocked, free.LeaderPID = false, 0
			third, _ := Decide(second, free)
			assert.Nil(t, third.LeaderlessSince)
			assert.False(t, third.warned)
			glance := free
			glance.Glance = true
			third, _ = Decide(second, glance)
			assert.NotNil(t, third.LeaderlessSince, "a glance shows no locks")
		})
	}
}

func TestAFrozenLeadersSessionIsTriedAgainLater(t *testing.T) {
	frozen := as(ann, Running, 1)
	frozen.HeartbeatAge = decideTiming.Stale
	v := held(frozen.SessionPID, frozen, as(bob, Running, 1))
	s := of(func(s *State) { runs(1)(s); s.Refused, s.RefusedAt = frozen.SessionPID, v.At })
	_, actions := Decide(s, v)
	assert.NotContains(t, kinds(actions), "EndLeader")
	v.At += decideTiming.Stale
	_, actions = Decide(s, v)
	assert.Contains(t, kinds(actions), "EndLeader")
}
