package measure

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Phases of a change of generation, as Coordination takes them.
const (
	PhaseStop     = "stop"     // until this worker's processors have stopped
	PhasePrepare  = "prepare"  // until all workers are ready, or given up on
	PhaseActivate = "activate" // the transaction that rewrites the checkpoints
	PhaseStart    = "start"    // until this worker's processors have started
	PhaseTotal    = "total"    // from its preparation until this worker's processors have started
)

// causes are the known values of the label cause. A counter of each is shown from the start, since
// an alert on its increase would miss the first one else.
var causes = [...]string{"first", "joined", "left", "lost", "changed", "inconsistent", "abandoned", "drained"}

// workerStates are the values of the label state: every one is always shown.
var workerStates = [...]string{"pending", "ready", "running", "stopping", "stopped", "dead"}

// waitResults are the values of the label result of waits_ended_total.
var waitResults = [...]string{"handled", "failed", "given_up"}

// ReplicaSet records for one replica set. Its methods may be called by several
// goroutines at once. A nil *ReplicaSet is valid and records nothing: that is
// how metrics are disabled.
//
// Durations are recorded in seconds, negative ones as 0. Positions are recorded
// as floats, exact up to 2⁵³. Labels that are not UTF-8 are repaired. A label
// that should be one of a few words (cause, phase, kind, operation, actor) takes
// 100 values, and actor and message together 100 pairs; what comes after them is
// recorded as "other".
type ReplicaSet struct {
	metrics *Metrics
	series  *series
}

// coordinationSeries are the series of a worker's membership and generation.
type coordinationSeries struct {
	states                                  [len(workerStates)]prometheus.Gauge
	ownState                                atomic.Value // a string: this worker's
	drained, leader, generation, partitions prometheus.Gauge
	leaderUnlocked, generationBlocked       prometheus.Gauge
	workersLost                             prometheus.Counter
	generationChanges                       *children[string, prometheus.Counter]
	phases                                  *children[string, prometheus.Observer]
	paused                                  prometheus.Counter
	heartbeats                              prometheus.Observer
	heartbeatFailures                       prometheus.Counter
	leaseExpired                            prometheus.Counter
	backendsTerminated                      prometheus.Counter
}

func (s *series) initCoordination() {
	f := s.families
	for i, state := range workerStates {
		s.states[i] = f.workers.WithLabelValues(s.name, state)
	}
	s.workersLost = f.workersLost.WithLabelValues(s.name)
	s.drained = f.drained.WithLabelValues(s.name)
	s.leader = f.leader.WithLabelValues(s.name)
	s.leaderUnlocked = f.leaderUnlocked.WithLabelValues(s.name)
	s.generationBlocked = f.generationBlocked.WithLabelValues(s.name)
	s.generation = f.generation.WithLabelValues(s.name)
	s.partitions = f.partitions.WithLabelValues(s.name)
	s.generationChanges = word(s, f.generationChanges.WithLabelValues)
	s.phases = word(s, f.coordinationDuration.WithLabelValues)
	s.paused = f.paused.WithLabelValues(s.name)
	s.heartbeats = f.heartbeatDuration.WithLabelValues(s.name)
	s.heartbeatFailures = f.heartbeatFailures.WithLabelValues(s.name)
	s.leaseExpired = f.leaseExpired.WithLabelValues(s.name)
	s.backendsTerminated = f.backendsTerminated.WithLabelValues(s.name)
}

// showKnown makes the series of all known words.
func (s *series) showKnown() {
	for _, cause := range causes {
		s.generationChanges.get(cause)
	}
	for _, phase := range [...]string{PhaseStop, PhasePrepare, PhaseActivate, PhaseStart, PhaseTotal} {
		s.phases.get(phase)
	}
	for _, operation := range operations {
		s.databaseErrors.get(operation)
	}
	for _, kind := range notificationKinds {
		s.notifications.get(kind)
	}
	for _, cause := range wakeUpCauses {
		s.wakeUps.get(cause)
	}
	for _, from := range [...]string{FromWindow, FromAlone} {
		s.reads.get(from)
	}
	for _, result := range waitResults {
		s.waitsEnded.get(result)
	}
}

