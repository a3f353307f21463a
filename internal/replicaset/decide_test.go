package replicaset

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
func of(change func(*State)) State {
	s := State{Self: bob, Timing: decideTiming, Trusted: true}
	if change != nil {
		change(&s)
	}
	return s
}

func runs(generation int64) func(*State) {
	return func(s *State) { s.Partitions, s.Generation = Handling, generation }
}

// as is a worker with a session and a fresh heartbeat.
func as(id uuid.UUID, st WorkerState, generation int64) Worker {
	return Worker{ID: id, Name: "w", State: st, Generation: generation, HasSession: true, SessionPID: 1000 + int(id[0])}
}

// sight is a view of a follower with an old session.
func sight(g Generation, workers ...Worker) View {
	return View{Generation: g, Workers: workers, At: time.Hour, SessionAge: time.Hour, ServerAge: time.Hour, LeaderLocked: true, LeaderPID: 1000 + int(ann[0])}
}

// leading is the same of the leader.
func leading(v View) View {
	v.Leading, v.LeaderPID = true, 1000+int(bob[0])
	return v
}

// contradicted is a view in which somebody has changed checkpoints of "p".
func contradicted(v View) View {
	v.Contradicting = []string{"p"}
	return v
}

// preparing and active are generations, old enough not to wait for.
func preparing(number int64) Generation {
	return Generation{Number: number, State: Preparing, Reason: "a test", Age: time.Second}
}

func active(number int64, members ...uuid.UUID) Generation {
	return Generation{Number: number, State: Active, Members: members, Age: time.Hour, ActiveFor: time.Hour}
}

