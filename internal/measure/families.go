package measure

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Prefix begins the name of every metric.
const Prefix = "pupsourcing_orchestrator_"

// labelReplicaSet is the first label of every metric.
const labelReplicaSet = "replica_set"

// Upper bounds of the histograms' buckets. Each covers what its measure is bound
// by: a batch by the time a stop may wait, a coordination by
// WithCoordinationTimeout (60s), a heartbeat by WithStaleWorkerTimeout (30s).
var (
	// batchSecondsBuckets: a durable empty transaction costs about 0.3 ms. Their number is
	// multiplied by the projections.
	batchSecondsBuckets = []float64{0.001, 0.01, 0.1, 1, 10}
	// batchEventsBuckets: from a stream at rest to the largest useful batch. Their number is multiplied by the projections.
	batchEventsBuckets = []float64{1, 100}
	// coordinationBuckets: from an undisturbed phase to the timeout. Their number is multiplied
	// by the phases.
	coordinationBuckets = []float64{0.05, 0.25, 2, 30}
	// heartbeatBuckets: one small statement.
	heartbeatBuckets = []float64{0.001, 0.01, 0.1, 1, 10}
)

// Native histograms are exact to 10 %, and have at most so many buckets each.
const (
	nativeFactor = 1.1
	nativeMost   = 100
)

// description is what doc.go says about a metric.
type description struct {
	name, kind, help string
	labels           []string // besides replica_set
}

// families are the metrics of all replica sets.
type families struct {
	described []description
	vecs      []*prometheus.MetricVec

	workers, drained, leader, leaderUnlocked, generation, generationBlocked, partitions *prometheus.GaugeVec
	workersLost, generationChanges                                                      *prometheus.CounterVec
	coordinationDuration                                                                *prometheus.HistogramVec
	paused                                                                              *prometheus.CounterVec
	heartbeatDuration                                                                   *prometheus.HistogramVec
	heartbeatFailures, leaseExpired                                                     *prometheus.CounterVec
	backendsTerminated                                                                  *prometheus.CounterVec

	eventsHandled, conflicts, handlerErrors, fencedBatches     *prometheus.CounterVec
	batchWait                                                  *prometheus.CounterVec
	batchesWaiting                                             *prometheus.GaugeVec
	batchDuration, batchEvents                                 *prometheus.HistogramVec
	position, lag, retrying, stopped, held, abandoned, hanging *prometheus.GaugeVec
	parked                                                     *prometheus.GaugeVec
	eventsParked                                               *prometheus.CounterVec
	skipped, hookDropped                                       *prometheus.CounterVec

	horizonPosition, lastPosition     *prometheus.GaugeVec
	horizonBlocked, horizonWriters    *prometheus.GaugeVec
	horizonFault                      *prometheus.GaugeVec
	databaseErrors                    *prometheus.CounterVec
	sessionConnected                  *prometheus.GaugeVec
	sessionReconnects                 *prometheus.CounterVec
	notifications, notificationProofs *prometheus.CounterVec
	notificationFailures              *prometheus.CounterVec
	actorMessages                     *prometheus.CounterVec
	actorMessageSeconds               *prometheus.CounterVec
	actorStarts, actorRespawns        *prometheus.CounterVec
	actorPanics                       *prometheus.CounterVec
	actorUnknownMessages              *prometheus.CounterVec
	actorUndelivered                  *prometheus.CounterVec
	actors, mailboxLength             *prometheus.Desc

	failures, wakeUps, reads, waitsEnded *prometheus.CounterVec
	waited                               *prometheus.CounterVec
	parkedEvents                         *prometheus.GaugeVec
	computedFamilies
	earlier earlierFamilies
}

// Names are the full names of all metrics, in the order of the table in the package's
// documentation. A
// histogram's series have the suffixes _bucket, _sum and _count.
func Names() []string {
	described := newFamilies().described
	names := make([]string, len(described))
	for i, d := range described {
		names[i] = Prefix + d.name
	}
	return names
}

func newFamilies() *families {
	f := &families{}
	f.addReplicaSet()
	f.addProjections()
	f.addDatabase()
	f.addActors()
	f.addComputed()
	f.addEarlier()
	return f
}