// Forget deletes the series of this replica set, unless another recorder of the
// same name is in use. To be called after Run ended; what r records later is
// dropped. A second call does nothing.
func (r *ReplicaSet) Forget() {
	if r == nil {
		return
	}
	r.metrics.forget(r)
}

// WorkerStates records how many workers are in each state: pending, ready,
// running, stopping, stopped, dead. A state that is absent is recorded as 0,
// another key is ignored.
func (r *ReplicaSet) WorkerStates(workers map[string]int) {
	if r == nil {
		return
	}
	for i, state := range workerStates {
		r.series.states[i].Set(float64(workers[state]))
	}
}

// OwnState records this worker's state.
func (r *ReplicaSet) OwnState(state string) {
	if r != nil {
		r.series.ownState.Store(state)
	}
}

// WorkersLost counts workers that this worker has declared dead. n below 1 counts nothing.
func (r *ReplicaSet) WorkersLost(n int) {
	if r == nil || n < 1 {
		return
	}
	r.series.workersLost.Add(float64(n))
}

// Drained records whether somebody has drained this worker.
func (r *ReplicaSet) Drained(drained bool) {
	if r == nil {
		return
	}
	r.series.drained.Set(boolValue(drained))
}

// Leader records whether this worker leads the replica set.
func (r *ReplicaSet) Leader(leader bool) {
	if r == nil {
		return
	}
	r.series.leader.Set(boolValue(leader))
}

// LeaderUnlocked records whether this worker leads though something else holds the
// leader's lock.
func (r *ReplicaSet) LeaderUnlocked(unlocked bool) {
	if r == nil {
		return
	}
	r.series.leaderUnlocked.Set(boolValue(unlocked))
}

// Generation records the number of the generation that this worker follows.
func (r *ReplicaSet) Generation(number int64) {
	if r == nil {
		return
	}
	r.series.generation.Set(float64(number))
}

// GenerationBlocked records whether a transaction that this worker may not end holds up
// a new generation.
func (r *ReplicaSet) GenerationBlocked(blocked bool) {
	if r == nil {
		return
	}
	r.series.generationBlocked.Set(boolValue(blocked))
}

// GenerationChanged counts a generation that became active, and why it came, in a word.
func (r *ReplicaSet) GenerationChanged(cause string) {
	if r == nil {
		return
	}
	if c, ok := r.series.generationChanges.get(cause); ok {
		c.Inc()
	}
}

// Partitions records how many partitions this worker handles.
func (r *ReplicaSet) Partitions(n int) {
	if r == nil {
		return
	}
	r.series.partitions.Set(float64(n))
}

// Coordination records how long a phase of a change of generation took; see
// PhaseStop and the others.
func (r *ReplicaSet) Coordination(phase string, d time.Duration) {
	if r == nil {
		return
	}
	if o, ok := r.series.phases.get(phase); ok {
		o.Observe(seconds(d))
	}
}

// Paused adds to the time in which this worker handled no events because the
// generation changed. Its rate is the share of time that is lost to changes.
func (r *ReplicaSet) Paused(d time.Duration) {
	if r == nil {
		return
	}
	r.series.paused.Add(seconds(d))
}

// Heartbeat records how long a heartbeat took, whether it succeeded or not.
func (r *ReplicaSet) Heartbeat(d time.Duration, ok bool) {
	if r == nil {
		return
	}
	r.series.heartbeats.Observe(seconds(d))
	if !ok {
		r.series.heartbeatFailures.Inc()
	}
}

// LeaseExpired counts that this worker stopped trusting itself.
func (r *ReplicaSet) LeaseExpired() {
	if r == nil {
		return
	}
	r.series.leaseExpired.Inc()
}

// BackendTerminated counts a database backend that this worker ended because it
// held up a generation.
func (r *ReplicaSet) BackendTerminated() {
	if r == nil {
		return
	}
	r.series.backendsTerminated.Inc()
}

// seconds is d in seconds, and 0 for a negative one, which a counter refuses.
func seconds(d time.Duration) float64 { return max(d, 0).Seconds() }
