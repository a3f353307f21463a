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
	f.workersLost = f.counter("workers_lost_total", "Workers that this worker declared dead while it was the leader. Only one worker counts each death.")
	f.drained = f.gauge("drained", "1 while this worker is drained and gets no partitions, else 0.")
	f.leader = f.gauge("leader", "1 if this worker leads the replica set, else 0. A worker that cannot reach the database does not lead.")
	f.leaderUnlocked = f.gauge("leader_unlocked", "1 while this worker leads without the leader's lock, because something other than a live worker holds it, else 0.")
	f.generation = f.gauge("generation", "Number of the generation that this worker follows; 0 before the first.")
	f.generationBlocked = f.gauge("generation_blocked", "1 while a new generation waits for a transaction that this worker may not end, else 0.")
	f.generationChanges = f.counter("generation_changes_total", "Generations that this worker saw become active, by cause.", "cause")
	f.partitions = f.gauge("partitions", "Partitions that this worker handles.")
	f.coordinationDuration = f.histogram("coordination_duration_seconds",
		"Duration of generation changes, by phase.", coordinationBuckets, "phase")
	f.paused = f.counter("paused_seconds_total", "Time in which this worker handled no events because of generation changes.")
	f.heartbeatDuration = f.histogram("heartbeat_duration_seconds",
		"Duration of heartbeats, including failed ones.", heartbeatBuckets)
	f.heartbeatFailures = f.counter("heartbeat_failures_total", "Heartbeats that failed.")
	f.leaseExpired = f.counter("lease_expired_total", "Times that this worker stopped handling events because no heartbeat had succeeded for too long.")
	f.backendsTerminated = f.counter("backends_terminated_total", "Times that this worker ended a worker's database backend, because it held up a generation or belonged to a frozen leader.")
}

func (f *families) addProjections() {
	f.eventsHandled = f.counter("events_handled_total", "Events handled and committed.", "projection")
	f.conflicts = f.counter("conflicts_total", "Batches in conflict: the database ended them because of a deadlock, a serialization failure or a lock timeout, or they waited for another batch of their projection.", "projection")
	f.handlerErrors = f.counter("handler_errors_total", "Handler failures, by kind: error, panic or timeout.", "projection", "kind")
	f.failures = f.counter("failures_total", "Failed attempts to handle single events, by class of error and by outcome: retry, stop, skip or park.", "projection", "class", "outcome")
	f.batchDuration = f.histogram("batch_duration_seconds",
		"Duration of committed batches, from BEGIN to COMMIT.", batchSecondsBuckets, "projection")
	f.batchEvents = f.histogram("batch_events", "Number of events per committed batch.", batchEventsBuckets, "projection")
	f.fencedBatches = f.counter("fenced_batches_total", "Batches rolled back because the checkpoint belongs to another worker.")
	f.batchesWaiting = f.gauge("batches_waiting", "Batches that wait because all pool connections for batches are in use.")
	f.batchWait = f.counter("batch_wait_seconds_total", "Time that batches waited for a pool connection.")
	f.position = f.gauge("position", "Global position up to which the partition is handled.", "projection", "partition")
	f.lag = f.gauge("lag_events", "Horizon minus position; an upper bound on the number of events left to handle.", "projection", "partition")
	f.retrying = f.gauge("retrying", "1 while the partition waits to retry a failed event, else 0.", "projection", "partition")
	f.held = f.gauge("held", "1 while the projection is paused or held for slots of the partition, else 0.", "projection", "partition")
	f.stopped = f.gauge("stopped", "1 while the projection is stopped for slots of the partition until a person decides, else 0.", "projection", "partition")
	f.parked = f.gauge("parked_aggregates", "Parked aggregates of the partition, whose events are put aside until a person decides.", "projection", "partition")
	f.parkedEvents = f.gauge("parked_events", "Events of the partition's parked aggregates, including aggregates that other workers parked.", "projection", "partition")
	f.eventsParked = f.counter("events_parked_total", "Events put aside because their aggregate is parked.", "projection")
	f.skipped = f.counter("events_skipped_total", "Events that the projection's error policy skipped. No handler has handled them.", "projection")
	f.reads = f.counter("reads_total", "Answers to processors' requests for events, by source.", "from")
	f.waitsEnded = f.counter("waits_ended_total", "Calls of WaitFor and WaitForAppend that ended while Run was running, by result.", "result")
	f.waited = f.counter("wait_seconds_total", "Time that calls of WaitFor and WaitForAppend waited, if they ended while Run was running.")
	f.hookDropped = f.counter("failure_hook_dropped_total", "Failures that were not passed to the failure hook because it was too slow.")
	f.hanging = f.gauge("hanging_handlers", "Handlers that have run for 10 s or longer, including abandoned ones.", "projection")
	f.abandoned = f.gauge("abandoned_handlers", "Handlers that did not return when their worker told them to stop, and still run.", "projection")
}

func (f *families) addDatabase() {
	f.horizonPosition = f.gauge("horizon_position", "Global position up to which no new event can appear.")
	f.lastPosition = f.gauge("stream_last_position", "Highest global position allocated to an event, committed or not.")
	f.wakeUps = f.counter("wake_ups_total", "Wake-ups to look for new events, by cause.", "cause")
	f.horizonBlocked = f.gauge("horizon_blocked_seconds", "How long the oldest writer has held the horizon back; 0 if none does.")
	f.horizonWriters = f.gauge("horizon_writers", "Transactions that are writing to the events table.")
	f.horizonFault = f.gauge("horizon_fault", "1 while the horizon cannot be found for this reason, until a person acts, else 0.", "reason")
	f.databaseErrors = f.counter("database_errors_total", "Failed database operations, by operation.", "operation")
	f.sessionConnected = f.gauge("session_connected", "1 while the coordination session is connected, else 0.")
	f.sessionReconnects = f.counter("session_reconnects_total", "Times that the coordination session was reconnected.")
	f.notifications = f.counter("notifications_total", "Notifications received, by kind.", "kind")
	f.notificationProofs = f.counter("notification_proofs_total",
		"Notifications that the worker sent to itself to prove that LISTEN works, by result: arrived or missing.", "result")
	f.notificationFailures = f.counter("notification_failures_total", "Notifications that could not be sent to the other workers, which find the change at their next look at the tables.")
}

func (f *families) addActors() {
	f.actorMessages = f.counter("actor_messages_total", "Messages processed by actors.", "actor", "message")
	f.actorMessageSeconds = f.counter("actor_message_seconds_total", "Time that actors spent processing messages.", "actor")
	f.actorStarts = f.counter("actor_starts_total", "Actors started, including respawned ones.", "actor")
	f.actorRespawns = f.counter("actor_respawns_total", "Actors started to replace one that panicked.", "actor")
	f.actorPanics = f.counter("actor_panics_total", "Panics of actors. The log names the message.", "actor")
	f.actorUnknownMessages = f.counter("actor_unknown_messages_total", "Messages that the actor does not accept.", "actor")
	f.actorUndelivered = f.counter("actor_undelivered_messages_total", "Messages sent to an actor that no longer exists.")
	f.actors = f.computed("actors", "Live actors.", "actor")
	f.mailboxLength = f.computed("actor_mailbox_length", "Messages waiting in mailboxes, summed over all actors of a kind.", "actor")
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
