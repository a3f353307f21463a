package measure

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics holds the collectors of all orchestrators that share one Registerer.
// It is itself the one prometheus.Collector that New registers, so that either
// all of its metrics are registered or none. A nil *Metrics is valid and hands
// out recorders that record nothing.
type Metrics struct {
	families *families

	// mu guards replicaSets. It is taken before the lock of a series.
	mu          sync.Mutex
	replicaSets map[string]*series
}

var _ prometheus.Collector = (*Metrics)(nil)

// New registers the metrics with reg. If an orchestrator of this process has
// registered them there before, New returns those, so that several replica sets
// share one registry. The default registerer is used only if the caller passes
// it.
//
// New returns an error if reg is nil, or if something else has registered a
// metric under one of the names.
func New(reg prometheus.Registerer) (*Metrics, error) {
	if reg == nil {
		return nil, errors.New("registering the metrics: the registerer must not be nil; pass the application's registry, or disable the metrics")
	}
	m := &Metrics{families: newFamilies(), replicaSets: make(map[string]*series)}
	err := reg.Register(m)
	if err == nil {
		return m, nil
	}
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := already.ExistingCollector.(*Metrics); ok {
			return existing, nil
		}
	}
	return nil, fmt.Errorf("registering the metrics (all names begin with %q): %w", Prefix, err)
}

// ReplicaSet returns a recorder for a replica set. Its series appear with the
// first recorder and vanish when each recorder of that name has been forgotten.
//
// Recorders of one name share their series: counters add up, a gauge shows what
// was recorded last. That is the case of two workers of one replica set in one
// process, which is unusual outside tests.
func (m *Metrics) ReplicaSet(replicaSet string) *ReplicaSet {
	if m == nil {
		return nil
	}
	name := labelValue(replicaSet)
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.replicaSets[name]
	if !ok {
		s = newSeries(m.families, name)
		m.replicaSets[name] = s
	}
	r := &ReplicaSet{metrics: m, series: s}
	s.join(r)
	s.showKnown()
	return r
}

// forget takes r away from its series, and deletes them if r was the last.
func (m *Metrics) forget(r *ReplicaSet) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.series.forgetWorker(r)
	if last := r.series.leave(r); !last {
		return
	}
	m.families.deleteReplicaSet(r.series.name)
	delete(m.replicaSets, r.series.name)
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, v := range m.families.vecs {
		v.Describe(ch)
	}
	ch <- m.families.actors
	ch <- m.families.mailboxLength
	c := m.families.computedFamilies
	for _, d := range []*prometheus.Desc{c.buildInfo, c.workerInfo, c.lagSeconds, c.loopAge, c.loopStuck, c.unowned, c.requests, c.waits} {
		ch <- d
	}
	for _, d := range m.families.earlier.all() {
		ch <- d
	}
}

// Collect implements prometheus.Collector. It asks each registered mailbox for
// its length.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, s := range m.snapshot() {
		s.stretchLag()
	}
	for _, v := range m.families.vecs {
		v.Collect(ch)
	}
	for _, s := range m.snapshot() {
		s.collectActors(ch)
		s.collectComputed(ch)
	}
}

// snapshot is the series of every replica set, so that nothing is locked while
// they are collected.
func (m *Metrics) snapshot() []*series {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*series, 0, len(m.replicaSets))
	for _, s := range m.replicaSets {
		all = append(all, s)
	}
	return all
}

// labelValue replaces what is not UTF-8, which Prometheus does not accept.
func labelValue(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
