package measure

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Kinds of failure of a handler, as HandlerError takes them.
const (
	KindError = "error" // the handler returned an error
	KindPanic = "panic" // the handler panicked

	KindTimeout = "timeout" // it took longer than the error policy allows
)

// projectionSeries are the series of what the projections do.
type projectionSeries struct {
	projections   *children[string, projectionMetrics]
	position      *children[projectionPartition, positionMetrics]
	lag, retrying *children[projectionPartition, prometheus.Gauge]
	// These are made where there is an error policy or a failure hook, or when they first count.
	timeouts, skipped, eventsParked, hookDropped *children[string, prometheus.Counter]
	stopped, held, parked, parkedEvents          *children[projectionPartition, prometheus.Gauge]
	failures                                     *children[failureKey, prometheus.Counter]
	reads                                        *children[string, prometheus.Counter]
	waitsEnded                                   *children[string, prometheus.Counter]
	waited                                       prometheus.Counter
	fencedBatches                                prometheus.Counter
	batchesWaiting                               prometheus.Gauge
	batchWait                                    prometheus.Counter
}

// projectionMetrics are the metrics of one projection.
type projectionMetrics struct {
	handled        prometheus.Counter
	conflicts      prometheus.Counter
	errors, panics prometheus.Counter
	batchDuration  prometheus.Observer
	batchEvents    prometheus.Observer
	abandoned      prometheus.Gauge
	hanging        prometheus.Gauge
}

// positionMetrics is a position, and the same exactly.
type positionMetrics struct {
	gauge prometheus.Gauge
	at    *atomic.Int64
	none  *atomic.Bool // nothing waits, whatever the horizon
}

// failureKey is a kind of failure.
type failureKey struct{ projection, class, outcome string }

// projectionPartition is a projection in a partition.
type projectionPartition struct{ projection, partition string }

func (k projectionPartition) labels(s *series) []string {
	return []string{s.name, labelValue(k.projection), labelValue(k.partition)}
}

// counters are counters that are made when they first count.
func counters(s *series, create func(string) prometheus.Counter) *children[string, prometheus.Counter] {
	return &children[string, prometheus.Counter]{owner: s, create: create}
}

func count(of *children[string, prometheus.Counter], key string, n int) {
	if c, ok := of.get(key); ok {
		c.Add(float64(n))
	}
}

func (s *series) initProjections() {
	f := s.families
	s.projections = &children[string, projectionMetrics]{owner: s, create: s.newProjection}
	s.position = &children[projectionPartition, positionMetrics]{owner: s, create: func(k projectionPartition) positionMetrics {
		return positionMetrics{gauge: f.position.WithLabelValues(k.labels(s)...), at: &atomic.Int64{}, none: &atomic.Bool{}}
	}}
	s.failures = &children[failureKey, prometheus.Counter]{owner: s, create: func(k failureKey) prometheus.Counter {
		return f.failures.WithLabelValues(s.name, labelValue(k.projection), labelValue(k.class), labelValue(k.outcome))
	}}
	s.reads = word(s, f.reads.WithLabelValues)
	s.waitsEnded = word(s, f.waitsEnded.WithLabelValues)
	s.waited = f.waited.WithLabelValues(s.name)
	s.parkedEvents = perPartition(s, f.parkedEvents)
	s.lag = perPartition(s, f.lag)
	s.retrying = perPartition(s, f.retrying)
	s.timeouts = counters(s, func(p string) prometheus.Counter {
		return f.handlerErrors.WithLabelValues(s.name, labelValue(p), KindTimeout)
	})
	s.skipped = counters(s, func(p string) prometheus.Counter { return f.skipped.WithLabelValues(s.name, labelValue(p)) })
	s.eventsParked = counters(s, func(p string) prometheus.Counter { return f.eventsParked.WithLabelValues(s.name, labelValue(p)) })
	s.hookDropped = counters(s, func(string) prometheus.Counter { return f.hookDropped.WithLabelValues(s.name) })
	s.stopped = perPartition(s, f.stopped)
	s.held = perPartition(s, f.held)
	s.parked = perPartition(s, f.parked)
	s.fencedBatches = f.fencedBatches.WithLabelValues(s.name)
	s.batchesWaiting = f.batchesWaiting.WithLabelValues(s.name)
	s.batchWait = f.batchWait.WithLabelValues(s.name)
}

func (s *series) newProjection(projection string) projectionMetrics {
	f, projection := s.families, labelValue(projection)
	return projectionMetrics{
		handled:       f.eventsHandled.WithLabelValues(s.name, projection),
		conflicts:     f.conflicts.WithLabelValues(s.name, projection),
		errors:        f.handlerErrors.WithLabelValues(s.name, projection, KindError),
		panics:        f.handlerErrors.WithLabelValues(s.name, projection, KindPanic),
		batchDuration: f.batchDuration.WithLabelValues(s.name, projection),
		batchEvents:   f.batchEvents.WithLabelValues(s.name, projection),
		abandoned:     f.abandoned.WithLabelValues(s.name, projection),
		hanging:       f.hanging.WithLabelValues(s.name, projection),
	}
}

