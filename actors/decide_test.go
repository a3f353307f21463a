package actors

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// Workers of the tables below, in the order of their ids.
var (
	ann = uuid.UUID{1}
	bob = uuid.UUID{2}
	cid = uuid.UUID{3}
)

var decideTiming = Timing{
	Stale: 30 * time.Second, Coordination: time.Minute, Settle: 300 * time.Millisecond, SessionGrace: 2 * time.Second,
	Observe: 250 * time.Millisecond, Follow: 700 * time.Millisecond,
}

// of is bob's state.
func of(change func(*state)) state {
	s := state{self: bob, timing: decideTiming, trusted: true}
	if change != nil {
		change(&s)
	}
	return s
}

func runs(generation int64) func(*state) {
	return func(s *state) { s.partitions, s.generation = running, generation }
}

// as is a worker with a session and a fresh heartbeat.
func as(id uuid.UUID, st pgcoord.WorkerState, generation int64) pgcoord.Worker {
	return pgcoord.Worker{ID: id, Name: "w", State: st, Generation: generation, HasSession: true, SessionPID: 1000 + int(id[0])}
}

// sight is a view of a follower with an old session.
func sight(g pgcoord.Generation, workers ...pgcoord.Worker) pgcoord.View {
	return pgcoord.View{Generation: g, Workers: workers, At: time.Hour, SessionAge: time.Hour, ServerAge: time.Hour, LeaderLocked: true, LeaderPID: 1000 + int(ann[0])}
}

// leading is the same of the leader.
func leading(v pgcoord.View) pgcoord.View {
	v.Leading, v.LeaderPID = true, 1000+int(bob[0])
	return v
}

// contradicted is a view in which somebody has changed checkpoints of "p".
func contradicted(v pgcoord.View) pgcoord.View {
	v.Contradicting = []string{"p"}
	return v
}

// preparing and active are generations, old enough not to wait for.
func preparing(number int64) pgcoord.Generation {
	return pgcoord.Generation{Number: number, State: pgcoord.Preparing, Reason: "a test", Age: time.Second}
}

func active(number int64, members ...uuid.UUID) pgcoord.Generation {
	return pgcoord.Generation{Number: number, State: pgcoord.Active, Members: members, Age: time.Hour, ActiveFor: time.Hour}
}

