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
//	workers_lost_total              counter                           Workers that this worker declared dead while it was the leader. Only one worker counts each death.
//	drained                         gauge                             1 while this worker is drained and gets no partitions, else 0.
//	leader                          gauge                             1 if this worker leads the replica set, else 0. A worker that cannot reach the database does not lead.
//	leader_unlocked                 gauge                             1 while this worker leads without the leader's lock, because something other than a live worker holds it, else 0.
//	generation                      gauge                             Number of the generation that this worker follows; 0 before the first.
//	generation_blocked              gauge                             1 while a new generation waits for a transaction that this worker may not end, else 0.
//	generation_changes_total        counter    cause                  Generations that this worker saw become active, by cause.
//	partitions                      gauge                             Partitions that this worker handles.
//	coordination_duration_seconds   histogram  phase                  Duration of generation changes, by phase.
//	paused_seconds_total            counter                           Time in which this worker handled no events because of generation changes.
//	heartbeat_duration_seconds      histogram                         Duration of heartbeats, including failed ones.
//	heartbeat_failures_total        counter                           Heartbeats that failed.
//	lease_expired_total             counter                           Times that this worker stopped handling events because no heartbeat had succeeded for too long.
//	backends_terminated_total       counter                           Times that this worker ended a worker's database backend, because it held up a generation or belonged to a frozen leader.
//	events_handled_total            counter    projection             Events handled and committed.
//	conflicts_total                 counter    projection             Batches in conflict: the database ended them because of a deadlock, a serialization failure or a lock timeout, or they waited for another batch of their projection.
//	handler_errors_total            counter    projection, kind       Handler failures, by kind: error, panic or timeout.
//	failures_total                  counter    projection, class, outcome  Failed attempts to handle single events, by class of error and by outcome: retry, stop, skip or park.
//	batch_duration_seconds          histogram  projection             Duration of committed batches, from BEGIN to COMMIT.
//	batch_events                    histogram  projection             Number of events per committed batch.
//	fenced_batches_total            counter                           Batches rolled back because the checkpoint belongs to another worker.
//	batches_waiting                 gauge                             Batches that wait because all pool connections for batches are in use.
//	batch_wait_seconds_total        counter                           Time that batches waited for a pool connection.
//	position                        gauge      projection, partition  Global position up to which the partition is handled.
//	lag_events                      gauge      projection, partition  Horizon minus position; an upper bound on the number of events left to handle.
//	retrying                        gauge      projection, partition  1 while the partition waits to retry a failed event, else 0.
//	held                            gauge      projection, partition  1 while the projection is paused or held for slots of the partition, else 0.
//	stopped                         gauge      projection, partition  1 while the projection is stopped for slots of the partition until a person decides, else 0.
//	parked_aggregates               gauge      projection, partition  Parked aggregates of the partition, whose events are put aside until a person decides.
//	parked_events                   gauge      projection, partition  Events of the partition's parked aggregates, including aggregates that other workers parked.
//	events_parked_total             counter    projection             Events put aside because their aggregate is parked.
//	events_skipped_total            counter    projection             Events that the projection's error policy skipped. No handler has handled them.
//	reads_total                     counter    from                   Answers to processors' requests for events, by source.
//	waits_ended_total               counter    result                 Calls of WaitFor and WaitForAppend that ended while Run was running, by result.
//	wait_seconds_total              counter                           Time that calls of WaitFor and WaitForAppend waited, if they ended while Run was running.
//	failure_hook_dropped_total      counter                           Failures that were not passed to the failure hook because it was too slow.
//	hanging_handlers                gauge      projection             Handlers that have run for 10 s or longer, including abandoned ones.
//	abandoned_handlers              gauge      projection             Handlers that did not return when their worker told them to stop, and still run.
//	horizon_position                gauge                             Global position up to which no new event can appear.
//	stream_last_position            gauge                             Highest global position allocated to an event, committed or not.
//	wake_ups_total                  counter    cause                  Wake-ups to look for new events, by cause.
//	horizon_blocked_seconds         gauge                             How long the oldest writer has held the horizon back; 0 if none does.
//	horizon_writers                 gauge                             Transactions that are writing to the events table.
//	horizon_fault                   gauge      reason                 1 while the horizon cannot be found for this reason, until a person acts, else 0.
//	database_errors_total           counter    operation              Failed database operations, by operation.
//	session_connected               gauge                             1 while the coordination session is connected, else 0.
//	session_reconnects_total        counter                           Times that the coordination session was reconnected.
//	notifications_total             counter    kind                   Notifications received, by kind.
//	notification_proofs_total       counter    result                 Notifications that the worker sent to itself to prove that LISTEN works, by result: arrived or missing.
//	notification_failures_total     counter                           Notifications that could not be sent to the other workers, which find the change at their next look at the tables.
//	actor_messages_total            counter    actor, message         Messages processed by actors.
//	actor_message_seconds_total     counter    actor                  Time that actors spent processing messages.
//	actor_starts_total              counter    actor                  Actors started, including respawned ones.
//	actor_respawns_total            counter    actor                  Actors started to replace one that panicked.
//	actor_panics_total              counter    actor                  Panics of actors. The log names the message.
//	actor_unknown_messages_total    counter    actor                  Messages that the actor does not accept.
//	actor_undelivered_messages_total  counter                           Messages sent to an actor that no longer exists.
//	actors                          gauge      actor                  Live actors.
//	actor_mailbox_length            gauge      actor                  Messages waiting in mailboxes, summed over all actors of a kind.
//	lag_seconds                     gauge      projection, partition  Age of the oldest event that the partition may still have to handle; 0 if no event waits.
//	build_info                      gauge      version, go            1, with the versions of the library and of Go as labels.
//	worker_info                     gauge      worker, worker_name    1, with the worker's id and name as labels, as in tables and logs. The other series of the same target belong to this worker.
//	loop_round_age_seconds          gauge      loop                   Time since the worker's loop finished its last round. If the worker has several loops of a kind, the longest.
//	loop_stuck                      gauge      loop                   1 while a round of the loop takes so long that the worker is not live, else 0.
//	unowned_slots                   gauge      projection             Slots of the projection, out of 65536, that belong to no live worker. Only the leader reports it. It looks about every 5 s, or every 15 s while no events arrive. Absent if it has not been able to look for a while.
//	requests_waiting                gauge      request                Aggregates that wait for a worker to retry or try their parked events, and read models that wait to be emptied. Only the leader reports it. It looks about every 5 s, or every 15 s while no events arrive. Absent if it has not been able to look for a while.
//	waits                           gauge                             Calls of WaitFor and WaitForAppend that are waiting in this process.
//
// # Labels
//
// All labels are bounded. The label projection is a projection's name. The label partition is k/N, and its series are
// deleted with the partition. The label actor is the kind of an actor, and message is the type of a message. The other
// labels are words, with at most 100 distinct values each. The following words have their series from the start, so an
// alert on an increase sees the first one:
//
//	state      pending              has joined, and waits for a generation that includes it
//	state      ready                has stopped its partitions for the generation in preparation
//	state      running              handles events
//	state      stopping             finishes its batches and leaves
//	state      stopped              has left; counted until the next generation is active
//	state      dead                 was declared dead; counted as long as its row is kept (WithHistory); for new deaths use workers_lost_total
//	cause      first                it is the first generation
//	cause      joined               a worker joined
//	cause      left                 a worker left
//	cause      lost                 a worker died, froze or was cut off, whatever else changed
//	cause      changed              several of the other causes at once
//	cause      inconsistent         checkpoints contradicted the generation, as if somebody had changed them
//	cause      abandoned            a worker abandoned a hanging handler, or such a handler returned
//	cause      drained              somebody drained or undrained a worker
//	cause      timer                wake_ups_total: the next look was due
//	cause      append               wake_ups_total: the trigger, or a look at the replica set, showed an append
//	cause      announcement         wake_ups_total: the leader announced a horizon
//	cause      session              wake_ups_total: the coordination session was connected or lost
//	cause      replica_set          wake_ups_total: the leader changed, or another worker no longer asks to be notified of appends
//	from       window               the part of the stream that the worker reads once for all its processors
//	from       alone                a separate read for a processor that is behind, or whose slots are at different positions
//	result     handled              waits_ended_total: the projection has reached the position
//	result     failed               waits_ended_total: it cannot until a person acts: it is paused, stopped or parked, or no worker runs it
//	result     given_up             waits_ended_total: the call's context ended
//	phase      stop                 until this worker's processors have stopped
//	phase      prepare              until all workers are ready, or the leader no longer waits for them
//	phase      activate             the leader's transaction that divides the work
//	phase      start                until this worker's processors have started
//	phase      total                from the preparation until this worker's processors have started
//	kind       error                handler_errors_total: the handler returned an error
//	kind       panic                handler_errors_total: the handler panicked
//	kind       joined               notifications_total: a worker joined
//	kind       left                 notifications_total: a worker left
//	kind       ready                notifications_total: a worker is ready for the generation in preparation
//	kind       generation           notifications_total: a generation was prepared or activated
//	kind       horizon              notifications_total: the leader announced a horizon
//	reason     standby              the connection leads to a standby
//	reason     table                the events table is missing, is of the wrong kind, or lacks its key
//	reason     sequence             the position column's default or the sequence has unsuitable settings
//	reason     privilege            the role lacks a right
//	reason     row_security         row-level security hides events from the role
//	reason     position             an event has a position below 1
//	reason     sequence_behind      the sequence is below a stored event's position
//	reason     sequence_regression  the sequence is below a checkpoint, and a person must decide
//	reason     replaced             the events table contains other events than before
//	operation  batch                handling a batch of events, or of a retry
//	operation  checkpoint           reading the checkpoints
//	operation  configuration        anything that fails until a person acts; the log names the remedy
//	operation  coordination         looking at the replica set, or changing its tables
//	operation  horizon              finding the horizon
//	operation  record               reading or writing the record of failed events; handling goes on without it
//	result     arrived              the notification came back
//	result     missing              the notification did not come back in time
//
// The log has the details. The message "a generation is active" has the cause and the reason of a generation, and "a
// worker is lost" names a lost worker.
//
// # Buckets
//
// The upper bounds of the buckets of histograms, in seconds or events:
//
//	coordination_duration_seconds   0.05 0.25 2 30
//	heartbeat_duration_seconds      0.001 0.01 0.1 1 10
//	batch_duration_seconds          0.001 0.01 0.1 1 10
//	batch_events                    1 100
//
// # Cost
//
// Series are in maps that are read without a lock. Recording a value costs a hash and an atomic addition, and allocates
// nothing. The first use of a label value locks and copies its map, as does the end of a partition or of a Run.
package metrics
