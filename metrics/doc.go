// Package metrics lists the metrics that an orchestrator exposes to Prometheus, and has a handler that serves them.
//
// orchestrator.New registers them with the Registerer of WithMetricsRegisterer. Several orchestrators in one process may
// share it. Every series has the label replica_set, and is deleted when Run returns.
//
// # What there is
//
// Every name begins with pupsourcing_orchestrator_. Every metric has the label replica_set in addition to the labels
// listed here.
//
//	name                            type       labels                 meaning
//	workers                         gauge      state                  Workers of the replica set, by state, as this worker sees them.
//	workers_lost_total              counter                           Workers that this worker declared dead, as the leader; each death is counted once, by one worker.
//	drained                         gauge                             1 while somebody has drained this worker, so that it gets no partitions, else 0.
//	leader                          gauge                             1 if this worker leads the replica set, else 0. One that cannot reach the database does not lead.
//	leader_unlocked                 gauge                             1 while this worker leads though something else than a live worker holds the leader's lock, else 0.
//	generation                      gauge                             Number of the generation that this worker follows; 0 before the first.
//	generation_blocked              gauge                             1 while a transaction that this worker may not end holds up a new generation, else 0.
//	generation_changes_total        counter    cause                  Generations that this worker saw become active, by cause.
//	partitions                      gauge                             Partitions that this worker handles.
//	coordination_duration_seconds   histogram  phase                  Duration of the phases of a change of generation.
//	paused_seconds_total            counter                           Time in which this worker handled no events because the generation changed.
//	heartbeat_duration_seconds      histogram                         Duration of heartbeats, failed ones included.
//	heartbeat_failures_total        counter                           Heartbeats that failed.
//	lease_expired_total             counter                           Times that this worker stopped trusting itself, for want of a heartbeat.
//	backends_terminated_total       counter                           Database backends that this worker ended because they held up a generation.
//	events_handled_total            counter    projection             Events handled and committed.
//	conflicts_total                 counter    projection             Batches in conflict: ended by a deadlock, a serialization failure or a lock not to be had in time, or found to wait for another batch of their projection.
//	handler_errors_total            counter    projection, kind       Failures of handlers, by kind: error, panic or timeout.
//	failures_total                  counter    projection, class, outcome  Failed attempts at single events, by class, and by what follows: retry, stop, skip or park.
//	batch_duration_seconds          histogram  projection             Duration of committed batches, from BEGIN to COMMIT.
//	batch_events                    histogram  projection             Events of committed batches.
//	fenced_batches_total            counter                           Batches rolled back because the checkpoint belongs to another worker.
//	batches_waiting                 gauge                             Batches that wait for their turn on the pool, whose connections for batches are all in use.
//	batch_wait_seconds_total        counter                           Time that batches waited for their turn on the pool.
//	position                        gauge      projection, partition  Global position up to which the partition is handled.
//	lag_events                      gauge      projection, partition  Horizon minus position; an upper bound of the events to handle.
//	retrying                        gauge      projection, partition  1 while the partition waits to retry an event that failed, else 0.
//	held                            gauge      projection, partition  1 while somebody holds back slots of the partition from the projection, else 0.
//	stopped                         gauge      projection, partition  1 while the projection is stopped for slots of the partition, until a person decides, else 0.
//	parked_aggregates               gauge      projection, partition  Aggregates of the partition whose events are put aside until a person decides.
//	parked_events                   gauge      projection, partition  Events of the partition that are put aside, those included whose aggregates were parked by other workers.
//	events_parked_total             counter    projection             Events put aside because their aggregate is parked.
//	events_skipped_total            counter    projection             Events that the projection's error policy skipped: no handler has handled them.
//	reads_total                     counter    from                   Answers to processors that asked for events, by where they came from.
//	waits_ended_total               counter    result                 Calls that waited for a projection while Run was running, by result.
//	wait_seconds_total              counter                           Time that these calls have waited.
//	failure_hook_dropped_total      counter                           Failures that were not told to the failure hook, because it was too slow.
//	hanging_handlers                gauge      projection             Handlers that have run for 10 s or longer, abandoned ones included.
//	abandoned_handlers              gauge      projection             Handlers that did not return when they were to stop, and still run.
//	horizon_position                gauge                             Global position up to which no event can still appear.
//	stream_last_position            gauge                             Highest global position drawn, committed or not.
//	wake_ups_total                  counter    cause                  Reasons to look for events, by cause.
//	horizon_blocked_seconds         gauge                             How long the oldest writer has held the horizon back; 0 if none does.
//	horizon_writers                 gauge                             Transactions that are writing to the events table.
//	horizon_fault                   gauge      reason                 1 while the horizon cannot be found, for this reason, until a person acts.
//	database_errors_total           counter    operation              Failed database operations, by operation.
//	session_connected               gauge                             1 while the coordination session is connected, else 0.
//	session_reconnects_total        counter                           Times that the coordination session was connected again.
//	notifications_total             counter    kind                   Notifications received, by kind.
//	notification_proofs_total       counter    result                 Notifications sent to itself to prove that LISTEN works, by result: arrived or missing.
//	notification_failures_total     counter                           Notifications to the other workers that could not be sent; they find the change at their next look.
//	actor_messages_total            counter    actor, message         Messages that actors processed.
//	actor_message_seconds_total     counter    actor                  Time that actors took to process messages.
//	actor_starts_total              counter    actor                  Actors started, respawned ones included.
//	actor_respawns_total            counter    actor                  Actors started in place of one that panicked.
//	actor_panics_total              counter    actor                  Panics of actors. The log says at which message.
//	actor_unknown_messages_total    counter    actor                  Messages that the actor does not accept.
//	actor_undelivered_messages_total  counter                           Messages sent to an actor that is gone.
//	actors                          gauge      actor                  Actors alive.
//	actor_mailbox_length            gauge      actor                  Messages waiting in mailboxes, summed over the actors of a kind.
//	lag_seconds                     gauge      projection, partition  The age of the oldest event that the partition may still have to handle; 0 if no event waits.
//	build_info                      gauge      version, go            1, with the versions of the library and of Go.
//	worker_info                     gauge      worker, worker_name    1, with the worker's id and name in tables and logs. The other series of the same target are this worker's.
//	loop_round_age_seconds          gauge      loop                   How long ago the worker's loop has ended its last round; of several of a kind, the one of longest ago.
//	loop_stuck                      gauge      loop                   1 while a round of the loop takes so long that the worker is not live, else 0.
//	unowned_slots                   gauge      projection             Slots of the projection, of 65536, that belong to no live worker. Only the leader shows it, and looks every 5 s at least. Absent where it cannot look for a while.
//	requests_waiting                gauge      request                Aggregates that wait for a worker to retry or try their parked events, and read models that wait to be emptied. Only the leader shows it, and looks every 5 s at least. Absent where it cannot look for a while.
//	waits                           gauge                             Calls of this process that wait for a projection now.
//
// # Labels
//
// All labels are bounded. The label projection is a projection's name. The label partition is k/N, and its series are
// deleted with the partition. The label actor is the kind of an actor, and message is the type of a message. The other
// labels are words, with at most 100 distinct values each. The following words have their series from the start, so an
// alert on an increase sees the first one:
//
//	state      pending              joined, or waiting to be taken into a generation
//	state      ready                has stopped its partitions for the generation in preparation
//	state      running              handles events
//	state      stopping             is leaving
//	state      stopped              has left; shown until the next generation is active
//	state      dead                 was declared dead; counted as long as its row is kept (WithHistory), so for new deaths use workers_lost_total
//	cause      first                there was no generation before
//	cause      joined               a worker joined
//	cause      left                 a worker left
//	cause      lost                 a worker died, froze or was cut off, whatever else happened with it
//	cause      changed              several of the other causes at once
//	cause      inconsistent         checkpoints contradicted the generation, as if changed by hand
//	cause      abandoned            a worker has abandoned a handler that hangs, or such a handler has returned
//	cause      drained              somebody has drained a worker, or ended that
//	cause      timer                wake_ups_total: it was time to look
//	cause      append               wake_ups_total: the trigger, or a look at the replica set, has shown an append
//	cause      announcement         wake_ups_total: the leader has announced a horizon
//	cause      session              wake_ups_total: the coordination session was connected or lost
//	cause      replica_set          wake_ups_total: who leads, or who is told of appends, has changed
//	from       window               the stretch of the stream that the worker reads once for all
//	from       alone                a read for one that is behind, or whose slots have not met
//	result     handled              waits_ended_total: the projection has handled what was waited for
//	result     failed               waits_ended_total: it will not without a person: it is paused, stopped, parked, or nobody runs it
//	result     given_up             waits_ended_total: the context of the call ended
//	phase      stop                 until this worker's processors have stopped
//	phase      prepare              until all workers are ready, or given up on
//	phase      activate             the leader's transaction that divides the work
//	phase      start                until this worker's processors have started
//	phase      total                from the preparation until this worker's processors have started
//	kind       error                handler_errors_total: the handler returned an error
//	kind       panic                handler_errors_total: the handler panicked
//	kind       joined               notifications_total: a worker joined
//	kind       left                 notifications_total: a worker left
//	kind       ready                notifications_total: a worker is ready for the generation in preparation
//	kind       generation           notifications_total: a generation was prepared or activated
//	kind       horizon              notifications_total: the leader has found a horizon
//	reason     standby              the connection leads to a standby
//	reason     table                the events table is missing, or of the wrong kind
//	reason     sequence             the positions' default or the sequence is not as it must be
//	reason     privilege            the role lacks a right
//	reason     row_security         row-level security hides events from the role
//	reason     position             an event has a position that is not above 0
//	reason     sequence_behind      the sequence stands below a stored event
//	reason     sequence_regression  the sequence stands below a checkpoint, and a person must decide
//	reason     replaced             the events table holds other events than before
//	operation  batch                handling a batch of events
//	operation  checkpoint           reading the checkpoints
//	operation  configuration        anything that fails until a person acts; the log names the remedy
//	operation  coordination         looking at the replica set, or changing its tables
//	operation  horizon              finding the horizon
//	operation  record               reading or writing the record of failed events, which holds up nothing
//	result     arrived              the notification came back
//	result     missing              it did not
//
// The log has the details. The message "a generation is active" has the cause and the reason of a generation, and "a
// worker is lost" names a lost worker.
//
// # Buckets
//
// The bounds of the histograms' buckets, in seconds or events:
//
//	coordination_duration_seconds   0.05 0.25 2 30
//	heartbeat_duration_seconds      0.001 0.01 0.1 1 10
//	batch_duration_seconds          0.001 0.01 0.1 1 10
//	batch_events                    1 100
//
// # Cost
//
// The series of a label are in a map that is read without a lock. Recording a value costs a hash and an atomic addition,
// and allocates nothing. The first use of a label locks and copies that map, and so does the end of a partition or of a
// Run.
package metrics