func TestDecideOwn(t *testing.T) {
	leaving := func(s *state) { s.leaving = true }
	for name, test := range map[string]struct {
		state   state
		view    pgcoord.View
		actions []action
		after   phase
	}{
		"joins when its row is not there": {of(nil), sight(active(1, ann), as(ann, pgcoord.Running, 1)), []action{join{}}, idle},
		"stops first when its row is gone": {
			of(runs(1)), sight(active(1, ann)), []action{stopPartitions{Generation: 1, Now: true, Reason: "the worker's row is gone"}}, draining,
		},
		"leaves without a row": {of(leaving), sight(active(1, ann)), []action{leave{}}, idle},

		"stops when declared dead": {
			of(runs(1)), sight(preparing(2), as(bob, pgcoord.Dead, 1)),
			[]action{stopPartitions{Generation: 1, Now: true, Reason: "the worker was declared dead"}},
			draining,
		},
		"waits for the stop when declared dead": {
			of(func(s *state) { runs(1)(s); s.partitions = draining }), sight(preparing(2), as(bob, pgcoord.Dead, 1)), nil, draining,
		},
		"rejoins when nothing runs any more":           {of(nil), sight(preparing(2), as(bob, pgcoord.Dead, 1)), []action{rejoin{}}, idle},
		"joins again when somebody wrote that it left": {of(nil), sight(preparing(2), as(bob, pgcoord.Stopped, 1)), []action{rejoin{}}, idle},
		"contests checkpoints that contradict the generation": {
			of(func(s *state) { s.generation, s.fenced = 1, true }), sight(active(1, bob), as(bob, pgcoord.Running, 1)), []action{contest{}}, idle,
		},
		"waits for the answer to its contest": {
			of(func(s *state) { s.generation, s.fenced = 1, true }), sight(active(1, bob), as(bob, pgcoord.Pending, 1)), nil, idle,
		},

		"drains before it is ready": {
			of(runs(1)), sight(preparing(2), as(bob, pgcoord.Running, 1)),
			[]action{stopPartitions{Generation: 1, Reason: "generation 2 is in preparation: a test"}},
			draining,
		},
		"is not ready while it drains": {
			of(func(s *state) { runs(1)(s); s.partitions = draining }), sight(preparing(2), as(bob, pgcoord.Running, 1)), nil, draining,
		},
		"reports ready when idle": {
			of(nil), sight(preparing(2), as(bob, pgcoord.Running, 1)), []action{report{State: pgcoord.Ready, Generation: 2}}, idle,
		},
		"reports ready for the generation that is in preparation now": {
			of(nil), sight(preparing(3), as(bob, pgcoord.Ready, 2)), []action{report{State: pgcoord.Ready, Generation: 3}}, idle,
		},
		"reports ready once": {of(nil), sight(preparing(2), as(bob, pgcoord.Ready, 2)), nil, idle},

		"starts when trusted and idle": {of(nil), sight(active(2, bob), as(bob, pgcoord.Ready, 2)), []action{startPartitions{Generation: 2}}, idle},
		"does not start untrusted": {
			of(func(s *state) { s.trusted = false }), sight(active(2, bob), as(bob, pgcoord.Ready, 2)), nil, idle,
		},
		"does not start while it drains": {
			of(func(s *state) { runs(1)(s); s.partitions = draining }), sight(active(2, bob), as(bob, pgcoord.Ready, 2)), nil, draining,
		},
		"reports running": {
			of(runs(2)), sight(active(2, bob), as(bob, pgcoord.Ready, 2)), []action{report{State: pgcoord.Running, Generation: 2}}, running,
		},
		"is content": {of(runs(2)), sight(active(2, bob), as(bob, pgcoord.Running, 2)), nil, running},
		"stops what is of an older generation": {
			of(runs(1)), sight(active(2, bob), as(bob, pgcoord.Ready, 2)),
			[]action{stopPartitions{Generation: 1, Now: true, Reason: "the partitions are of another generation"}},
			draining,
		},
		"stops when fenced": {
			of(func(s *state) { runs(2)(s); s.fenced = true }), sight(active(2, bob), as(bob, pgcoord.Running, 2)),
			[]action{stopPartitions{Generation: 2, Now: true, Reason: "the partitions are of another generation"}},
			draining,
		},
		"stops when its checkpoints contradict the generation": {
			of(runs(2)), contradicted(sight(active(2, bob), as(bob, pgcoord.Running, 2))),
			[]action{stopPartitions{Generation: 2, Now: true, Reason: "the partitions are of another generation"}},
			draining,
		},
		"says which": {
			of(func(s *state) { s.generation, s.fenced = 1, true }), contradicted(sight(active(1, bob), as(bob, pgcoord.Running, 1))),
			[]action{contest{Projections: []string{"p"}}},
			idle,
		},
		"stops when it is no member": {
			of(runs(1)), sight(active(2, ann), as(bob, pgcoord.Running, 1)),
			[]action{stopPartitions{Generation: 1, Now: true, Reason: "the worker is not a member of the active generation"}},
			draining,
		},
		"is pending when it is no member": {
			of(nil), sight(active(2, ann), as(bob, pgcoord.Ready, 1)), []action{report{State: pgcoord.Pending}}, idle,
		},
		"waits pending":                  {of(nil), sight(active(2, ann), as(bob, pgcoord.Pending, 0)), nil, idle},
		"waits for the first generation": {of(nil), sight(pgcoord.Generation{}, as(bob, pgcoord.Pending, 0)), nil, idle},

		"leaves when nothing runs": {of(leaving), sight(active(2, bob), as(bob, pgcoord.Ready, 2)), []action{leave{}}, idle},
		"drains before it leaves": {
			of(func(s *state) { runs(2)(s); leaving(s) }), sight(active(2, bob), as(bob, pgcoord.Running, 2)),
			[]action{stopPartitions{Generation: 2, Reason: "the worker is leaving"}, report{State: pgcoord.Stopping, Generation: 2}},
			draining,
		},
		"drains once": {
			of(func(s *state) { runs(2)(s); leaving(s); s.partitions = draining }), sight(active(2, bob), as(bob, pgcoord.Stopping, 2)), nil, draining,
		},
		"drains also when dead": {
			of(func(s *state) { runs(2)(s); leaving(s) }), sight(active(2, bob), as(bob, pgcoord.Dead, 2)),
			[]action{stopPartitions{Generation: 2, Reason: "the worker is leaving"}},
			draining,
		},
	} {
		t.Run(name, func(t *testing.T) {
			after, actions := decide(test.state, test.view)
			assert.Equal(t, test.actions, actions)
			assert.Equal(t, test.after, after.partitions)
		})
	}
}