func TestDecideOwn(t *testing.T) {
	leaving := func(s *State) { s.Leaving = true }
	for name, test := range map[string]struct {
		state   State
		view    View
		actions []Action
		after   Phase
	}{
		"joins when its row is not there": {of(nil), sight(active(1, ann), as(ann, Running, 1)), []Action{Join{}}, Idle},
		"stops first when its row is gone": {
			of(runs(1)), sight(active(1, ann)), []Action{StopPartitions{Generation: 1, Now: true, Reason: "the worker's row is gone"}}, Draining,
		},
		"leaves without a row": {of(leaving), sight(active(1, ann)), []Action{Leave{}}, Idle},

		"stops when declared dead": {
			of(runs(1)), sight(preparing(2), as(bob, Dead, 1)),
			[]Action{StopPartitions{Generation: 1, Now: true, Reason: "the worker was declared dead"}},
			Draining,
		},
		"waits for the stop when declared dead": {
			of(func(s *State) { runs(1)(s); s.Partitions = Draining }), sight(preparing(2), as(bob, Dead, 1)), nil, Draining,
		},
		"rejoins when nothing runs any more":           {of(nil), sight(preparing(2), as(bob, Dead, 1)), []Action{Rejoin{}}, Idle},
		"joins again when somebody wrote that it left": {of(nil), sight(preparing(2), as(bob, Stopped, 1)), []Action{Rejoin{}}, Idle},
		"requests a generation when checkpoints contradict the active one": {
			of(func(s *State) { s.Generation, s.Fenced = 1, true }), sight(active(1, bob), as(bob, Running, 1)), []Action{RequestGeneration{}}, Idle,
		},
		"waits for the answer to its request": {
			of(func(s *State) { s.Generation, s.Fenced = 1, true }), sight(active(1, bob), as(bob, Pending, 1)), nil, Idle,
		},

		"drains before it is ready": {
			of(runs(1)), sight(preparing(2), as(bob, Running, 1)),
			[]Action{StopPartitions{Generation: 1, Reason: "generation 2 is in preparation: a test"}},
			Draining,
		},
		"is not ready while it drains": {
			of(func(s *State) { runs(1)(s); s.Partitions = Draining }), sight(preparing(2), as(bob, Running, 1)), nil, Draining,
		},
		"reports ready when idle": {
			of(nil), sight(preparing(2), as(bob, Running, 1)), []Action{Report{State: Ready, Generation: 2}}, Idle,
		},
		"reports ready for the generation that is in preparation now": {
			of(nil), sight(preparing(3), as(bob, Ready, 2)), []Action{Report{State: Ready, Generation: 3}}, Idle,
		},
		"reports ready once": {of(nil), sight(preparing(2), as(bob, Ready, 2)), nil, Idle},

		"starts when trusted and idle": {of(nil), sight(active(2, bob), as(bob, Ready, 2)), []Action{StartPartitions{Generation: 2}}, Idle},
		"does not start untrusted": {
			of(func(s *State) { s.Trusted = false }), sight(active(2, bob), as(bob, Ready, 2)), nil, Idle,
		},
		"does not start while it drains": {
			of(func(s *State) { runs(1)(s); s.Partitions = Draining }), sight(active(2, bob), as(bob, Ready, 2)), nil, Draining,
		},
		"reports running": {
			of(runs(2)), sight(active(2, bob), as(bob, Ready, 2)), []Action{Report{State: Running, Generation: 2}}, Handling,
		},
		"is content": {of(runs(2)), sight(active(2, bob), as(bob, Running, 2)), nil, Handling},
		"stops what is of an older generation": {
			of(runs(1)), sight(active(2, bob), as(bob, Ready, 2)),
			[]Action{StopPartitions{Generation: 1, Now: true, Reason: "the partitions are of another generation"}},
			Draining,
		},
		"stops when fenced": {
			of(func(s *State) { runs(2)(s); s.Fenced = true }), sight(active(2, bob), as(bob, Running, 2)),
			[]Action{StopPartitions{Generation: 2, Now: true, Reason: "the partitions are of another generation"}},
			Draining,
		},
		"stops when its checkpoints contradict the generation": {
			of(runs(2)), contradicted(sight(active(2, bob), as(bob, Running, 2))),
			[]Action{StopPartitions{Generation: 2, Now: true, Reason: "the partitions are of another generation"}},
			Draining,
		},
		"says which": {
			of(func(s *State) { s.Generation, s.Fenced = 1, true }), contradicted(sight(active(1, bob), as(bob, Running, 1))),
			[]Action{RequestGeneration{Projections: []string{"p"}}},
			Idle,
		},
		"stops when it is no member": {
			of(runs(1)), sight(active(2, ann), as(bob, Running, 1)),
			[]Action{StopPartitions{Generation: 1, Now: true, Reason: "the worker is not a member of the active generation"}},
			Draining,
		},
		"is pending when it is no member": {
			of(nil), sight(active(2, ann), as(bob, Ready, 1)), []Action{Report{State: Pending}}, Idle,
		},
		"waits pending":                  {of(nil), sight(active(2, ann), as(bob, Pending, 0)), nil, Idle},
		"waits for the first generation": {of(nil), sight(Generation{}, as(bob, Pending, 0)), nil, Idle},

		"leaves when nothing runs": {of(leaving), sight(active(2, bob), as(bob, Ready, 2)), []Action{Leave{}}, Idle},
		"drains before it leaves": {
			of(func(s *State) { runs(2)(s); leaving(s) }), sight(active(2, bob), as(bob, Running, 2)),
			[]Action{StopPartitions{Generation: 2, Reason: "the worker is leaving"}, Report{State: Stopping, Generation: 2}},
			Draining,
		},
		"drains once": {
			of(func(s *State) { runs(2)(s); leaving(s); s.Partitions = Draining }), sight(active(2, bob), as(bob, Stopping, 2)), nil, Draining,
		},
		"drains also when dead": {
			of(func(s *State) { runs(2)(s); leaving(s) }), sight(active(2, bob), as(bob, Dead, 2)),
			[]Action{StopPartitions{Generation: 2, Reason: "the worker is leaving"}},
			Draining,
		},
	} {
		t.Run(name, func(t *testing.T) {
			after, actions := Decide(test.state, test.view)
			assert.Equal(t, test.actions, actions)
			assert.Equal(t, test.after, after.Partitions)
		})
	}
}

