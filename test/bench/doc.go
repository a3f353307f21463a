// Command bench measures how fast projections are handled and what a worker costs: `make bench`.
//
// It starts a PostgreSQL server of its own, which writes as durably as the server's defaults say, with 1 GB of shared buffers and
// room for the log; fills an events table (1,000,000 events of 10,000 aggregates, payloads of 200 bytes) and vacuums it. Whatever
// is measured runs in processes of its own, this program started again: nothing else uses the measured process's memory or
// processor. All settings of the library are its defaults, but for what a figure names; a worker's pool has 12 connections.
//
// Variables of the environment: ONLY=NAME,NAME measures only these, and catchup all whose names begin with catchup/; EVENTS=N fills
// the table with N events; ROUNDS=N replaces the five rounds of each figure; SECONDS=N replaces the 20 s of each figure that is
// measured over a time; PROFILE=DIR has the measured processes write their profiles there; VERBOSE=1 shows each round. The exit code
// is 1 if something could not be measured, not if
// a goal was missed.
//
// # Ratios
//
// A machine, and whatever else runs on it, decides how many events a second there are. So each figure of throughput is a ratio:
// each round first runs what it is compared with, a few seconds earlier. The raw reader is one `SELECT … ORDER BY global_position`
// over all columns, scanned by rows.Scan into one es.PersistedEvent. The median of the rounds is shown, and the range of the ratio.
//
// A worker's time is from the start of its first read of the events table to the last event handled, as a raw reader's is
// from the query to the last row: joining, which `make bench-recovery` measures, is not part of it, nor is the last
// batch's commit. Every run begins with empty coordination tables.
//
// # What the figures mean
//
//   - raw: the raw reader itself.
//   - catchup/1x1: a worker with one projection whose handler counts; ratio to raw.
//   - catchup/1x8: a worker with eight such projections; the events that all of them handled, as a ratio to 1x1.
//   - catchup/1x8/rows: rows that the server sent from the events table (pg_stat_statements), per event in it.
//   - catchup/4p/cpu: a worker with WithPartitionsPerWorker(4) and a handler that takes 50 µs of a processor, as a ratio to the
//     same with one partition, over the first tenth of the events. Its pace is calibrated once for all runs.
//   - catchup/4p/wait: the same with a handler that waits for 1 ms, over a hundredth of the events.
//   - catchup/4w: four worker processes and one projection: rows that the server sent per event. An open transaction
//     holds the events back until all four are running.
//   - catchup/4w/speed: the events that these four handled, as a ratio to raw.
//   - catchup/4w/index: the same with the index of InstallSlotIndex, which is built before the run and dropped after it.
//   - catchup/16w: the processor time of the server's processes per event while sixteen worker processes catch up, as a ratio to one worker. It is
//     measured from when all are running. catchup/16w/index: with the index of InstallSlotIndex. On Linux only.
//   - write/row: the handler inserts a row for each event through tx, over a twentieth of the events. It is compared with a loop written by
//     hand: a page of 1,000 events read, BEGIN, 1,000 inserts, the checkpoint's update, COMMIT, on one connection that does not
//     wait for the disk either (synchronous_commit = off).
//   - write/sql: the same with HandleSQL, and a loop written by hand with database/sql.
//   - write/batch: the same as write/row with HandleBatch and one COPY for each batch, over a fifth of the events.
//   - contended/4w: each event adds to one of 1,000 rows, in no order, and four workers share the projection; ratio to one worker. The
//     rows count what is committed, from when a tenth of the events is, for up to 30 s. contended/4w/batch: with HandleBatch and one UPDATE for
//     each batch. contended/2w, contended/4p: two workers, and four partitions of one. contended/hot: all events add to one row.
//     contended/hot/batch/index: with the index of InstallSlotIndex. ONLY takes the name of each mix.
//     contended/apart/batch: as contended/4w/batch, but no two partitions share a row: what it loses is not lost to conflicts.
//   - parked/row, parked/batch: events handled a second, as in write/row and write/batch, where 1,000 aggregates of the projection are parked, which have
//     one in ten of the events; ratio to the same with none parked. Every event of theirs is put aside as a letter meanwhile.
//   - parked/others: as latency/500/poll, for the events of other aggregates while one of 800 is parked because its events cannot be handled; ratio to
//     the same without such events. Which of the two runs first alternates.
//   - metrics/row, metrics/batch: events handled in a second of the worker's processor time, as in write/row and write/batch; ratio to the same without metrics (WithMetricsEnabled).
//   - tracing/row, tracing/batch: the same without a tracer provider; ratio to the same with one that does nothing. Which of the two runs first alternates.
//   - latency/RATE/trigger, latency/RATE/poll: how long after its commit an event is handled: from when COMMIT has returned to the
//     appending process until Handle is called in the worker's, by the clock that both share; 0 if it was handled before. RATE
//     events a second, each in a transaction of its own, on 8 connections, on schedule whatever the answers take; with and without the
//     trigger of InstallWakeUp. The value is the 99th percentile; /p50 is the median.
//   - follow/RATE/N: the processor time of the server's processes that N workers add while RATE events a second are appended, as a
//     multiple of what the appends alone cost the server in the same run. The workers share one projection and are in one process, each with a
//     pool of its own. /workers: the processor time of that process, as a multiple of the same. /p50, /p99: commit to Handle, as for latency.
//     follow/RATE/N/trigger: all this with the trigger of InstallWakeUp, which the appends alone have too. On Linux only.
//   - append/trigger: appends a second of 8 connections, one event in each transaction, with the trigger, as a ratio to without, in
//     three short turns for each round; a worker with one projection is running, and the time begins with the opening of the connections.
//     append/trigger/opened: each connection has appended once before, and a worker was told of it. append/trigger/alone: no worker is running.
//     append/trigger/least: neither, and the trigger is one that does nothing, with a condition of one call that never holds.
//   - append/workers: the same without the trigger and with two workers, which share one projection, as a ratio to no worker at all. The
//     appending connections alone keep a small machine busy, so that on one what the workers and their statements take is missing
//     to the appends; the goal is for a machine that has processors left.
//   - append/index: appends a second without any worker, with the index of InstallScopeIndex, as a ratio to without.
//     append/index/slots: with the index of InstallSlotIndex.
//   - idle/trigger: statements a second (pg_stat_statements) of a worker with 20 projections that has nothing to do, all of them: membership,
//     horizon, transactions. idle/cpu: its process's use of one processor. idle/poll, idle/poll/cpu: without the trigger.
//   - idle/1: statements of a worker with one projection; idle/growth: those of 20 projections as a ratio to it; idle/64p: those of 20
//     projections with 64 partitions each as a ratio to those with one.
//   - idle/shared-pool: statements a second of 150 workers in one process that share a pool of 60 connections and have nothing to do, as a
//     ratio to those with a pool of 300: what waits for a connection must not ask again and again.
//   - memory/1x8: the peak of the resident memory (VmHWM) of a process that catches up 1x8.
//   - memory/far: the same where one projection is all events behind another, to which events come all the time.
//   - memory/waiting: the same where one projection fails on the first event and another handles 500 events a second, which are
//     read one by one, for twice SECONDS.
//   - memory/large: the same for 1x8 with payloads of 1 MiB, a 4,000th as many events. Its goal leaves room for two
//     pages of 4 MiB for each projection beside the window, twice, since garbage is collected when there is as much again.
//   - scoped: a projection that wants 1 % of the events: how many events a second are passed over, as a ratio to raw.
//   - scoped/index: the same with the index of InstallScopeIndex, which is built before each run and dropped after it. Looking for it is part
//     of the time.
//   - allocs: allocations of memory per event read by eventread.Reader.Stream as workers read: statements of 10,000 events in parts of
//     1,000. allocs/bytes: bytes. allocs/speed: events read so, as a ratio to raw.
package main
