package measure

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Worker is what a worker is asked for at each scrape, or once. Its functions must not block; those that are nil are not asked.
type Worker struct {
	// ID and Name are the worker's, as tables and logs have them. Version is the library's, and Go that of the compiler.
	ID, Name, Version, Go string
	// LagSince is the age of the oldest event above a position; 0 if no event is above it.
	LagSince func(position int64) time.Duration
	// Loops are the worker's loops. Those whose names begin with the same word are shown as one.
	Loops func() []LoopAge
	// Waits is how many calls wait for a projection in this process.
	Waits func() int
	// EarlierNames says that the names of the earlier orchestrator's metrics are shown too.
	EarlierNames bool
}

// LoopAge is how long ago a loop has ended its last round.
type LoopAge struct {
	Name  string
	Age   time.Duration
	Stuck bool
}

// Survey is what only the leader looks up.
type Survey struct {
	// Unowned is how many slots of each projection of the replica set belong to no live worker.
	Unowned map[string]int
	// Requests is how many aggregates wait for the owner of their slot to serve an operator's request, by its kind.
	Requests map[string]int
	// Shown is for how long this is shown, unless it is looked up again.
	Shown time.Duration
}

// requestKinds are the known values of the label request.
var requestKinds = [...]string{"retry", "try", "reset"}

// computedFamilies are metrics that are made at each scrape.
type computedFamilies struct {
	buildInfo, workerInfo, lagSeconds, loopAge, loopStuck, unowned, requests, waits *prometheus.Desc
}

func (f *families) addComputed() {
	f.lagSeconds = f.computed("lag_seconds", "Age of the oldest event that the partition may still have to handle; 0 if no event waits.", "projection", "partition")
	f.buildInfo = f.computed("build_info", "1, with the versions of the library and of Go as labels.", "version", "go")
	f.workerInfo = f.computed("worker_info", "1, with the worker's id and name as labels, as in tables and logs. The other series of the same target belong to this worker.", "worker", "worker_name")
	f.loopAge = f.computed("loop_round_age_seconds", "Time since the worker's loop finished its last round. If the worker has several loops of a kind, the longest.", "loop")
	f.loopStuck = f.computed("loop_stuck", "1 while a round of the loop takes so long that the worker is not live, else 0.", "loop")
	f.unowned = f.computed("unowned_slots", "Slots of the projection, out of 65536, that belong to no live worker. Only the leader reports it. It looks about every 5 s, or every 15 s while no events arrive. Absent if it has not been able to look for a while.", "projection")
	f.requests = f.computed("requests_waiting", "Aggregates that wait for a worker to retry or try their parked events, and read models that wait to be emptied. Only the leader reports it. It looks about every 5 s, or every 15 s while no events arrive. Absent if it has not been able to look for a while.", "request")
	f.waits = f.computed("waits", "Calls of WaitFor and WaitForAppend that are waiting in this process.")
}

// computed is what a recorder's worker has said. It belongs to the series' mutex.
type computed struct {
	worker   Worker
	survey   *Survey
	surveyed time.Time // when survey was looked up
}

// current is what was looked up, unless that was too long ago.
func (c computed) current() *Survey {
	if c.survey == nil || time.Since(c.surveyed) > c.survey.Shown {
		return nil
	}
	return c.survey
}

// computedSeries are the recorders of a replica set that have a worker.
type computedSeries struct {
	computedMu sync.Mutex
	computed   map[*ReplicaSet]*computed
}

// ShowWorker makes the series of a worker, until Forget.
func (r *ReplicaSet) ShowWorker(w Worker) {
	if r == nil {
		return
	}
	r.series.computedMu.Lock()
	defer r.series.computedMu.Unlock()
	if r.series.computed == nil {
		r.series.computed = map[*ReplicaSet]*computed{}
	}
	r.series.computed[r] = &computed{worker: w}
}

// Survey records what the leader has looked up; nil if this worker does not lead.
func (r *ReplicaSet) Survey(s *Survey) {
	if r == nil {
		return
	}
	r.series.computedMu.Lock()
	defer r.series.computedMu.Unlock()
	if c := r.series.computed[r]; c != nil {
		c.survey, c.surveyed = s, time.Now()
	}
}

// forgetWorker ends what ShowWorker began.
func (s *series) forgetWorker(r *ReplicaSet) {
	s.computedMu.Lock()
	defer s.computedMu.Unlock()
	delete(s.computed, r)
}

// workers is what the recorders have said, in a stable order.
func (s *series) workers() []computed {
	s.computedMu.Lock()
	defer s.computedMu.Unlock()
	all := make([]computed, 0, len(s.computed))
	for _, c := range s.computed {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b computed) int { return cmp.Compare(a.worker.ID, b.worker.ID) })
	return slices.CompactFunc(all, func(a, b computed) bool { return a.worker.ID == b.worker.ID })
}

// collectComputed makes the metrics of a scrape. Where several workers of a replica set share a registry, they share the series, but for those of
// one worker.
func (s *series) collectComputed(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{s.name}, labels...)...)
	}
	f, workers := s.families, s.workers()
	if len(workers) == 0 {
		return
	}
	var survey *Survey
	loops, waits := map[string]LoopAge{}, 0
	for _, c := range workers {
		gauge(f.workerInfo, 1, labelValue(c.worker.ID), labelValue(c.worker.Name))
		survey = cmp.Or(survey, c.current())
		if c.worker.Waits != nil {
			waits = max(waits, c.worker.Waits())
		}
		if c.worker.Loops != nil {
			oldest(loops, c.worker.Loops())
		}
	}
	first := workers[0].worker
	gauge(f.buildInfo, 1, labelValue(first.Version), labelValue(first.Go))
	gauge(f.waits, float64(waits))
	for kind, loop := range loops {
		gauge(f.loopAge, loop.Age.Seconds(), kind)
		gauge(f.loopStuck, boolValue(loop.Stuck), kind)
	}
	s.collectLag(gauge, first.LagSince)
	if survey != nil {
		for projection, slots := range survey.Unowned {
			gauge(f.unowned, float64(slots), labelValue(projection))
		}
		for _, kind := range requestKinds {
			gauge(f.requests, float64(survey.Requests[kind]), kind)
		}
	}
	if first.EarlierNames {
		s.collectEarlier(ch, workers)
	}
}

// oldest takes in a worker's loops: of each kind the one whose last round is longest ago.
func oldest(loops map[string]LoopAge, more []LoopAge) {
	for _, l := range more {
		kind, _, _ := strings.Cut(l.Name, " ")
		known := loops[kind]
		loops[kind] = LoopAge{Name: kind, Age: max(l.Age, known.Age), Stuck: l.Stuck || known.Stuck}
	}
}

// collectLag makes the lag in seconds of each partition.
func (s *series) collectLag(gauge func(*prometheus.Desc, float64, ...string), since func(int64) time.Duration) {
	if since == nil {
		return
	}
	for key, p := range s.position.known() {
		gauge(s.families.lagSeconds, since(p.at.Load()).Seconds(), key.labels(s)[1:]...)
	}
}