// decideAs decides in a view where bob has nothing to do for himself.
func decideAs(t *testing.T, s State, v View) (State, []Action) {
	t.Helper()
	me, known := v.Worker(bob)
	require.True(t, known)
	_, own := DecideOwn(s, v, me)
	require.Empty(t, own, "the table is about the leader's actions")
	s.pruned = v.Generation.Number
	return Decide(s, v)
}

// prepared is the change that the first action asks for.
func prepared(t *testing.T, actions []Action) Preparation {
	t.Helper()
	require.Len(t, actions, 2)
	require.IsType(t, Prepare{}, actions[0])
	assert.Equal(t, LookAgain{}, actions[1])
	change := actions[0].(Prepare).Preparation
	assert.Equal(t, bob, change.By)
	assert.NotEmpty(t, change.Changes)
	return change
}

func TestLeaderPreparesAGeneration(t *testing.T) {
	stale := func(w Worker) Worker {
		w.HeartbeatAge, w.Heartbeat = decideTiming.Stale, "old"
		return w
	}
	gone := func(w Worker) Worker { w.SessionPID = 0; return w }
	for name, test := range map[string]struct {
		state State
		view  View
		cause string
		lost  []uuid.UUID
	}{
		"the first": {of(nil), sight(Generation{}, as(bob, Pending, 0)), CauseFirst, nil},
		"a worker joined": {
			of(runs(1)), sight(active(1, bob), as(ann, Pending, 0), as(bob, Running, 1)), CauseJoined, nil,
		},
		"a worker left": {of(runs(1)), sight(active(1, ann, bob), as(bob, Running, 1)), CauseLeft, nil},
		"a member found checkpoints that contradict it": {
			of(runs(1)), sight(active(1, ann, bob), as(ann, Pending, 1), as(bob, Running, 1)), CauseInconsistent, nil,
		},
		"a session is missing for the second time": {
			of(func(s *State) { runs(1)(s); s.absent = missingBefore }),
			sight(active(1, ann, bob), gone(as(ann, Running, 1)), as(bob, Running, 1)), CauseLost,
			[]uuid.UUID{ann},
		},
		"a heartbeat is stale": {
			of(runs(1)), sight(active(1, ann, bob), stale(as(ann, Running, 1)), as(bob, Running, 1)), CauseLost, []uuid.UUID{ann},
		},
		"one came, one is lost": {
			of(runs(1)), sight(active(1, ann, bob), stale(as(ann, Running, 1)), as(bob, Running, 1), as(cid, Pending, 0)),
			CauseLost,
			[]uuid.UUID{ann},
		},
		"one came, one left": {
			of(runs(1)), sight(active(1, ann, bob), as(bob, Running, 1), as(cid, Pending, 0)), CauseChanged, nil,
		},
		"a stranger is lost with the change": {
			of(runs(1)), sight(active(1, bob, uuid.UUID{9}), stale(as(ann, Pending, 0)), as(bob, Running, 1)), CauseLeft, []uuid.UUID{ann},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, actions := decideAs(t, test.state, leading(test.view))
			change := prepared(t, actions)
			assert.Equal(t, test.cause, Cause(change.From == 0, change.Changes))
			assert.Equal(t, test.view.Generation.Number, change.From)
			var lost []uuid.UUID
			for _, l := range change.Lost {
				lost = append(lost, l.Worker)
				assert.NotEmpty(t, l.Detail)
				assert.NotEqual(t, l.SessionGone, l.Heartbeat == "old", "there is one kind of evidence")
			}
			assert.Equal(t, test.lost, lost)

			_, actions = decideAs(t, test.state, test.view)
			assert.NotContains(t, kinds(actions), "Prepare", "a follower prepares nothing")
			young := test.view
			young.Generation.ActiveFor = decideTiming.Settle - time.Millisecond
			_, actions = decideAs(t, test.state, leading(young))
			if test.cause == CauseFirst {
				prepared(t, actions)
			} else {
				assert.Equal(t, []Action{LookAgain{After: time.Millisecond}}, actions, "a change waits that follows another closely")
			}
		})
	}
}