// decideAs decides in a view where bob has nothing to do for himself.
func decideAs(t *testing.T, s state, v pgcoord.View) (state, []action) {
	t.Helper()
	me, known := v.Worker(bob)
	require.True(t, known)
	_, own := decideOwn(s, v, me)
	require.Empty(t, own, "the table is about the leader's actions")
	s.pruned = v.Generation.Number
	return decide(s, v)
}

// prepared is the change that the first action asks for.
func prepared(t *testing.T, actions []action) pgcoord.Change {
	t.Helper()
	require.Len(t, actions, 2)
	require.IsType(t, prepare{}, actions[0])
	assert.Equal(t, lookAgain{}, actions[1])
	change := actions[0].(prepare).Change
	assert.Equal(t, bob, change.By)
	assert.NotEmpty(t, change.Changes)
	return change
}

func TestLeaderPreparesAGeneration(t *testing.T) {
	stale := func(w pgcoord.Worker) pgcoord.Worker {
		w.HeartbeatAge, w.Heartbeat = decideTiming.Stale, "old"
		return w
	}
	gone := func(w pgcoord.Worker) pgcoord.Worker { w.SessionPID = 0; return w }
	for name, test := range map[string]struct {
		state state
		view  pgcoord.View
		cause string
		lost  []uuid.UUID
	}{
		"the first": {of(nil), sight(pgcoord.Generation{}, as(bob, pgcoord.Pending, 0)), replicaset.CauseFirst, nil},
		"a worker joined": {
			of(runs(1)), sight(active(1, bob), as(ann, pgcoord.Pending, 0), as(bob, pgcoord.Running, 1)), replicaset.CauseJoined, nil,
		},
		"a worker left": {of(runs(1)), sight(active(1, ann, bob), as(bob, pgcoord.Running, 1)), replicaset.CauseLeft, nil},
		"a member found checkpoints that contradict it": {
			of(runs(1)), sight(active(1, ann, bob), as(ann, pgcoord.Pending, 1), as(bob, pgcoord.Running, 1)), replicaset.CauseInconsistent, nil,
		},
		"a session is missing for the second time": {
			of(func(s *state) { runs(1)(s); s.absent = missingBefore }),
			sight(active(1, ann, bob), gone(as(ann, pgcoord.Running, 1)), as(bob, pgcoord.Running, 1)), replicaset.CauseLost,
			[]uuid.UUID{ann},
		},
		"a heartbeat is stale": {
			of(runs(1)), sight(active(1, ann, bob), stale(as(ann, pgcoord.Running, 1)), as(bob, pgcoord.Running, 1)), replicaset.CauseLost, []uuid.UUID{ann},
		},
		"one came, one is lost": {
			of(runs(1)), sight(active(1, ann, bob), stale(as(ann, pgcoord.Running, 1)), as(bob, pgcoord.Running, 1), as(cid, pgcoord.Pending, 0)),
			replicaset.CauseLost,
			[]uuid.UUID{ann},
		},
		"one came, one left": {
			of(runs(1)), sight(active(1, ann, bob), as(bob, pgcoord.Running, 1), as(cid, pgcoord.Pending, 0)), replicaset.CauseChanged, nil,
		},
		"a stranger is lost with the change": {
			of(runs(1)), sight(active(1, bob, uuid.UUID{9}), stale(as(ann, pgcoord.Pending, 0)), as(bob, pgcoord.Running, 1)), replicaset.CauseLeft, []uuid.UUID{ann},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, actions := decideAs(t, test.state, leading(test.view))
			change := prepared(t, actions)
			assert.Equal(t, test.cause, replicaset.Cause(change.From == 0, change.Changes))
			assert.Equal(t, test.view.Generation.Number, change.From)
			var lost []uuid.UUID
			for _, l := range change.Lost {
				lost = append(lost, l.Worker)
				assert.NotEmpty(t, l.Detail)
				assert.NotEqual(t, l.SessionGone, l.Heartbeat == "old", "there is one kind of evidence")
			}
			assert.Equal(t, test.lost, lost)

			_, actions = decideAs(t, test.state, test.view)
			assert.NotContains(t, kinds(actions), "prepare", "a follower prepares nothing")
			young := test.view
			young.Generation.ActiveFor = decideTiming.Settle - time.Millisecond
			_, actions = decideAs(t, test.state, leading(young))
			if test.cause == replicaset.CauseFirst {
				prepared(t, actions)
			} else {
				assert.Equal(t, []action{lookAgain{After: time.Millisecond}}, actions, "a change waits that follows another closely")
			}
		})
	}
}