func (f *families) addReplicaSet() {
	f.workers = f.gauge("workers", "Workers of the replica set, by state, as this worker sees them.", "state")
	f.workersLost = f.counter("workers_lost_total", "Workers that this worker declared dead, as the leader; each death is counted once, by one worker.")
	f.drained = f.gauge("drained", "1 while somebody has drained this worker, so that it gets no partitions, else 0.")
	f.leader = f.gauge("leader", "1 if this worker leads the replica set, else 0. One that cannot reach the database does not lead.")
	f.leaderUnlocked = f.gauge("leader_unlocked", "1 while this worker leads though something else than a live worker holds the leader's lock, else 0.")
	f.generation = f.gauge("generation", "Number of the generation that this worker follows; 0 before the first.")
	f.generationBlocked = f.gauge("generation_blocked", "1 while a transaction that this worker may not end holds up a new generation, else 0.")
	f.generationChanges = f.counter("generation_changes_total", "Generations that this worker saw become active, by cause.", "cause")
	f.partitions = f.gauge("partitions", "Partitions that this worker handles.")
	f.coordinationDuration = f.histogram("coordination_duration_seconds",
		"Duration of the phases of a change of generation.", coordinationBuckets, "phase")
	f.paused = f.counter("paused_seconds_total", "Time in which this worker handled no events because the generation changed.")
	f.heartbeatDuration = f.histogram("heartbeat_duration_seconds",
		"Duration of heartbeats, failed ones included.", heartbeatBuckets)
	f.heartbeatFailures = f.counter("heartbeat_failures_total", "Heartbeats that failed.")
	f.leaseExpired = f.counter("lease_expired_total", "Times that this worker stopped trusting itself, for want of a heartbeat.")
	f.backendsTerminated = f.counter("backends_terminated_total", "Database backends that this worker ended because they held up a generation.")
}

func (f *families) addProjections() {
	f.eventsHandled = f.counter("events_handled_total", "Events handled and committed.", "projection")
	f.conflicts = f.counter("conflicts_total", "Batches in conflict: ended by a deadlock, a serialization failure or a lock not to be had in time, or found to wait for another batch of their projection.", "projection")
	f.handlerErrors = f.counter("handler_errors_total", "Failures of handlers, by kind: error, panic or timeout.", "projection", "kind")
	f.failures = f.counter("failures_total", "Failed attempts at single events, by class, and by what follows: retry, stop, skip or park.", "projection", "class", "outcome")
	f.batchDuration = f.histogram("batch_duration_seconds",
		"Duration of committed batches, from BEGIN to COMMIT.", batchSecondsBuckets, "projection")
	f.batchEvents = f.histogram("batch_events", "Events of committed batches.", batchEventsBuckets, "projection")
	f.fencedBatches = f.counter("fenced_batches_total", "Batches rolled back because the checkpoint belongs to another worker.")
	f.batchesWaiting = f.gauge("batches_waiting", "Batches that wait for their turn on the pool, whose connections for batches are all in use.")
	f.batchWait = f.counter("batch_wait_seconds_total", "Time that batches waited for their turn on the pool.")
	f.position = f.gauge("position", "Global position up to which the partition is handled.", "projection", "partition")
	f.lag = f.gauge("lag_events", "Horizon minus position; an upper bound of the events to handle.", "projection", "partition")
	f.retrying = f.gauge("retrying", "1 while the partition waits to retry an event that failed, else 0.", "projection", "partition")
	f.held = f.gauge("held", "1 while somebody holds back slots of the partition from the projection, else 0.", "projection", "partition")
	f.stopped = f.gauge("stopped", "1 while the projection is stopped for slots of the partition, until a person decides, else 0.", "projection", "partition")
	f.parked = f.gauge("parked_aggregates", "Aggregates of the partition whose events are put aside until a person decides.", "projection", "partition")
	f.parkedEvents = f.gauge("parked_events", "Events of the partition that are put aside, those included whose aggregates were parked by other workers.", "projection", "partition")
	f.eventsParked = f.counter("events_parked_total", "Events put aside because their aggregate is parked.", "projection")
	f.skipped = f.counter("events_skipped_total", "Events that the projection's error policy skipped: no handler has handled them.", "projection")
	f.reads = f.counter("reads_total", "Answers to processors that asked for events, by where they came from.", "from")
	f.waitsEnded = f.counter("waits_ended_total", "Calls that waited for a projection while Run was running, by result.", "result")
	f.waited = f.counter("wait_seconds_total", "Time that these calls have waited.")
	f.hookDropped = f.counter("failure_hook_dropped_total", "Failures that were not told to the failure hook, because it was too slow.")
	f.hanging = f.gauge("hanging_handlers", "Handlers that have run for 10 s or longer, abandoned ones included.", "projection")
	f.abandoned = f.gauge("abandoned_handlers", "Handlers that did not return when they were to stop, and still run.", "projection")
}