// kinds are the labels of actions.
func kinds(actions []Action) []string {
	var labels []string
	for _, a := range actions {
		labels = append(labels, reflect.TypeOf(a).Name())
	}
	return labels
}

func TestLeaderLeavesWellAlone(t *testing.T) {
	for name, test := range map[string]struct {
		state State
		view  View
		want  []Action
	}{
		"nothing has changed":          {of(runs(1)), sight(active(1, ann, bob), as(ann, Running, 1), as(bob, Running, 1)), nil},
		"a member is on its way out":   {of(runs(1)), sight(active(1, ann, bob), as(ann, Stopping, 1), as(bob, Running, 1)), nil},
		"a stranger is on its way out": {of(runs(1)), sight(active(1, bob), as(ann, Stopping, 0), as(bob, Running, 1)), nil},
		"a stranger is dead": {
			of(runs(1)), sight(active(1, bob), Worker{ID: ann, State: Pending, HeartbeatAge: time.Hour}, as(bob, Running, 1)),
			[]Action{DeclareDead{Losses: []Loss{{Worker: ann, Detail: "its last heartbeat is older than 30s"}}}},
		},
		"a worker with another stale timeout is late": {
			of(runs(1)), sight(active(1, ann, bob), Worker{ID: ann, State: Running, Generation: 1, HeartbeatAge: time.Minute, StaleTimeout: 2 * time.Minute}, as(bob, Running, 1)), nil,
		},
		"a stranger with a longer stale timeout is dead": {
			of(runs(1)), sight(active(1, bob), Worker{ID: ann, State: Pending, HeartbeatAge: time.Hour, StaleTimeout: 2 * time.Minute}, as(bob, Running, 1)),
			[]Action{DeclareDead{Losses: []Loss{{Worker: ann, Detail: "its last heartbeat is older than 2m0s"}}}},
		},
		"a shorter stale timeout of a worker counts for nothing": {
			of(runs(1)), sight(active(1, ann, bob), Worker{ID: ann, State: Running, Generation: 1, HeartbeatAge: 20 * time.Second, StaleTimeout: time.Second}, as(bob, Running, 1)), nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, actions := decideAs(t, test.state, leading(test.view))
			assert.Equal(t, test.want, actions)
		})
	}
	t.Run("it is leaving itself", func(t *testing.T) {
		_, actions := Decide(of(func(s *State) { s.Leaving = true }), leading(sight(active(1, bob), as(ann, Pending, 0), as(bob, Running, 1))))
		assert.Equal(t, []Action{Leave{}}, actions)
	})
}

// missingBefore is a session that has been missing for long enough at the next look.
var missingBefore = map[uuid.UUID]time.Duration{ann: time.Hour - absenceInterval}