// kinds are the labels of actions.
func kinds(actions []action) []string {
	var labels []string
	for _, a := range actions {
		labels = append(labels, messageName(a))
	}
	return labels
}

func TestLeaderLeavesWellAlone(t *testing.T) {
	for name, test := range map[string]struct {
		state state
		view  pgcoord.View
		want  []action
	}{
		"nothing has changed":          {of(runs(1)), sight(active(1, ann, bob), as(ann, pgcoord.Running, 1), as(bob, pgcoord.Running, 1)), nil},
		"a member is on its way out":   {of(runs(1)), sight(active(1, ann, bob), as(ann, pgcoord.Stopping, 1), as(bob, pgcoord.Running, 1)), nil},
		"a stranger is on its way out": {of(runs(1)), sight(active(1, bob), as(ann, pgcoord.Stopping, 0), as(bob, pgcoord.Running, 1)), nil},
		"a stranger is dead": {
			of(runs(1)), sight(active(1, bob), pgcoord.Worker{ID: ann, State: pgcoord.Pending, HeartbeatAge: time.Hour}, as(bob, pgcoord.Running, 1)),
			[]action{declareDead{Losses: []pgcoord.Loss{{Worker: ann, Detail: "its last heartbeat is older than 30s"}}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, actions := decideAs(t, test.state, leading(test.view))
			assert.Equal(t, test.want, actions)
		})
	}
	t.Run("it is leaving itself", func(t *testing.T) {
		_, actions := decide(of(func(s *state) { s.leaving = true }), leading(sight(active(1, bob), as(ann, pgcoord.Pending, 0), as(bob, pgcoord.Running, 1))))
		assert.Equal(t, []action{leave{}}, actions)
	})
}

// missingBefore is a session that has been missing for long enough at the next look.
var missingBefore = map[uuid.UUID]time.Duration{ann: time.Hour - absenceInterval}

func TestMissingSessionsCount(t *testing.T) {
	missing := as(ann, pgcoord.Running, 1)
	missing.SessionPID = 0
	v := leading(sight(active(1, ann, bob), missing, as(bob, pgcoord.Running, 1)))

	s, actions := decide(of(func(s *state) { runs(1)(s); s.pruned = 1 }), v)
	assert.Equal(t, map[uuid.UUID]time.Duration{ann: v.At}, s.absent)
	assert.Equal(t, []action{lookAgain{After: absenceInterval}}, actions, "missing once is no loss")

	back := v
	back.Workers = []pgcoord.Worker{as(ann, pgcoord.Running, 1), as(bob, pgcoord.Running, 1)}
	s2, actions := decide(s, back)
	assert.Empty(t, s2.absent, "it was only reconnecting")
	assert.Empty(t, actions)

	soon := v
	soon.At += absenceInterval - 1
	_, actions = decide(s, soon)
	assert.Equal(t, []action{lookAgain{After: absenceInterval}}, actions, "two looks in quick succession are no proof")

	v.At += absenceInterval
	_, actions = decide(s, v)
	assert.Equal(t, []uuid.UUID{ann}, []uuid.UUID{prepared(t, actions).Lost[0].Worker})

	young := v
	young.ServerAge = decideTiming.SessionGrace - time.Millisecond
	s3, actions := decide(s, young)
	assert.Empty(t, s3.absent, "right after a restart of the database nobody has a session")
	assert.Empty(t, actions)

	young = v
	young.SessionAge = decideTiming.SessionGrace - time.Millisecond
	s.reconnected = true
	s, actions = decide(s, young)
	assert.Empty(t, s.absent, "whatever ended one's own session may have ended all")
	assert.Empty(t, actions)

	for name, w := range map[string]pgcoord.Worker{
		"it never had one":  {ID: ann, State: pgcoord.Running, Generation: 1},
		"it is dead anyway": {ID: ann, State: pgcoord.Dead, HasSession: true},
	} {
		assert.Empty(t, missingSince(of(nil), sight(active(1, ann, bob), w)), name)
	}
	own := as(bob, pgcoord.Running, 1)
	own.SessionPID = 0
	assert.Empty(t, missingSince(of(nil), sight(active(1, bob), own)), "one's own absence is not for oneself to judge")
	assert.Empty(t, missingSince(of(func(s *state) { s.pollOnly = true }), v), "there are no sessions")
}

func TestLeaderActivates(t *testing.T) {
	ready := as(bob, pgcoord.Ready, 2)
	late := preparing(2)
	late.Age = decideTiming.Coordination
	lost := as(ann, pgcoord.Running, 1)
	lost.HeartbeatAge = decideTiming.Stale
	now := []action{activate{Activation: pgcoord.Activation{Number: 2, By: bob}}, lookAgain{}}
	waits := []action{lookAgain{After: decideTiming.Observe}}
	for name, test := range map[string]struct {
		view pgcoord.View
		want []action
	}{
		"when all are ready":                    {sight(preparing(2), as(ann, pgcoord.Ready, 2), ready), now},
		"alone":                                 {sight(preparing(2), ready), now},
		"not before a running one is":           {sight(preparing(2), as(ann, pgcoord.Running, 1), ready), waits},
		"not before a pending one is":           {sight(preparing(2), as(ann, pgcoord.Pending, 0), ready), waits},
		"not before one on its way out is gone": {sight(preparing(2), as(ann, pgcoord.Stopping, 1), ready), waits},
		"not by who was ready for another":      {sight(preparing(2), as(ann, pgcoord.Ready, 1), ready), waits},
		"without the late when it is time": {
			sight(late, as(ann, pgcoord.Running, 1), ready, as(cid, pgcoord.Stopping, 1)),
			[]action{activate{Activation: pgcoord.Activation{
				Number: 2, By: bob, Exclude: []uuid.UUID{ann, cid}, Detail: "did not stop within 1m0s for generation 2",
			}}, lookAgain{}},
		},
		"not in the round that declares somebody dead": {
			sight(preparing(2), lost, ready),
			[]action{declareDead{Losses: []pgcoord.Loss{{Worker: ann, Detail: "its last heartbeat is older than 30s"}}}, lookAgain{}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, actions := decideAs(t, of(nil), leading(test.view))
			assert.Equal(t, test.want, actions)
			_, actions = decideAs(t, of(nil), test.view)
			assert.NotContains(t, kinds(actions), "activate", "a follower activates nothing")
		})
	}
	t.Run("never with nobody ready", func(t *testing.T) {
		draining := of(func(s *state) { s.partitions, s.generation = draining, 1 })
		_, actions := decideAs(t, draining, leading(sight(late, as(ann, pgcoord.Running, 1), as(bob, pgcoord.Running, 1))))
		assert.Equal(t, waits, actions)
	})
	t.Run("looks the sooner again the shorter it has waited", func(t *testing.T) {
		for age, after := range map[time.Duration]time.Duration{
			0: patienceLeast, 100 * time.Millisecond: 50 * time.Millisecond, time.Hour: decideTiming.Observe,
		} {
			g := preparing(2)
			g.Age = age
			assert.Equal(t, after, patience(of(nil), g))
		}
	})
	t.Run("looks soon for a missing session", func(t *testing.T) {
		missing := as(ann, pgcoord.Running, 1)
		missing.SessionPID = 0
		_, actions := decideAs(t, of(nil), leading(sight(preparing(2), missing, ready)))
		assert.Equal(t, []action{lookAgain{After: absenceInterval}}, actions)
	})
}

func TestPollOnlyLeaderIsTheLeastLive(t *testing.T) {
	pollOnly := of(func(s *state) { s.pollOnly = true })
	fresh := pgcoord.Worker{ID: ann, State: pgcoord.Ready, Generation: 2}
	stale := fresh
	stale.HeartbeatAge = decideTiming.Stale
	left := fresh
	left.State = pgcoord.Stopped
	me := pgcoord.Worker{ID: bob, State: pgcoord.Ready, Generation: 2}
	for name, test := range map[string]struct {
		first pgcoord.Worker
		acts  bool
	}{
		"another is":       {fresh, false},
		"another was":      {stale, true},
		"another has left": {left, true},
	} {
		t.Run(name, func(t *testing.T) {
			v := pgcoord.View{Generation: preparing(2), Workers: []pgcoord.Worker{test.first, me}}
			_, actions := decideAs(t, pollOnly, v)
			assert.Equal(t, test.acts, len(actions) > 0, "%v", actions)
			v.Leading = true
			_, again := decideAs(t, pollOnly, v)
			assert.Equal(t, actions, again, "the lock means nothing")
		})
	}
}

func TestFrozenLeadersSessionIsEndedByTheLeastLive(t *testing.T) {
	frozen := func(id uuid.UUID) pgcoord.Worker {
		w := as(id, pgcoord.Running, 1)
		w.HeartbeatAge = decideTiming.Stale
		return w
	}
	me, other := as(bob, pgcoord.Running, 1), as(cid, pgcoord.Running, 1)
	led := func(by uuid.UUID, workers ...pgcoord.Worker) pgcoord.View {
		v := sight(active(1, ann, bob, cid), workers...)
		v.LeaderPID = 1000 + int(by[0])
		return v
	}
	ends := func(id uuid.UUID) []action {
		return []action{endLeader{PID: 1000 + int(id[0]), Worker: id}, lookAgain{}}
	}
	sessionless := frozen(ann)
	sessionless.SessionPID = 0
	for name, test := range map[string]struct {
		view pgcoord.View
		want []action
	}{
		"the leader is frozen":               {led(ann, frozen(ann), me, other), ends(ann)},
		"it has a greater id":                {led(cid, as(ann, pgcoord.Dead, 1), me, frozen(cid)), ends(cid)},
		"somebody lesser is there to do it":  {led(cid, as(ann, pgcoord.Running, 1), me, frozen(cid)), nil},
		"the leader is well":                 {led(ann, as(ann, pgcoord.Running, 1), me, other), nil},
		"a frozen worker does not lead":      {led(cid, frozen(ann), me, other), nil},
		"the leader has no session any more": {led(ann, sessionless, me, other), nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, actions := decideAs(t, of(runs(1)), test.view)
			assert.Equal(t, test.want, actions)
			_, actions = decideAs(t, of(func(s *state) { runs(1)(s); s.pollOnly = true; s.self = bob }), test.view)
			assert.NotContains(t, kinds(actions), "endLeader")
		})
	}
}

