package actors

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
)

// seeded makes the choices of a seed.
type seeded struct{ *rand.Rand }

func newSeeded(seed uint64) seeded { return seeded{rand.New(rand.NewPCG(seed, 1))} }

func (s seeded) intN(n int) int { return s.IntN(n) }

// steps are what a node may do at any moment.
var steps = []func(*node){
	(*node).look, (*node).conclude, (*node).act, (*node).hear, (*node).supervise, (*node).drained, (*node).beat, (*node).expire,
}

const mostNodes = 5

// step is one thing that happens: mostly a step of a node, sometimes a fault.
func (w *world) step() {
	w.now += time.Duration(w.choose.intN(20)) * time.Millisecond
	if w.choose.intN(25) == 0 {
		w.fault()
		return
	}
	n := w.nodes[w.choose.intN(len(w.nodes))]
	if n.gone || n.frozen {
		return
	}
	steps[w.choose.intN(len(steps))](n)
}

// fault is something that goes wrong, or a worker that comes or goes.
func (w *world) fault() {
	n := w.nodes[w.choose.intN(len(w.nodes))]
	kind := w.choose.intN(14)
	if n.gone && kind > 2 {
		return
	}
	switch kind {
	case 0, 1:
		if len(w.nodes) < mostNodes {
			w.spawnNode()
		}
	case 2:
		if len(w.late) > 0 {
			w.late[0]()
			w.late = w.late[1:]
		}
	case 3:
		w.logf("%s crashes", n.name)
		n.crash()
	case 4:
		w.logf("%s is killed", n.name)
		n.die()
	case 5:
		w.logf("%s is to leave", n.name)
		n.ask(messages.Leave{})
	case 6:
		w.logf("%s frozen: %v", n.name, !n.frozen)
		n.frozen = !n.frozen
	case 7:
		w.logf("%s cut: %v", n.name, !n.cut)
		n.cut = !n.cut
	case 8, 9:
		w.logf("%s session changes", n.name)
		w.toggleSession(n)
	case 10:
		w.now += time.Duration(w.choose.intN(2000)) * time.Millisecond
	case 11:
		w.logf("the database restarts")
		for _, n := range w.nodes {
			w.endSession(n)
		}
	case 12:
		if w.leader == strangerPID {
			w.leader = 0
		} else if w.leader == 0 && !w.pollOnly {
			w.logf("a stranger takes the leader's lock")
			w.leader = strangerPID
		}
	case 13:
		if w.steps {
			w.offset += time.Duration(w.choose.intN(1200)-600) * time.Second
			w.logf("the database's clock is %s ahead", w.offset)
		}
	}
}

func (w *world) toggleSession(n *node) {
	if n.pid != 0 {
		w.endSession(n)
	} else if !n.frozen {
		w.connect(n)
	}
}

// history runs a world with faults, then lets it become quiet.
func (w *world) history(length int) {
	w.spawnNode()
	for range length {
		w.step()
		w.check()
		if w.violation != "" {
			return
		}
	}
	for _, late := range w.late {
		late()
	}
	w.logf("quiet")
	for _, n := range w.nodes {
		n.cut = false
		if n.frozen && w.choose.intN(2) == 0 { // else its host has vanished, and its session stays
			n.frozen = false
		}
		if !n.gone && !n.frozen && n.pid == 0 {
			w.connect(n)
		}
	}
	w.settle()
}

// settle runs fair rounds and demands that an active generation of exactly the
// live workers is reached, and stays.
func (w *world) settle() {
	const reached, stays = 120, 40
	for range reached {
		if w.round(); w.violation != "" {
			return
		}
	}
	live := w.live()
	g := w.current()
	switch {
	case len(live) == 0:
		return
	case g == nil || g.state != replicaset.Active:
		w.broken("no generation is active after %d quiet rounds: %+v", reached, g)
		return
	case !slices.Equal(g.members, live):
		w.broken("generation %d has the members %v, alive are %v", g.number, g.members, live)
	}
	for range stays {
		w.round()
	}
	for _, id := range live {
		n, row := w.node(id), w.rows[id]
		if n.run == nil || n.run.generation != g.number || n.run.stopping || row.state != replicaset.Running || row.generation != g.number {
			w.broken("%s does not run generation %d: %+v, row %+v, coordinator %+v", n.name, g.number, n.run, row, n.k.state)
		}
	}
	if now := w.current(); now != g {
		w.broken("generation %d follows generation %d though nothing has happened", now.number, g.number)
	}
}