func TestMissingSessionsCount(t *testing.T) {
	missing := as(ann, Running, 1)
	missing.SessionPID = 0
	v := leading(sight(active(1, ann, bob), missing, as(bob, Running, 1)))

	s, actions := Decide(of(func(s *State) { runs(1)(s); s.pruned = 1 }), v)
	assert.Equal(t, map[uuid.UUID]time.Duration{ann: v.At}, s.absent)
	assert.Equal(t, []Action{LookAgain{After: absenceInterval}}, actions, "missing once is no loss")

	back := v
	back.Workers = []Worker{as(ann, Running, 1), as(bob, Running, 1)}
	s2, actions := Decide(s, back)
	assert.Empty(t, s2.absent, "it was only reconnecting")
	assert.Empty(t, actions)

	soon := v
	soon.At += absenceInterval - 1
	_, actions = Decide(s, soon)
	assert.Equal(t, []Action{LookAgain{After: absenceInterval}}, actions, "two looks in quick succession are no proof")

	v.At += absenceInterval
	_, actions = Decide(s, v)
	assert.Equal(t, []uuid.UUID{ann}, []uuid.UUID{prepared(t, actions).Lost[0].Worker})

	young := v
	young.ServerAge = decideTiming.SessionGrace - time.Millisecond
	s3, actions := Decide(s, young)
	assert.Empty(t, s3.absent, "right after a restart of the database nobody has a session")
	assert.Empty(t, actions)

	young = v
	young.SessionAge = decideTiming.SessionGrace - time.Millisecond
	s.Reconnected = true
	s, actions = Decide(s, young)
	assert.Empty(t, s.absent, "whatever ended one's own session may have ended all")
	assert.Empty(t, actions)

	for name, w := range map[string]Worker{
		"it never had one":  {ID: ann, State: Running, Generation: 1},
		"it is dead anyway": {ID: ann, State: Dead, HasSession: true},
	} {
		assert.Empty(t, missingSince(of(nil), sight(active(1, ann, bob), w)), name)
	}
	own := as(bob, Running, 1)
	own.SessionPID = 0
	assert.Empty(t, missingSince(of(nil), sight(active(1, bob), own)), "one's own absence is not for oneself to judge")
	assert.Empty(t, missingSince(of(func(s *State) { s.PollOnly = true }), v), "there are no sessions")
}

func TestLeaderActivates(t *testing.T) {
	ready := as(bob, Ready, 2)
	late := preparing(2)
	late.Age = decideTiming.Coordination
	lost := as(ann, Running, 1)
	lost.HeartbeatAge = decideTiming.Stale
	now := []Action{Activate{Activation: Activation{Number: 2, By: bob}}, LookAgain{}}
	waits := []Action{LookAgain{After: patienceYoung}}
	for name, test := range map[string]struct {
		view View
		want []Action
	}{
		"when all are ready":                    {sight(preparing(2), as(ann, Ready, 2), ready), now},
		"alone":                                 {sight(preparing(2), ready), now},
		"not before a running one is":           {sight(preparing(2), as(ann, Running, 1), ready), waits},
		"not before a pending one is":           {sight(preparing(2), as(ann, Pending, 0), ready), waits},
		"not before one on its way out is gone": {sight(preparing(2), as(ann, Stopping, 1), ready), waits},
		"not by who was ready for another":      {sight(preparing(2), as(ann, Ready, 1), ready), waits},
		"without the late when it is time": {
			sight(late, as(ann, Running, 1), ready, as(cid, Stopping, 1)),
			[]Action{Activate{Activation: Activation{
				Number: 2, By: bob, Exclude: []uuid.UUID{ann, cid}, Detail: "did not stop within 1m0s for generation 2",
			}}, LookAgain{}},
		},
		"not in the round that declares somebody dead": {
			sight(preparing(2), lost, ready),
			[]Action{DeclareDead{Losses: []Loss{{Worker: ann, Detail: "its last heartbeat is older than 30s"}}}, LookAgain{}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, actions := decideAs(t, of(nil), leading(test.view))
			assert.Equal(t, test.want, actions)
			_, actions = decideAs(t, of(nil), test.view)
			assert.NotContains(t, kinds(actions), "Activate", "a follower activates nothing")
		})
	}
	t.Run("never with nobody ready", func(t *testing.T) {
		draining := of(func(s *State) { s.Partitions, s.Generation = Draining, 1 })
		_, actions := decideAs(t, draining, leading(sight(late, as(ann, Running, 1), as(bob, Running, 1))))
		assert.Equal(t, []Action{LookAgain{After: decideTiming.Observe}}, actions)
	})
	t.Run("looks the sooner again the shorter it has waited", func(t *testing.T) {
		for age, after := range map[time.Duration]time.Duration{
			0: patienceLeast, 30 * time.Millisecond: 15 * time.Millisecond, 100 * time.Millisecond: patienceYoung, YoungChange - 1: patienceYoung,
			YoungChange: decideTiming.Observe, time.Hour: decideTiming.Observe,
		} {
			v := sight(preparing(2), ready)
			v.Generation.Age = age
			assert.Equal(t, after, patience(of(nil), v))
		}
	})
	t.Run("looks the later again the more they are", func(t *testing.T) {
		for workers, after := range map[int]time.Duration{32: 8 * time.Millisecond, 40: 10 * time.Millisecond, 100: patienceYoung, 200: 50 * time.Millisecond, 10000: decideTiming.Observe} {
			v := View{Generation: Generation{Number: 2, State: Preparing}, Workers: make([]Worker, workers)}
			assert.Equal(t, after, patience(of(nil), v), workers)
		}
	})
	t.Run("looks soon for a missing session", func(t *testing.T) {
		missing := as(ann, Running, 1)
		missing.SessionPID = 0
		lasting := preparing(2)
		lasting.Age = YoungChange
		_, actions := decideAs(t, of(nil), leading(sight(lasting, missing, ready)))
		assert.Equal(t, []Action{LookAgain{After: absenceInterval}}, actions)
	})
}