// TestDecideIsPure: the state that went in is not changed.
func TestDecideIsPure(t *testing.T) {
	missing := as(ann, pgcoord.Running, 1)
	missing.SessionPID = 0
	s := of(func(s *state) { runs(1)(s); s.absent = missingBefore })
	v := leading(sight(preparing(2), missing, as(bob, pgcoord.Running, 1)))
	first, actions := decide(s, v)
	second, again := decide(s, v)
	assert.Equal(t, first, second)
	assert.Equal(t, actions, again)
	assert.Equal(t, missingBefore, s.absent)
}

func TestLeaderPrunesOnceAGeneration(t *testing.T) {
	calm := leading(sight(active(3, bob), as(bob, pgcoord.Running, 3)))
	s, actions := decide(of(runs(3)), calm)
	require.Equal(t, []action{prune{}}, actions)
	_, actions = decide(s, calm)
	assert.Empty(t, actions)
	_, actions = decide(of(runs(3)), sight(active(3, bob), as(bob, pgcoord.Running, 3)))
	assert.Empty(t, actions, "a follower prunes nothing")
	_, actions = decide(of(runs(3)), leading(sight(active(3, bob), as(bob, pgcoord.Ready, 3))))
	assert.NotContains(t, kinds(actions), "prune", "there is something better to do")
}

