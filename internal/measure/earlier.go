package measure

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Earlier is a metric of the earlier orchestrator.
type Earlier struct {
	Name, Now string // its name, and what has taken its place
	Note      string // what differs; may be empty
	Shown     bool   // with the option
}

// earlierMetrics are those of the earlier orchestrator, in the order of its documentation.
var earlierMetrics = []Earlier{
	{"generations_total", "generation", "the generation's number, the same for all workers", true},
	{"workers_registered_total", "worker_info", "1 for each worker that has joined; the sum over all processes is the number of running workers", true},
	{"partition_assignments_total", "partitions", "a gauge", false},
	{"reconfiguration_total", "generation_changes_total", "by cause", true},
	{"stale_workers_cleaned_total", "workers_lost_total", "counted by the worker that declared them dead", true},
	{"events_processed_total", "events_handled_total", "", true},
	{"projection_errors_total", "handler_errors_total", "by kind", true},
	{"active_workers", `workers{state=~"pending|ready|running"}`, "", true},
	{"current_generation_partitions", "partitions", "this worker's partitions; the sum over all workers is the total", false},
	{"worker_state", "workers", "all workers, by state; worker_info has the id", true},
	{"coordination_duration_seconds", "coordination_duration_seconds", "by phase, with other buckets", false},
	{"event_processing_duration_seconds", "batch_duration_seconds", "per batch instead of per event", false},
	{"heartbeat_latency_seconds", "heartbeat_duration_seconds", "", false},
}

// EarlierMetrics are the earlier orchestrator's metrics, and what has taken their places.
func EarlierMetrics() []Earlier { return earlierMetrics }

// earlierFamilies are the earlier orchestrator's metrics that can be shown.
type earlierFamilies struct {
	generationsTotal, registeredTotal, reconfigurations, cleaned, processed, errors, active, state *prometheus.Desc
}

func (f *families) addEarlier() {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(Prefix+name, "Name used by the earlier orchestrator. "+help, append([]string{labelReplicaSet}, labels...), nil)
	}
	f.earlier = earlierFamilies{
		generationsTotal: desc("generations_total", "Now: generation."),
		registeredTotal:  desc("workers_registered_total", "Now: worker_info."),
		reconfigurations: desc("reconfiguration_total", "Now: generation_changes_total."),
		cleaned:          desc("stale_workers_cleaned_total", "Now: workers_lost_total."),
		processed:        desc("events_processed_total", "Now: events_handled_total.", "projection"),
		errors:           desc("projection_errors_total", "Now: handler_errors_total.", "projection"),
		active:           desc("active_workers", "Now: workers."),
		state:            desc("worker_state", "Now: workers.", "worker_id", "state"),
	}
}

func (f *earlierFamilies) all() []*prometheus.Desc {
	return []*prometheus.Desc{f.generationsTotal, f.registeredTotal, f.reconfigurations, f.cleaned, f.processed, f.errors, f.active, f.state}
}

// collectEarlier shows the earlier orchestrator's metrics, made of those that have taken their places.
func (s *series) collectEarlier(ch chan<- prometheus.Metric, workers []computed) {
	f := s.families.earlier
	show := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, append([]string{s.name}, labels...)...)
	}
	show(f.generationsTotal, prometheus.CounterValue, valueOf(s.generation))
	show(f.cleaned, prometheus.CounterValue, valueOf(s.workersLost))
	changes := 0.0
	for _, c := range s.generationChanges.known() {
		changes += valueOf(c)
	}
	show(f.reconfigurations, prometheus.CounterValue, changes)
	active := 0.0
	for i, state := range workerStates {
		if state == "pending" || state == "ready" || state == "running" {
			active += valueOf(s.states[i])
		}
	}
	show(f.active, prometheus.GaugeValue, active)
	registered := 0.0
	own, _ := s.ownState.Load().(string)
	if own != "" {
		registered = float64(len(workers))
	}
	show(f.registeredTotal, prometheus.CounterValue, registered)
	for _, c := range workers {
		for _, state := range workerStates {
			show(f.state, prometheus.GaugeValue, boolValue(state == own), labelValue(c.worker.ID), state)
		}
	}
	timeouts := s.timeouts.known()
	for projection, p := range s.projections.known() {
		name := labelValue(projection)
		show(f.processed, prometheus.CounterValue, valueOf(p.handled), name)
		failures := valueOf(p.errors) + valueOf(p.panics)
		if timeout := timeouts[projection]; timeout != nil {
			failures += valueOf(timeout)
		}
		show(f.errors, prometheus.CounterValue, failures, name)
	}
}

// valueOf is the value of a counter or a gauge.
func valueOf(m prometheus.Metric) float64 {
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		return 0
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue()
}