// round lets every node do everything once or more, in order.
func (w *world) round() {
	w.now += 50 * time.Millisecond
	for _, n := range w.nodes {
		if n.gone || n.frozen {
			continue
		}
		if n.pid == 0 {
			w.connect(n)
		}
		n.beat()
		n.expire()
		n.drained()
		for len(n.toSupervisor) > 0 && !n.gone {
			n.supervise()
		}
		for len(n.inbox) > 0 {
			n.hear()
		}
		if n.gone {
			continue
		}
		n.look()
		n.conclude()
		for n.todo != nil {
			n.act()
			w.check()
		}
		w.check()
	}
}

// live is the workers that are there and mean to stay, ordered.
func (w *world) live() []uuid.UUID {
	var ids []uuid.UUID
	for _, n := range w.nodes {
		if !n.gone && !n.frozen {
			ids = append(ids, n.id)
		}
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return strings.Compare(string(a[:]), string(b[:])) })
	return ids
}

const (
	longest   = 700 // steps of a history
	histories = 15  // of each check
)

// TestReplicaSetKeepsItsPromises runs random histories of a replica set: late
// and repeated actions, crashes, freezes, broken sessions.
func TestReplicaSetKeepsItsPromises(t *testing.T) {
	for name, pollOnly := range map[string]bool{"sessions": false, "poll only": true} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				// A shorter length is the beginning of the same history.
				seed, length := rapid.Uint64().Draw(rt, "seed"), rapid.IntRange(0, longest).Draw(rt, "length")
				for i := range uint64(histories) {
					w := newWorld(newSeeded(seed+i), pollOnly)
					if w.history(length); w.violation != "" {
						rt.Fatalf("%s\n%s", w.violation, strings.Join(w.trace, "\n"))
					}
				}
			})
		})
	}
}

// TestSimulationNotices shows that the simulation finds mistakes: each spoils
// one rule, and some history must break a promise.
func TestSimulationNotices(t *testing.T) {
	for name, spoil := range map[string]func(*world){
		"ready before drained": func(w *world) {
			w.decide = func(s replicaset.State, v replicaset.View) (replicaset.State, []replicaset.Action) {
				s, actions := replicaset.Decide(s, v)
				for _, a := range actions {
					if _, stops := a.(replicaset.StopPartitions); stops && v.Generation.State == replicaset.Preparing {
						actions = append(actions, replicaset.Report{State: replicaset.Ready, Generation: v.Generation.Number})
					}
				}
				return s, actions
			}
		},
		"Prepare without a look at the current generation": func(w *world) { w.unchecked = true },
		"no new generation for the lost": func(w *world) {
			w.decide = func(s replicaset.State, v replicaset.View) (replicaset.State, []replicaset.Action) {
				s, actions := replicaset.Decide(s, v)
				return s, slices.DeleteFunc(actions, func(a replicaset.Action) bool {
					p, ok := a.(replicaset.Prepare)
					return ok && len(p.Preparation.Lost) > 0
				})
			}
		},
		"a generation at every look": func(w *world) {
			w.decide = func(s replicaset.State, v replicaset.View) (replicaset.State, []replicaset.Action) {
				s, actions := replicaset.Decide(s, v)
				if g := v.Generation; v.Leading && g.State == replicaset.Active && len(actions) == 0 && s.Partitions == replicaset.Handling {
					actions = append(actions, replicaset.Prepare{Preparation: replicaset.Preparation{From: g.Number, By: s.Self}})
				}
				return s, actions
			}
		},
		"ages on the database's clock": func(w *world) { w.databaseAges, w.steps = true, true },
		"a stranger has the leader's lock, and nobody leads": func(w *world) {
			w.decide = func(s replicaset.State, v replicaset.View) (replicaset.State, []replicaset.Action) {
				s.LeaderlessSince = nil
				return replicaset.Decide(s, v)
			}
		},
		"a frozen leader is left alone": func(w *world) {
			w.decide = func(s replicaset.State, v replicaset.View) (replicaset.State, []replicaset.Action) {
				s.LeaderlessSince = nil
				s, actions := replicaset.Decide(s, v)
				return s, slices.DeleteFunc(actions, func(a replicaset.Action) bool {
					_, ok := a.(replicaset.EndLeader)
					return ok
				})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(2000) {
				w := newWorld(newSeeded(seed), false)
				spoil(w)
				if w.history(longest); w.violation != "" {
					t.Logf("seed %d: %s", seed, w.violation)
					return
				}
			}
			require.Fail(t, "2000 histories broke no promise")
		})
	}
}