// ShowPartition makes the series of a projection in a partition, so that an alert sees the first failure. A partition that waits to
// retry an event still does. To be called when this worker begins to handle it.
func (r *ReplicaSet) ShowPartition(projection, partition string) {
	if r == nil {
		return
	}
	r.series.projections.get(projection)
	r.series.retrying.get(projectionPartition{projection, partition})
}

// ShowPolicy makes the series that only a projection with an error policy has, in a partition, for the same reason.
func (r *ReplicaSet) ShowPolicy(projection, partition string) {
	if r == nil {
		return
	}
	s := r.series
	for _, counter := range []*children[string, prometheus.Counter]{s.timeouts, s.skipped, s.eventsParked} {
		counter.get(projection)
	}
	s.stopped.get(projectionPartition{projection, partition})
	s.parked.get(projectionPartition{projection, partition})
	s.parkedEvents.get(projectionPartition{projection, partition})
}

// ShowHook makes the series of a failure hook.
func (r *ReplicaSet) ShowHook() {
	if r != nil {
		r.series.hookDropped.get("")
	}
}

// BatchWaits records that so many more batches wait for a connection of the pool, and
// for how long those waited that do not any more.
func (r *ReplicaSet) BatchWaits(more int, waited time.Duration) {
	if r == nil {
		return
	}
	r.series.batchesWaiting.Add(float64(more))
	r.series.batchWait.Add(seconds(waited))
}

// EventsHandled counts n events that were handled and committed. n below 1
// counts nothing.
func (r *ReplicaSet) EventsHandled(projection string, n int) {
	if r == nil || n < 1 {
		return
	}
	if p, ok := r.series.projections.get(projection); ok {
		p.handled.Add(float64(n))
	}
}

// HandlerError counts a failure of a projection's handler: KindPanic, KindTimeout, or
// KindError for any other kind.
func (r *ReplicaSet) HandlerError(projection, kind string) {
	if r == nil {
		return
	}
	p, ok := r.series.projections.get(projection)
	switch {
	case !ok:
	case kind == KindPanic:
		p.panics.Inc()
	case kind == KindTimeout:
		count(r.series.timeouts, projection, 1) // only error policies have timeouts
	default:
		p.errors.Inc()
	}
}

// Conflict counts a batch of a projection that the database ended because of a
// concurrent transaction.
func (r *ReplicaSet) Conflict(projection string) {
	if r == nil {
		return
	}
	if p, ok := r.series.projections.get(projection); ok {
		p.conflicts.Inc()
	}
}

// HangingHandlers records how many handlers of a projection have run for so long that the log names them.
func (r *ReplicaSet) HangingHandlers(projection string, n int) {
	if r == nil {
		return
	}
	if p, ok := r.series.projections.get(projection); ok {
		p.hanging.Set(float64(n))
	}
}

// AbandonedHandlers records how many handlers of a projection did not return when they
// were to stop, and still run.
func (r *ReplicaSet) AbandonedHandlers(projection string, n int) {
	if r == nil {
		return
	}
	if p, ok := r.series.projections.get(projection); ok {
		p.abandoned.Set(float64(n))
	}
}

// Batch records a committed batch: how many events it held and how long it took
// from BEGIN to COMMIT. It does not count the events as handled. trace is the id of its trace, for an exemplar; empty if it is not traced.
func (r *ReplicaSet) Batch(projection string, events int, d time.Duration, trace string) {
	if r == nil {
		return
	}
	if p, ok := r.series.projections.get(projection); ok {
		observe(p.batchDuration, seconds(d), trace)
		p.batchEvents.Observe(float64(events))
	}
}

// observe observes a value, with the trace as its exemplar if there is one.
func observe(o prometheus.Observer, value float64, trace string) {
	if with, ok := o.(prometheus.ExemplarObserver); ok && trace != "" {
		with.ObserveWithExemplar(value, prometheus.Labels{"trace_id": trace})
		return
	}
	o.Observe(value)
}

// Fenced counts a batch that was rolled back because its checkpoint belongs to
// another worker.
func (r *ReplicaSet) Fenced() {
	if r == nil {
		return
	}
	r.series.fencedBatches.Inc()
}

// Position records the global position up to which a projection has handled a
// partition. partition is the partition's name, k/N.
func (r *ReplicaSet) Position(projection, partition string, position int64) {
	if r == nil {
		return
	}
	if p, ok := r.series.position.get(projectionPartition{projection, partition}); ok {
		p.gauge.Set(float64(position))
		p.at.Store(position)
		p.none.Store(false)
	}
}

// NothingWaits records that a projection that handles nothing any more, in a partition, does not wait for events up to the horizon either. Position is called before.
func (r *ReplicaSet) NothingWaits(projection, partition string, horizon int64) {
	if r == nil {
		return
	}
	if p, ok := r.series.position.get(projectionPartition{projection, partition}); ok {
		p.at.Store(max(p.at.Load(), horizon))
		p.none.Store(true)
	}
	r.Lag(projection, partition, 0)
}