func TestAppendsAreSeenAtTheLooks(t *testing.T) {
	at := func(drawn int64) pgcoord.View {
		v := sight(active(1, ann, bob), as(ann, pgcoord.Running, 1), as(bob, pgcoord.Running, 1))
		v.Drawn = drawn
		return v
	}
	s, actions := decide(of(func(s *state) { runs(1)(s); s.pruned = 1 }), at(7))
	assert.Equal(t, []action{wakeHorizon{}}, actions, "a follower tells nobody")
	s, actions = decide(s, at(7))
	assert.Empty(t, actions)
	s, actions = decide(s, leading(at(8)))
	assert.Equal(t, []action{wakeHorizon{}, announceAppends{}}, actions, "after a while without")
	s, actions = decide(s, leading(at(9)))
	assert.Equal(t, []action{wakeHorizon{}}, actions, "the others see it by themselves by now")
	s, actions = decide(s, leading(at(5)))
	assert.Equal(t, []action{wakeHorizon{}}, actions, "a crash of the server may take positions back")
	alone := leading(sight(active(1, bob), as(bob, pgcoord.Running, 1)))
	alone.Drawn = 3
	_, actions = decide(s, alone)
	assert.Equal(t, []action{wakeHorizon{}}, actions, "nobody else is there")
}

