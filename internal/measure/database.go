package measure

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of a notification that a worker sends to itself.
const (
	proofArrived = "arrived"
	proofMissing = "missing"
)

// The known values of the labels operation and kind, which are shown from the start.
var (
	operations        = [...]string{"batch", "checkpoint", "configuration", "coordination", "horizon", "record"}
	notificationKinds = [...]string{"joined", "left", "ready", "generation", "horizon"}
)

// databaseSeries are the series of the horizon, the coordination session and
// what fails in the database.
type databaseSeries struct {
	// horizon is made by the first probe: a position of 0 before it would be
	// untrue.
	horizon                             *children[struct{}, horizonMetrics]
	horizonFaults                       map[string]prometheus.Gauge
	databaseErrors                      *children[string, prometheus.Counter]
	sessionConnected                    prometheus.Gauge
	sessionReconnects                   prometheus.Counter
	notifications                       *children[string, prometheus.Counter]
	wakeUps                             *children[string, prometheus.Counter]
	proofsArrived, proofsMissed, untold prometheus.Counter
}

// horizonFaultReasons are the values of the label reason of horizon_fault, as package horizon has them.
var horizonFaultReasons = []string{
	"standby", "table", "sequence", "privilege", "row_security", "position", "sequence_behind", "sequence_regression", "replaced",
}

// horizonMetrics are the gauges of a probe.
type horizonMetrics struct {
	position, last, blocked, writers prometheus.Gauge
	at                               *atomic.Int64 // the position, exactly
}

func (s *series) initDatabase() {
	f := s.families
	s.horizon = &children[struct{}, horizonMetrics]{owner: s, create: s.newHorizon}
	s.horizonFaults = make(map[string]prometheus.Gauge, len(horizonFaultReasons))
	for _, reason := range horizonFaultReasons {
		s.horizonFaults[reason] = f.horizonFault.WithLabelValues(s.name, reason)
	}
	s.databaseErrors = word(s, f.databaseErrors.WithLabelValues)
	s.sessionConnected = f.sessionConnected.WithLabelValues(s.name)
	s.sessionReconnects = f.sessionReconnects.WithLabelValues(s.name)
	s.notifications = word(s, f.notifications.WithLabelValues)
	s.wakeUps = word(s, f.wakeUps.WithLabelValues)
	s.proofsArrived = f.notificationProofs.WithLabelValues(s.name, proofArrived)
	s.proofsMissed = f.notificationProofs.WithLabelValues(s.name, proofMissing)
	s.untold = f.notificationFailures.WithLabelValues(s.name)
}

func (s *series) newHorizon(struct{}) horizonMetrics {
	f := s.families
	return horizonMetrics{
		position: f.horizonPosition.WithLabelValues(s.name),
		last:     f.lastPosition.WithLabelValues(s.name),
		blocked:  f.horizonBlocked.WithLabelValues(s.name),
		writers:  f.horizonWriters.WithLabelValues(s.name),
		at:       &atomic.Int64{},
	}
}

// Horizon records a probe of the horizon: the horizon, the sequence's last
// value, how long the oldest writer has held the horizon back (0 if none does),
// and how many transactions are writing to the events table.
func (r *ReplicaSet) Horizon(position, lastValue int64, blockedFor time.Duration, holders int) {
	if r == nil {
		return
	}
	h, ok := r.series.horizon.get(struct{}{})
	if !ok {
		return
	}
	h.position.Set(float64(position))
	h.at.Store(position)
	h.last.Set(float64(lastValue))
	h.blocked.Set(seconds(blockedFor))
	h.writers.Set(float64(holders))
}

// HorizonFaults records why the horizon cannot be found until a person acts; no reason means that it was found.
func (r *ReplicaSet) HorizonFaults(reasons []string) {
	if r == nil {
		return
	}
	for reason, gauge := range r.series.horizonFaults {
		value := 0.0
		if slices.Contains(reasons, reason) {
			value = 1
		}
		gauge.Set(value)
	}
}

// DatabaseError counts a database operation that failed. operation names it in a
// word or two and must never hold values or the error's text.
func (r *ReplicaSet) DatabaseError(operation string) {
	if r == nil {
		return
	}
	if c, ok := r.series.databaseErrors.get(operation); ok {
		c.Inc()
	}
}

// SessionConnected records whether the coordination session is connected.
func (r *ReplicaSet) SessionConnected(connected bool) {
	if r == nil {
		return
	}
	r.series.sessionConnected.Set(boolValue(connected))
}

// SessionReconnected counts that the coordination session was connected again.
// The first connection is not counted. It does not change SessionConnected.
func (r *ReplicaSet) SessionReconnected() {
	if r == nil {
		return
	}
	r.series.sessionReconnects.Inc()
}

// Notification counts a notification by the first word of its payload.
func (r *ReplicaSet) Notification(kind string) {
	if r == nil {
		return
	}
	if c, ok := r.series.notifications.get(kind); ok {
		c.Inc()
	}
}

// Why a worker looks for events, as WakeUp takes it.
const (
	CauseTimer        = "timer"        // it was time to
	CauseAppend       = "append"       // the trigger or the replica set's looks have shown an append
	CauseAnnouncement = "announcement" // the leader has announced a horizon
	CauseSession      = "session"      // the session was connected or lost
	CauseReplicaSet   = "replica_set"  // the leader, or the worker that is told of appends, has changed
)

// wakeUpCauses are the known values of the label cause of wake_ups_total.
var wakeUpCauses = [...]string{CauseTimer, CauseAppend, CauseAnnouncement, CauseSession, CauseReplicaSet}

// WakeUp counts a reason to look for events.
func (r *ReplicaSet) WakeUp(cause string) {
	if r == nil {
		return
	}
	if c, ok := r.series.wakeUps.get(cause); ok {
		c.Inc()
	}
}

// NotificationFailed counts a notification to the other workers that could not be sent.
func (r *ReplicaSet) NotificationFailed() {
	if r != nil {
		r.series.untold.Inc()
	}
}

// NotificationProof counts a notification that this worker sent to itself to
// prove that LISTEN works, and whether it arrived in time.
func (r *ReplicaSet) NotificationProof(arrived bool) {
	switch {
	case r == nil:
	case arrived:
		r.series.proofsArrived.Inc()
	default:
		r.series.proofsMissed.Inc()
	}
}
