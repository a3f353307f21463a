// Command bench measures how fast projections are handled and what a worker costs: `make bench`.
//
// It starts a PostgreSQL server of its own. The server has its default settings for durability, 1 GB of shared buffers and room
// for the log. The command fills an events table and vacuums it: 1,000,000 events of 10,000 aggregates, with payloads of 200
// bytes. Everything that is measured runs in a process of its own, which is this program started again. All settings of the
// library are its defaults, unless a figure names another. A worker's pool has 12 connections.
//
// These environment variables change what is measured:
//
//   - ONLY=NAME,NAME measures only these figures. The name catchup stands for all that begin with catchup/.
//   - EVENTS=N fills the table with N events.
//   - ROUNDS=N replaces the five rounds of each figure.
//   - SECONDS=N replaces the 20 s of each figure that is measured over a period.
//   - PROFILE=DIR makes the measured processes write their profiles to the directory.
//   - VERBOSE=1 shows each round.
//
// The exit code is 1 if something could not be measured. It is 0 if a goal was missed.
//
// # Ratios
//
// Events per second depend on the machine and on whatever else it runs. So each figure of throughput is a ratio. Each round first
// runs what the figure is compared with, a few seconds earlier. The raw reader is one `SELECT … ORDER BY global_position` over all
// columns, which rows.Scan reads into one es.PersistedEvent. The output has the median of the rounds, and the range of the ratio.
//
// A raw reader's time is from the query to the last row. A worker's time is from the start of its first read of the events table
// to the last event handled. It includes neither joining, which `make bench-recovery` measures, nor the last batch's commit. Every
// run begins with empty coordination tables.
//
// # Catching up
//
//   - raw: the raw reader itself.
//   - catchup/1x1: one worker and one projection, whose handler counts. The ratio is to raw.
//   - catchup/1x8: one worker and eight such projections. The value counts the events that all of them handled. The ratio is to 1x1.
//   - catchup/1x8/rows: how many rows the server sent from the events table (pg_stat_statements), per event in the table.
//   - catchup/4p/cpu: one worker with WithPartitionsPerWorker(4), whose handler computes for 50 µs, over the first tenth of the
//     events. The ratio is to the same with one partition. The handler's loop is calibrated once for all runs.
//   - catchup/4p/wait: the same with a handler that waits for 1 ms, over a hundredth of the events.
//   - catchup/4w: four worker processes and one projection. The value is how many rows the server sent per event. An open
//     transaction holds the events back until all four workers run.
//   - catchup/4w/speed: the events that these four handled. The ratio is to raw.
//   - catchup/4w/index: the same with the index of InstallSlotIndex. The index is built before the run and dropped after it.
//   - catchup/16w: how much processor time the server's processes use per event while sixteen worker processes catch up. The
//     measurement begins when all of them run. The ratio is to one worker. Linux only.
//   - catchup/16w/index: the same with the index of InstallSlotIndex.
//   - scoped: a projection that wants 1 % of the events. The value is how many events per second it passes over. The ratio is to raw.
//   - scoped/index: the same with the index of InstallScopeIndex. The index is built before each run and dropped after it. The time
//     includes looking for the index.
//   - allocs: how many allocations of memory eventread.Reader.Stream makes per event when it reads as workers do, with statements of
//     10,000 events in parts of 1,000. allocs/bytes counts the bytes. allocs/speed is the events per second, as a ratio to raw.
//
// # Writing
//
//   - write/row: the handler inserts a row for each event through tx, over a twentieth of the events. The ratio is to a loop written
//     by hand on one connection: it reads a page of 1,000 events, then runs BEGIN, 1,000 inserts, the checkpoint's update and COMMIT.
//     Like a worker, it does not wait for the disk (synchronous_commit = off).
//   - write/sql: the same with HandleSQL. The loop uses database/sql.
//   - write/batch: the same as write/row with HandleBatch and one COPY for each batch, over a fifth of the events.
//   - contended/4w: each event adds to one of 1,000 rows, in no order, and four workers share the projection. The ratio is to one
//     worker. The value counts the events that are committed in up to 30 s, after the first tenth of the events.
//   - contended/4w/batch: the same with HandleBatch and one UPDATE for each batch.
//   - contended/2w: two workers. contended/4p: four partitions of one worker. contended/hot: all events add to one row.
//   - contended/hot/batch/index: contended/hot/batch with the index of InstallSlotIndex.
//   - contended/apart/batch: like contended/4w/batch, but no two partitions share a row, so nothing is lost to conflicts.
//   - parked/row, parked/batch: the events handled per second, as in write/row and write/batch, while 1,000 aggregates of the
//     projection are parked. One in ten events belongs to them, and becomes a letter. The ratio is to the same with none parked.
//   - parked/others: the latency as in latency/500/poll, for events of aggregates that are not parked, while one of 800 aggregates is
//     parked. The ratio is to the same without events that cannot be handled. Each of the two goes first in turn.
//   - metrics/row, metrics/batch: the events handled per second of the worker's processor time, as in write/row and write/batch. The
//     ratio is to the same without metrics (WithMetricsEnabled).
//   - tracing/row, tracing/batch: the same without a tracer provider. The ratio is to the same with a provider that does nothing. Each
//     of the two goes first in turn.
//
// # Following
//
//   - latency/RATE/trigger, latency/RATE/poll: the time from an event's commit until it is handled, with and without the trigger of
//     InstallWakeUp. It begins when COMMIT has returned to the process that appends, and ends when the worker calls Handle. Both
//     processes use the same clock. It is 0 if Handle was called first. RATE events are appended per second, each in its own
//     transaction, on 8 connections, at fixed times. The value is the 99th percentile; /p50 is the median.
//   - follow/RATE/N: how much processor time N workers cost the server while RATE events are appended per second. The ratio is to what
//     the appends alone cost in the same run. The workers share one projection and run in one process, and each has its own pool.
//     Linux only.
//   - follow/RATE/N/workers: the processor time of the workers' process. The ratio is to the same. follow/RATE/N/p50 and
//     follow/RATE/N/p99: the latency. follow/RATE/N/trigger: the same with the trigger of InstallWakeUp, also for the appends alone.
//   - append/trigger: how many events 8 connections append per second, one in each transaction, with the trigger. The ratio is to the
//     same without it. A worker with one projection runs. Each round has three short turns. The time includes opening the connections.
//   - append/trigger/opened: the connections have appended before, and a worker was told of it. append/trigger/alone: no worker
//     runs. append/trigger/least: no worker runs, and the trigger does nothing: its condition is one call, and never holds.
//   - append/workers: the same without the trigger and with two workers, which share one projection. The ratio is to no worker at all.
//     The connections that append keep a small machine busy by themselves. What the workers and their statements take there is
//     missing to the appends. The goal is for a machine that has processors left.
//   - append/index: how many events are appended per second with the index of InstallScopeIndex and without a worker. The ratio is to
//     the same without the index. append/index/slots: with the index of InstallSlotIndex.
//
// # Idling and memory
//
//   - idle/trigger: how many statements per second (pg_stat_statements) a worker with 20 projections sends when it has nothing to do.
//     These include membership, the horizon and transactions. idle/cpu: how much of one processor its process uses. idle/poll and
//     idle/poll/cpu: the same without the trigger.
//   - idle/1: the statements of a worker with one projection. idle/growth: those of 20 projections, as a ratio to it. idle/64p: those
//     of 20 projections with 64 partitions each, as a ratio to those with one.
//   - idle/shared-pool: the statements per second of 150 idle workers in one process that share a pool of 60 connections. The ratio is
//     to a pool of 300. It shows that nothing asks again and again while it waits for a connection.
//   - memory/1x8: the peak of the resident memory (VmHWM) of the process that runs catchup/1x8.
//   - memory/far: the same when one projection is all events behind another that receives new events all the time.
//   - memory/waiting: the same when one projection fails on the first event, and another handles 500 events per second, which are read
//     one by one. It takes twice SECONDS.
//   - memory/large: the same for 1x8 with payloads of 1 MiB and a 4,000th of the events. The goal leaves room for two pages of 4 MiB for
//     each projection beside the window. It leaves twice as much, since garbage is collected only when as much has gathered again.
package main