// A glance shows no sessions and no leader, so nothing follows from their absence.
func TestAGlanceDecidesNothingForOthers(t *testing.T) {
	missing := as(ann, pgcoord.Running, 1)
	missing.SessionPID, missing.HeartbeatAge = 0, time.Hour
	v := sight(preparing(2), missing, as(bob, pgcoord.Ready, 2))
	v.Glance, v.LeaderPID, v.SessionAge, v.ServerAge = true, 0, 0, 0
	v.Drawn = 7
	before := of(func(s *state) { s.absent = missingBefore })
	s, actions := decide(before, v)
	assert.Empty(t, actions)
	assert.Equal(t, before, s)

	known := leading(sight(active(1, ann, bob), as(ann, pgcoord.Running, 1), as(bob, pgcoord.Running, 1)))
	known.Drawn = 7
	v.Workers = append(v.Workers, pgcoord.Worker{ID: cid})
	after := remembering(v, known)
	assert.Equal(t, known.LeaderPID, after.LeaderPID)
	assert.True(t, after.LeaderLocked)
	assert.False(t, after.Leading)
	assert.Equal(t, []int{as(ann, "", 0).SessionPID, as(bob, "", 0).SessionPID, 0},
		[]int{after.Workers[0].SessionPID, after.Workers[1].SessionPID, after.Workers[2].SessionPID})
	assert.EqualValues(t, 7, after.Drawn)
	assert.Equal(t, known, remembering(known, v), "a whole look needs nothing of before")
}

func TestWhoGlances(t *testing.T) {
	k := &coordinator{worker: &worker{session: &pgcoord.Session{}}, view: sight(active(1))}
	assert.False(t, k.glances(), "nothing called for it")
	k.call(true)
	assert.True(t, k.glances())
	k.call(false)
	assert.False(t, k.glances(), "something else called too")
	k.whole = false
	k.view.LeaderLocked = false
	assert.False(t, k.glances(), "somebody must take the lead")
	k.view.LeaderLocked, k.state.unled = true, new(time.Duration)
	assert.False(t, k.glances(), "no live worker leads")
	k.state.unled = nil
	k.view = leading(k.view)
	assert.False(t, k.glances(), "the leader looks at sessions")
	k.view, k.worker = sight(active(1)), &worker{}
	assert.False(t, k.glances(), "there are no sessions")
}
