package actors

import (
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// transitionLog turns looks into metrics and log lines where something changed. It
// remembers what it has recorded. It belongs to the coordinator's
// goroutine.
type transitionLog struct {
	looked     bool // before
	generation replicaset.Generation
	leading    bool
	isDrained  bool
	stopBegan  time.Time // when the partitions were asked to stop; zero if they were not
	pauseBegan time.Time // the same, until partitions start again

	// When the generation was prepared and became active, until this worker's
	// partitions start.
	prepared, active time.Time
}

// observe records what a look shows.
func (t *transitionLog) observe(k *coordinator, v replicaset.View) {
	m := k.worker.Metrics
	states := map[string]int{}
	for _, w := range v.Workers {
		states[string(w.State)]++
	}
	states[string(replicaset.Dead)] = v.Dead
	m.WorkerStates(states)
	leads := replicaset.Leads(k.state, v)
	t.leads(k, leads)
	m.LeaderUnlocked(replicaset.LeadsUnlocked(k.state, v))
	m.Generation(v.Generation.Number)
	if me, _ := v.Worker(k.state.Self); me.Drained != t.isDrained {
		t.isDrained = me.Drained
		k.log.Info("this worker was drained or undrained; orchestrator_operations says by whom and why", "drained", me.Drained)
	}
	m.Drained(t.isDrained)
	if k.worker.Drained != nil {
		k.worker.Drained(t.isDrained)
	}
	g := v.Generation
	if g.State == replicaset.Active {
		m.GenerationBlocked(false)
	}
	if g.State == replicaset.Active && !t.looked { // it came about before this worker
		k.log.Info("found a generation", "generation", g.Number, "members", len(g.Members), "active_for", g.ActiveFor)
	} else {
		t.changes(k, g)
	}
	t.looked, t.generation = true, g
}

// leads records whether the worker leads. One that cannot look at the replica set leads nobody.
func (t *transitionLog) leads(k *coordinator, leads bool) {
	k.worker.Metrics.Leader(leads)
	if leads != t.leading {
		t.leading = leads
		k.log.Info("leadership changed", "leading", leads)
	}
}

// changes records what has become of the generation since the look before.
func (t *transitionLog) changes(k *coordinator, g replicaset.Generation) {
	m := k.worker.Metrics
	another := g.Number != t.generation.Number && g.Number != 0
	if another && g.State == replicaset.Preparing {
		k.log.Info("a new generation is in preparation", "generation", g.Number, "cause", g.Cause, "reason", g.Reason)
	}
	if g.State == replicaset.Active && (another || t.generation.State != replicaset.Active) {
		m.GenerationChanged(g.Cause) // who died or joined while it was prepared belongs to it, so it counts when it is complete
		m.Coordination(measure.PhasePrepare, g.Age-g.ActiveFor)
		now := time.Now()
		t.prepared, t.active = now.Add(-g.Age), now.Add(-g.ActiveFor)
		k.log.Info("a generation is active", "generation", g.Number, "members", len(g.Members), "took", g.Age-g.ActiveFor,
			"cause", g.Cause, "reason", g.Reason)
	}
}

// stopping begins to measure a pause.
func (t *transitionLog) stopping() {
	t.stopBegan = time.Now()
	if t.pauseBegan.IsZero() {
		t.pauseBegan = t.stopBegan
	}
}

// drained says that nothing is handled any more.
func (t *transitionLog) drained(m *measure.ReplicaSet) {
	if !t.stopBegan.IsZero() {
		m.Coordination(measure.PhaseStop, time.Since(t.stopBegan))
		t.stopBegan = time.Time{}
	}
}

// started says that partitions handle events again.
func (t *transitionLog) started(m *measure.ReplicaSet) {
	if !t.active.IsZero() {
		m.Coordination(measure.PhaseStart, time.Since(t.active))
		m.Coordination(measure.PhaseTotal, time.Since(t.prepared))
		t.prepared, t.active = time.Time{}, time.Time{}
	}
	if !t.pauseBegan.IsZero() {
		m.Paused(time.Since(t.pauseBegan))
		t.pauseBegan = time.Time{}
	}
}