// Lag records the horizon minus the position of a projection in a partition: an
// upper bound of the events it has yet to handle, for positions of other
// partitions, of events out of scope and of rolled-back transactions lie in
// between. A negative number, from a horizon older than the position, is
// recorded as 0.
func (r *ReplicaSet) Lag(projection, partition string, events int64) {
	if r == nil {
		return
	}
	if g, ok := r.series.lag.get(projectionPartition{projection, partition}); ok {
		g.Set(float64(max(events, 0)))
	}
}

// stretchLag adds what has come since partitions have told of their lag: they tell of nothing while a handler runs.
func (s *series) stretchLag() {
	h, ok := s.horizon.known()[struct{}{}]
	if !ok {
		return
	}
	lags := s.lag.known()
	for key, p := range s.position.known() {
		if g, ok := lags[key]; ok && !p.none.Load() {
			g.Set(float64(max(0, h.at.Load()-p.at.Load())))
		}
	}
}

// Retrying records whether a projection waits in a partition to retry an event
// that failed.
func (r *ReplicaSet) Retrying(projection, partition string, retrying bool) {
	if r == nil {
		return
	}
	if g, ok := r.series.retrying.get(projectionPartition{projection, partition}); ok {
		g.Set(boolValue(retrying))
	}
}

// Skipped counts an event that a projection's error policy has skipped.
func (r *ReplicaSet) Skipped(projection string) {
	if r == nil {
		return
	}
	count(r.series.skipped, projection, 1)
}

// EventsParked counts n events that were put aside because their aggregate is parked. n below 1 counts nothing.
func (r *ReplicaSet) EventsParked(projection string, n int) {
	if r == nil || n < 1 {
		return
	}
	count(r.series.eventsParked, projection, n)
}

// Parked records how many aggregates of a partition are parked for a projection, and how many events they have put aside.
func (r *ReplicaSet) Parked(projection, partition string, aggregates, events int) {
	if r == nil {
		return
	}
	key := projectionPartition{projection, partition}
	if g, ok := r.series.parked.get(key); ok {
		g.Set(float64(aggregates))
	}
	if g, ok := r.series.parkedEvents.get(key); ok {
		g.Set(float64(events))
	}
}

// Failure counts a failed attempt at an event, by its class and what follows.
func (r *ReplicaSet) Failure(projection, class, outcome string) {
	if r == nil {
		return
	}
	if c, ok := r.series.failures.get(failureKey{projection, class, outcome}); ok {
		c.Inc()
	}
}

// Read counts an answer to a processor that asked for events, by where it came from: FromWindow or FromAlone.
func (r *ReplicaSet) Read(from string) {
	if r == nil {
		return
	}
	if c, ok := r.series.reads.get(from); ok {
		c.Inc()
	}
}

// Where a processor's events come from, as Read takes it.
const (
	FromWindow = "window" // the stretch of the stream that is read once for all
	FromAlone  = "alone"  // a read for this processor
)

// Waited counts a call that has waited for a projection, and for how long. result is a word.
func (r *ReplicaSet) Waited(result string, d time.Duration) {
	if r == nil {
		return
	}
	if c, ok := r.series.waitsEnded.get(result); ok {
		c.Inc()
		r.series.waited.Add(seconds(d))
	}
}

// HookDropped counts a failure that was not told to the failure hook.
func (r *ReplicaSet) HookDropped() {
	if r != nil {
		count(r.series.hookDropped, "", 1)
	}
}

// Stopped records whether a projection is stopped for slots of a partition, until a person decides.
func (r *ReplicaSet) Stopped(projection, partition string, stopped bool) {
	if r == nil {
		return
	}
	if g, ok := r.series.stopped.get(projectionPartition{projection, partition}); ok {
		g.Set(boolValue(stopped))
	}
}

// Held records whether somebody holds back slots of a partition from a projection.
func (r *ReplicaSet) Held(projection, partition string, held bool) {
	if r == nil {
		return
	}
	if g, ok := r.series.held.get(projectionPartition{projection, partition}); ok {
		g.Set(boolValue(held))
	}
}

// ForgetPartition deletes the position, the lag, the retrying, the stop and the hold of a projection
// in a partition. To be called when this worker has stopped handling it: a later
// record makes them again.
func (r *ReplicaSet) ForgetPartition(projection, partition string) {
	if r == nil {
		return
	}
	s, f, key := r.series, r.series.families, projectionPartition{projection, partition}
	labels := key.labels(s)
	s.position.remove(key, func() { f.position.DeleteLabelValues(labels...) })
	s.lag.remove(key, func() { f.lag.DeleteLabelValues(labels...) })
	s.retrying.remove(key, func() { f.retrying.DeleteLabelValues(labels...) })
	s.parkedEvents.remove(key, func() { f.parkedEvents.DeleteLabelValues(labels...) })
	s.parked.remove(key, func() { f.parked.DeleteLabelValues(labels...) })
	s.held.remove(key, func() { f.held.DeleteLabelValues(labels...) })
	s.stopped.remove(key, func() { f.stopped.DeleteLabelValues(labels...) })
}