// Many workers go on handling events until all had time to notice that a generation is in preparation.
func TestManyStopTogether(t *testing.T) {
	crowd := func(n int, age time.Duration) View {
		v := sight(preparing(2), as(bob, Running, 1))
		for i := 1; i < n; i++ {
			v.Workers = append(v.Workers, as(uuid.UUID{15: byte(i), 14: 1}, Running, 1))
		}
		v.Generation.Age = age
		return v
	}
	for name, test := range map[string]struct {
		view View
		want time.Duration
	}{
		"few":               {crowd(15, 0), 0},
		"many":              {crowd(16, 0), 6400 * time.Microsecond},
		"most":              {crowd(200, 0), 50 * time.Millisecond},
		"some time ago":     {crowd(100, 30*time.Millisecond), 10 * time.Millisecond},
		"a long time ago":   {crowd(100, time.Minute), 0},
		"without a session": {View{Generation: preparing(2), Workers: slices.Repeat([]Worker{{State: Running}}, 100)}, 0},
	} {
		assert.Equal(t, test.want, stopAfter(test.view), name)
	}
	_, actions := Decide(of(runs(1)), crowd(100, 0))
	require.IsType(t, StopPartitions{}, actions[0])
	assert.Equal(t, 40*time.Millisecond, actions[0].(StopPartitions).After)
	_, actions = Decide(of(func(s *State) { runs(1)(s); s.Leaving = true }), crowd(100, 0))
	require.IsType(t, StopPartitions{}, actions[0])
	assert.Zero(t, actions[0].(StopPartitions).After, "who leaves waits for nobody")
}

func TestPollOnlyLeaderIsTheLeastLive(t *testing.T) {
	pollOnly := of(func(s *State) { s.PollOnly = true })
	fresh := Worker{ID: ann, State: Ready, Generation: 2}
	stale := fresh
	stale.HeartbeatAge = decideTiming.Stale
	left := fresh
	left.State = Stopped
	me := Worker{ID: bob, State: Ready, Generation: 2}
	for name, test := range map[string]struct {
		first Worker
		acts  bool
	}{
		"another is":       {fresh, false},
		"another was":      {stale, true},
		"another has left": {left, true},
	} {
		t.Run(name, func(t *testing.T) {
			v := View{Generation: preparing(2), Workers: []Worker{test.first, me}}
			_, actions := decideAs(t, pollOnly, v)
			assert.Equal(t, test.acts, len(actions) > 0, "%v", actions)
			v.Leading = true
			_, again := decideAs(t, pollOnly, v)
			assert.Equal(t, actions, again, "the lock means nothing")
		})
	}
}

