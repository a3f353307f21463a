package actors

import (
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// seen is what the coordinator has told people: it turns looks into metrics
// and log lines where something changed. It belongs to the coordinator's
// goroutine.
type seen struct {
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
func (s *seen) observe(k *coordinator, v replicaset.View) {
	m := k.worker.Metrics
	states := map[string]int{}
	for _, w := range v.Workers {
		states[string(w.State)]++
	}
	states[string(replicaset.Dead)] = v.Dead
	m.WorkerStates(states)
	leads := replicaset.Leads(k.state, v)
	m.Leader(leads)
	m.LeaderUnlocked(replicaset.LeadsUnlocked(k.state, v))
	m.Generation(v.Generation.Number)
	if leads != s.leading {
		s.leading = leads
		k.log.Info("leadership changed", "leading", leads)
	}
	if me, _ := v.Worker(k.state.Self); me.Drained != s.isDrained {
		s.isDrained = me.Drained
		k.log.Info("somebody has drained this worker, or ended that; orchestrator_operations says who and why", "drained", me.Drained)
	}
	m.Drained(s.isDrained)
	g := v.Generation
	if g.State == replicaset.Active {
		m.GenerationBlocked(false)
	}
	if g.State == replicaset.Active && !s.looked { // it came about before this worker
		k.log.Info("found a generation", "generation", g.Number, "members", len(g.Members), "active_for", g.ActiveFor)
	} else {
		s.changes(k, g)
	}
	s.looked, s.generation = true, g
}

// changes records what has become of the generation since the look before.
func (s *seen) changes(k *coordinator, g replicaset.Generation) {
	m := k.worker.Metrics
	another := g.Number != s.generation.Number && g.Number != 0
	if another && g.State == replicaset.Preparing {
		k.log.Info("a new generation is in preparation", "generation", g.Number, "cause", g.Cause, "reason", g.Reason)
	}
	if g.State == replicaset.Active && (another || s.generation.State != replicaset.Active) {
		m.GenerationChanged(g.Cause) // who died or joined while it was prepared belongs to it, so it counts when it is complete
		m.Coordination(measure.PhasePrepare, g.Age-g.ActiveFor)
		now := time.Now()
		s.prepared, s.active = now.Add(-g.Age), now.Add(-g.ActiveFor)
		k.log.Info("a generation is active", "generation", g.Number, "members", len(g.Members), "took", g.Age-g.ActiveFor,
			"cause", g.Cause, "reason", g.Reason)
	}
}

// stopping begins to measure a pause.
func (s *seen) stopping() {
	s.stopBegan = time.Now()
	if s.pauseBegan.IsZero() {
		s.pauseBegan = s.stopBegan
	}
}

// drained says that nothing is handled any more.
func (s *seen) drained(m *measure.ReplicaSet) {
	if !s.stopBegan.IsZero() {
		m.Coordination(measure.PhaseStop, time.Since(s.stopBegan))
		s.stopBegan = time.Time{}
	}
}

// started says that partitions handle events again.
func (s *seen) started(m *measure.ReplicaSet) {
	if !s.active.IsZero() {
		m.Coordination(measure.PhaseStart, time.Since(s.active))
		m.Coordination(measure.PhaseTotal, time.Since(s.prepared))
		s.prepared, s.active = time.Time{}, time.Time{}
	}
	if !s.pauseBegan.IsZero() {
		m.Paused(time.Since(s.pauseBegan))
		s.pauseBegan = time.Time{}
	}
}
