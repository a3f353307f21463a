package measure

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// maxWords bounds the values of a label that should be one of a few words but
// is not checked against a list. Later values are counted as wordOther.
const (
	maxWords  = 100
	wordOther = "other"
)

// series are the series of one replica set. What exists from the start, so that
// a rate or an alert finds it before its first event, is made in newSeries; the
// rest when its labels are first seen.
type series struct {
	name     string
	families *families

	coordinationSeries
	projectionSeries
	databaseSeries
	actorSeries
	computedSeries

	// mu guards recorders, and what actorSeries says it guards, and is held
	// while children are made. With no recorder left nothing is made any more.
	mu        sync.Mutex
	recorders map[*ReplicaSet]struct{}
}

func newSeries(f *families, name string) *series {
	s := &series{name: name, families: f, recorders: make(map[*ReplicaSet]struct{})}
	s.initCoordination()
	s.initProjections()
	s.initDatabase()
	s.initActors()
	return s
}

// join adds a recorder.
func (s *series) join(r *ReplicaSet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recorders[r] = struct{}{}
}

// leave takes a recorder and its mailboxes away and says whether it was the
// last one. It is false for a recorder that left before.
func (s *series) leave(r *ReplicaSet) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.recorders[r]; !ok {
		return false
	}
	delete(s.recorders, r)
	s.forgetMailboxes(r)
	return len(s.recorders) == 0
}

// word makes children of a vector whose one further label is a word.
func word[M any](s *series, create func(labels ...string) M) *children[string, M] {
	return &children[string, M]{
		owner:    s,
		create:   func(w string) M { return create(s.name, labelValue(w)) },
		limit:    maxWords,
		overflow: wordOther,
	}
}

// perPartition makes children of a gauge of a projection in a partition.
func perPartition(s *series, v *prometheus.GaugeVec) *children[projectionPartition, prometheus.Gauge] {
	return &children[projectionPartition, prometheus.Gauge]{
		owner:  s,
		create: func(k projectionPartition) prometheus.Gauge { return v.WithLabelValues(k.labels(s)...) },
	}
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