func TestFrozenLeadersSessionIsEndedByTheLeastLive(t *testing.T) {
	frozen := func(id uuid.UUID) Worker {
		w := as(id, Running, 1)
		w.HeartbeatAge = decideTiming.Stale
		return w
	}
	me, other := as(bob, Running, 1), as(cid, Running, 1)
	led := func(by uuid.UUID, workers ...Worker) View {
		v := sight(active(1, ann, bob, cid), workers...)
		v.LeaderPID = 1000 + int(by[0])
		return v
	}
	ends := func(id uuid.UUID) []Action {
		return []Action{EndLeader{PID: 1000 + int(id[0]), Worker: id}, LookAgain{}}
	}
	sessionless := frozen(ann)
	sessionless.SessionPID = 0
	for name, test := range map[string]struct {
		view View
		want []Action
	}{
		"the leader is frozen":               {led(ann, frozen(ann), me, other), ends(ann)},
		"it has a greater id":                {led(cid, as(ann, Dead, 1), me, frozen(cid)), ends(cid)},
		"somebody lesser is there to do it":  {led(cid, as(ann, Running, 1), me, frozen(cid)), nil},
		"the leader is well":                 {led(ann, as(ann, Running, 1), me, other), nil},
		"a frozen worker does not lead":      {led(cid, frozen(ann), me, other), nil},
		"the leader has no session any more": {led(ann, sessionless, me, other), nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, actions := decideAs(t, of(runs(1)), test.view)
			assert.Equal(t, test.want, actions)
			_, actions = decideAs(t, of(func(s *State) { runs(1)(s); s.PollOnly = true; s.Self = bob }), test.view)
			assert.NotContains(t, kinds(actions), "EndLeader")
		})
	}
}

// TestDecideIsPure: the state that went in is not changed.
func TestDecideIsPure(t *testing.T) {
	missing := as(ann, Running, 1)
	missing.SessionPID = 0
	s := of(func(s *State) { runs(1)(s); s.absent = missingBefore })
	v := leading(sight(preparing(2), missing, as(bob, Running, 1)))
	first, actions := Decide(s, v)
	second, again := Decide(s, v)
	assert.Equal(t, first, second)
	assert.Equal(t, actions, again)
	assert.Equal(t, missingBefore, s.absent)
}

func TestLeaderPrunesOnceAGeneration(t *testing.T) {
	calm := leading(sight(active(3, bob), as(bob, Running, 3)))
	s, actions := Decide(of(runs(3)), calm)
	require.Equal(t, []Action{Prune{}}, actions)
	_, actions = Decide(s, calm)
	assert.Empty(t, actions)
	_, actions = Decide(of(runs(3)), sight(active(3, bob), as(bob, Running, 3)))
	assert.Empty(t, actions, "a follower prunes nothing")
	_, actions = Decide(of(runs(3)), leading(sight(active(3, bob), as(bob, Ready, 3))))
	assert.NotContains(t, kinds(actions), "Prune", "there is something better to do")
}

func TestAppendsAreSeenAtTheLooks(t *testing.T) {
	at := func(drawn int64) View {
		v := sight(active(1, ann, bob), as(ann, Running, 1), as(bob, Running, 1))
		v.LastAllocated = drawn
		return v
	}
	s, actions := Decide(of(func(s *State) { runs(1)(s); s.pruned = 1 }), at(7))
	assert.Equal(t, []Action{WakeHorizon{}}, actions, "a follower tells nobody")
	s, actions = Decide(s, at(7))
	assert.Empty(t, actions)
	s, actions = Decide(s, leading(at(8)))
	assert.Equal(t, []Action{WakeHorizon{}, AnnounceAppends{}}, actions, "after a while without")
	s, actions = Decide(s, leading(at(9)))
	assert.Equal(t, []Action{WakeHorizon{}}, actions, "the others see it by themselves by now")
	s, actions = Decide(s, leading(at(5)))
	assert.Equal(t, []Action{WakeHorizon{}}, actions, "a crash of the server may take positions back")
	alone := leading(sight(active(1, bob), as(bob, Running, 1)))
	alone.LastAllocated = 3
	_, actions = Decide(s, alone)
	assert.Equal(t, []Action{WakeHorizon{}}, actions, "nobody else is there")
}