func (f *families) addDatabase() {
	f.horizonPosition = f.gauge("horizon_position", "Global position up to which no event can still appear.")
	f.lastPosition = f.gauge("stream_last_position", "Highest global position drawn, committed or not.")
	f.wakeUps = f.counter("wake_ups_total", "Reasons to look for events, by cause.", "cause")
	f.horizonBlocked = f.gauge("horizon_blocked_seconds", "How long the oldest writer has held the horizon back; 0 if none does.")
	f.horizonWriters = f.gauge("horizon_writers", "Transactions that are writing to the events table.")
	f.horizonFault = f.gauge("horizon_fault", "1 while the horizon cannot be found, for this reason, until a person acts.", "reason")
	f.databaseErrors = f.counter("database_errors_total", "Failed database operations, by operation.", "operation")
	f.sessionConnected = f.gauge("session_connected", "1 while the coordination session is connected, else 0.")
	f.sessionReconnects = f.counter("session_reconnects_total", "Times that the coordination session was connected again.")
	f.notifications = f.counter("notifications_total", "Notifications received, by kind.", "kind")
	f.notificationProofs = f.counter("notification_proofs_total",
		"Notifications sent to itself to prove that LISTEN works, by result: arrived or missing.", "result")
	f.notificationFailures = f.counter("notification_failures_total", "Notifications to the other workers that could not be sent; they find the change at their next look.")
}

func (f *families) addActors() {
	f.actorMessages = f.counter("actor_messages_total", "Messages that actors processed.", "actor", "message")
	f.actorMessageSeconds = f.counter("actor_message_seconds_total", "Time that actors took to process messages.", "actor")
	f.actorStarts = f.counter("actor_starts_total", "Actors started, respawned ones included.", "actor")
	f.actorRespawns = f.counter("actor_respawns_total", "Actors started in place of one that panicked.", "actor")
	f.actorPanics = f.counter("actor_panics_total", "Panics of actors. The log says at which message.", "actor")
	f.actorUnknownMessages = f.counter("actor_unknown_messages_total", "Messages that the actor does not accept.", "actor")
	f.actorUndelivered = f.counter("actor_undelivered_messages_total", "Messages sent to an actor that is gone.")
	f.actors = f.computed("actors", "Actors alive.", "actor")
	f.mailboxLength = f.computed("actor_mailbox_length", "Messages waiting in mailboxes, summed over the actors of a kind.", "actor")
}

// deleteReplicaSet deletes every series of a replica set.
func (f *families) deleteReplicaSet(name string) {
	labels := prometheus.Labels{labelReplicaSet: name}
	for _, v := range f.vecs {
		v.DeletePartialMatch(labels)
	}
}

func (f *families) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: Prefix + name, Help: help}, f.describe(name, "gauge", help, labels))
	f.vecs = append(f.vecs, v.MetricVec)
	return v
}

func (f *families) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: Prefix + name, Help: help}, f.describe(name, "counter", help, labels))
	f.vecs = append(f.vecs, v.MetricVec)
	return v
}

func (f *families) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	opts := prometheus.HistogramOpts{
		Name: Prefix + name, Help: help, Buckets: buckets,
		// Beside the classic buckets there are those of a native histogram, for scrapers that understand them.
		NativeHistogramBucketFactor: nativeFactor, NativeHistogramMaxBucketNumber: nativeMost, NativeHistogramMinResetDuration: time.Hour,
	}
	v := prometheus.NewHistogramVec(opts, f.describe(name, "histogram", help, labels))
	f.vecs = append(f.vecs, v.MetricVec)
	return v
}

// computed describes a gauge whose values are made at scrape time.
func (f *families) computed(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(Prefix+name, help, f.describe(name, "gauge", help, labels), nil)
}

// describe remembers a metric and returns all its labels.
func (f *families) describe(name, kind, help string, labels []string) []string {
	f.described = append(f.described, description{name: name, kind: kind, help: help, labels: labels})
	return append([]string{labelReplicaSet}, labels...)
}
