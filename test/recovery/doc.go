// Command recovery measures how soon a replica set notices that a worker came, left, died, froze or vanished, and how soon
// everything is handled again: `make bench-recovery`.
//
// Workers are processes, this program started again; they are killed by SIGKILL, stopped by SIGSTOP, cut off by a proxy, and their
// PostgreSQL server, which is durable and the program's own, is restarted. All settings are the library's defaults, but for the
// freezes, whose stale timeout is 2 s so that many of them do not take long, and for the 82 workers of "many", whose pools have 4
// connections.
//
// Variables of the environment: ONLY=NAME,NAME measures only these; SEED=N draws the same victims and delays again;
// REPETITIONS=N replaces each scenario's own number; POLLONLY=1 makes all workers do without sessions of their own, for
// which times have no goal; VERBOSE=1 shows each repetition. The exit code is 1 if something could not be measured. An event that
// was lost or handled twice is such a case: it is looked for at the end of each scenario whose projection is followed to its end,
// all but first-worker.
//
// # How
//
// The workers' projection enters each batch into a table, within the batch's transaction: its worker, the generation that its
// checkpoint names, and which buckets of slots its events are from. The row exists if and only if the batch was committed, and
// the server tells when (track_commit_timestamp), by the clock that all processes of the machine share. So what is measured is
// work that is committed, not begun, and no message, poll or pipe of the measuring program is part of a figure.
//
// A load appends short events all the time, over equal ranges of slots (buckets), so that each partition gets one at least every
// 10 ms, or every 30 ms where there are eight workers or more, which would keep two cores busy otherwise; many has its own.
//
// # What the figures mean
//
//   - first-worker: from the call of Run until the commit of the worker's first batch; nobody else is there.
//   - join: the same for a worker that joins three.
//   - join-pause, leave-pause: for each worker that was there before and after, from its last commit under one generation to its
//     first under the next, added up if there was more than one change; the longest of these of one repetition is its value.
//     The load's own gaps, of up to 10 ms, are part of it.
//   - leave-return: from SIGTERM until the leaver's Run has returned.
//   - kill, freeze, host-gone, host-vanished: until, for each bucket of slots, a batch with an event of it was committed under a generation later
//     than the one before, by another worker than the victim; the latest bucket counts. The survivors' own partitions, which the new
//     generation stops and starts, are among them. The victim is drawn from all four, leader or not. A freeze counts from when the
//     process was seen to have stopped; every second one is inside a batch, with its row locks held.
//   - freeze-rows, host-gone-rows, host-vanished-rows: how many of its batches under an old generation the victim could commit after it was back.
//     host-gone cuts the worker off by a proxy, whose kernel goes on acknowledging, so that only silence tells. host-vanished takes down
//     the link of the worker's network namespace, so that nobody acknowledges, as when a machine fails; it needs root on Linux.
//   - db-restart: from when the server accepts connections until each bucket has had a batch; fast and immediate shutdowns in
//     turn. Generations are counted until 8 s after it.
//   - burst: how many generations ten workers cause that start within a second, until all ten handle events and the last generation
//     has been active for 0.6 s.
//   - rolling: ten workers are restarted one by one; for each change of generation the longest pause of a worker that was there
//     before and after is taken, and these are added up. Of pauses that overlap no moment is counted twice.
//   - join/N: N workers in this process, each with a pool of its own and a projection that does nothing, and one more that joins and leaves again, each
//     time when the change before is over: from the call of its Run until the last of all has reported that it runs, by the server's clock. The longest pause of the others is what their metric
//     paused_seconds_total has grown by. Goals are for the median.
//   - many: 32 workers in one replica set and 50 that are alone in theirs: kill, with 64 buckets that get an event every 5 s, and
//     whenever a generation has become active. Before, without events, the statements of each worker in 15 s are counted by the server
//     (pg_stat_statements). The membership of each replica set must be exact, or nothing is measured.
package main