// A glance shows no sessions and no leader, so nothing follows from their absence.
func TestAGlanceDecidesNothingForOthers(t *testing.T) {
	missing := as(ann, Running, 1)
	missing.SessionPID, missing.HeartbeatAge = 0, time.Hour
	v := sight(preparing(2), missing, as(bob, Ready, 2))
	v.Glance, v.LeaderPID, v.SessionAge, v.ServerAge = true, 0, 0, 0
	v.LastAllocated = 7
	before := of(func(s *State) { s.absent = missingBefore })
	s, actions := Decide(before, v)
	assert.Empty(t, actions)
	assert.Equal(t, before, s)

	known := leading(sight(active(1, ann, bob), as(ann, Running, 1), as(bob, Running, 1)))
	known.LastAllocated = 7
	v.Workers = v.Workers[1:]
	after := Remembering(v, known, bob)
	assert.Equal(t, known.LeaderPID, after.LeaderPID)
	assert.True(t, after.LeaderLocked)
	assert.False(t, after.Leading)
	assert.Equal(t, known.Workers[0], after.Workers[0], "a glance does not show the others")
	me := as(bob, Ready, 2)
	assert.Equal(t, []Worker{known.Workers[0], me}, after.Workers)
	v.Workers = nil
	assert.Equal(t, known.Workers[:1], Remembering(v, known, bob).Workers, "its own row is gone")
	v.Workers = []Worker{me}
	assert.Equal(t, v.Workers, Remembering(v, View{}, bob).Workers, "nothing is known of others")
	assert.EqualValues(t, 7, after.LastAllocated)
	assert.Equal(t, known, Remembering(known, v, bob), "a whole look needs nothing of before")
}

// Where the abandoned handlers cannot be recorded nobody leaves them out. The worker starts all else, and their projections when they have returned.
func TestAWorkerGoesOnThatCannotRecordWhatItHasAbandoned(t *testing.T) {
	hung := []AbandonedHandler{{Projection: "p", Generation: 1}}
	v := sight(active(2, bob), as(bob, Ready, 2))
	me := v.Workers[0]
	s := of(func(s *State) { s.Abandoned, s.Generation = hung, 1 })
	_, actions := DecideOwn(s, v, me)
	assert.Equal(t, []Action{RecordAbandoned{Handlers: hung}}, actions, "nothing is started before the generation leaves it out")

	s.RecordAgain = v.At + 1
	s, actions = DecideOwn(s, v, me)
	assert.Equal(t, []Action{StartPartitions{Generation: 2}}, actions)
	s.Partitions, s.Generation, me = Handling, 2, as(bob, Running, 2)
	s, actions = DecideOwn(s, v, me)
	assert.Empty(t, actions)

	s.Abandoned = nil
	s, actions = DecideOwn(s, v, me)
	require.Len(t, actions, 1)
	assert.IsType(t, StopPartitions{}, actions[0])
	s.Partitions = Idle
	s, actions = DecideOwn(s, v, me)
	assert.Equal(t, []Action{StartPartitions{Generation: 2}}, actions)
	s.Partitions = Handling
	_, actions = DecideOwn(s, v, me)
	assert.Empty(t, actions)
}

// A generation is made when somebody has drained a member, or ended that, and not again while nothing changes.
func TestADrainMakesAGeneration(t *testing.T) {
	for name, tt := range map[string]struct {
		drained, without bool
		want             []Kind
	}{
		"drained":            {true, false, []Kind{Drained}},
		"drained before":     {true, true, nil},
		"undrained":          {false, true, []Kind{Undrained}},
		"nothing to be done": {false, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			one := as(bob, Running, 1)
			one.Drained, one.WithoutPartitions = tt.drained, tt.without
			var kinds []Kind
			p, needed := difference(leading(sight(active(1, ann, bob), as(ann, Running, 1), one)), nil)
			for _, c := range p.Changes {
				kinds = append(kinds, c.Kind)
			}
			assert.Equal(t, tt.want, kinds)
			assert.Equal(t, tt.want != nil, needed)
		})
	}
}
