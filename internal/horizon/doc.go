// Package horizon finds the position up to which a stream of events is settled.
//
// # The problem
//
// Positions are drawn from a sequence before the transaction commits, so 102 can be visible while 101 is still in
// flight. A reader that has seen 102 and goes on from there never sees 101. The horizon is the highest position at and
// below which no event can still appear. A reader that stops there loses nothing.
//
// # The rule
//
// An INSERT takes RowExclusiveLock on the events table before it draws its number,
// and the transaction keeps the lock until its outcome is visible to others. So:
//
//  1. read v, the last value that the sequence gave;
//  2. in a later statement read the holders of that lock: the transactions that
//     have drawn numbers or can. Each gets a bound, a position that all its numbers
//     are above. A holder that the previous probe did not see took the lock after
//     that probe, so it draws numbers above the v of the previous probe. A holder
//     that was seen keeps its bound;
//  3. the horizon is the least bound, or v if there is no holder.
//
// The events must be read in a snapshot taken after step 2.
//
// # Why it is exact
//
// Let n be a number at or below the horizon, drawn by transaction X. If X is no
// holder in step 2, then n ≤ v says that it drew n, hence took the lock, before
// step 1, so it has given the lock back: its outcome is visible to any later
// snapshot, or it was rolled back and n is dead. If X is a holder, then n is above
// X's bound, so above the horizon: a contradiction. And every number that is not
// drawn yet is above v. No clock, timeout or lock on the writers is involved.
//
// # A glance
//
// Looking at all locks is expensive, and its cost grows with the number of sessions. Most probes do not need it. Let h
// be the horizon, and let the events at h+1 to e be visible without a hole. Then e is settled: each number up to it is
// visible, so every number that a transaction still holds is above e, whether a look has met the transaction or not. So
// e is a bound for all of them. A probe therefore reads the sequence and the next events in one statement first, which
// costs much less. A hole means that a transaction is in flight or was rolled back. Most transactions end within
// milliseconds, so the prober looks at the locks only if the hole is still there after 10 ms.
//
// This requires that each position exists only once, which the key of the events table ensures. The key of a partitioned
// table may include other columns. Each probe of such a table therefore looks at the locks.
//
// That statement reads the events table, so a session that excludes readers, such as ALTER TABLE, would block it. It
// waits at most 100 ms. After that, probes look at the locks instead for a second. (A connection that has not prepared
// the statement yet waits as long as the caller does.)
//
// # Announcements
//
// A prober may use the horizon that another one has found ([Prober.Announce], [Prober.Hear]). Settled positions stay
// settled. A late announcement is therefore still valid, provided that no position was given again in between and both
// probers use the same table and sequence. It raises the bounds of all holders, as a glance does: all numbers up to it
// are settled, so every number that a transaction still holds is above it. The statement that notifies also checks that
// the server has not crashed since the sender's probe. The receiver's session, which gets the notification, must be
// older than the receiver's latest probe. The notification then comes from the same run of the server as that probe.
//
// An announcement includes the slots of the events (package announcement). A glance has read them with the events; after
// a look they are read separately. They cover all events between two horizons. A reader that has read up to the lower
// horizon, or beyond, and wants none of these slots need not read up to the higher one.
//
// # Three more cases
//
//   - A first probe has no previous v. It looks at the locks. The holders that it meets get the floor, a
//     position that is settled already: a horizon that some prober has found and stored (see below),
//     read before the probe, or 0. A checkpoint is none, since people write checkpoints too. If all numbers from the floor
//     to some position turn out to be visible, without a hole, they are settled as well, whoever is open and whenever that
//     is found out. They are looked through in steps, one with each probe, as long as transactions of the first probe hold the horizon back.
//   - A prepared transaction that was not seen before may have been, under another
//     name: older servers rename it when it is prepared, and every server when it
//     restarts. Its old bound was not below the horizon then, so the previous
//     horizon is a bound for it.
//   - A server that crashed may give numbers a second time, because the end of its
//     log was lost, and names of transactions too. What earlier probes saw says
//     nothing then. A [Prober] therefore starts afresh, from the floor, unless its
//     connection, or any other session that it may see, was there already at the
//     previous probe, on the same server: no session outlives a crash. A role that
//     may not see when its session began, as after SET ROLE, asks when the server's statistics were
//     reset instead, which the recovery after a crash does.
//
// # The stored horizon
//
// Probers store the horizon for those that start later, about once a second while it moves. Let H be the stored horizon.
// Every number up to H was settled when H was found, and stays so unless numbers are given again. That happens in three
// ways:
//
//   - The server crashes, or a replica takes over, and the end of the log is lost. Whoever found H had read the sequence
//     after its record was in the log, and the row with H was written later. So a server that has the row has the
//     sequence at H or above. A prober must not write what it found before a crash after it, however, and the statement that stores
//     H therefore demands the same evidence that the server has not crashed as a probe does.
//   - The sequence is altered, replaced or restored. It has another file then, or is another sequence. Both are stored with H, and
//     compared. So is the oid of the events table: where another table takes its name, H says nothing of transactions that insert into that one.
//   - The sequence is set back with setval. A prober that sees it below H, or below what it saw before, takes H back to 0 under a new
//     term. What was found under an earlier term is not stored any more, and probers that see a new term start afresh.
//
// A higher floor only makes a start among open transactions faster. With a floor of 0 it waits until those have ended, or for what counting shows.
// The manual runner has no table for H: it knows what its own prober found before, while the evidence holds.
//
// # The table
//
// Another table may take the events table's name. The id of the last event up to H is therefore stored with H. A table
// that lacks this event, or has another event at its position, does not continue the previous table. The checkpoints do
// not apply to it, and Probe returns a [ReplacedError]. Since events may be deleted, a missing event proves this only if
// the table's oid is different too.
//
// # Checkpoints ahead of the sequence
//
// If the server has lost the end of its log, checkpoints in the same database have lost it too, and everything
// continues. But a checkpoint may come from elsewhere, such as a backup of other tables, and be ahead of the sequence.
// Events that get the positions up to it would then be skipped. Probe then returns a [RegressionError] with Floor set,
// which names both positions, and goes on returning it when appends have brought the sequence past the checkpoint again,
// until the checkpoints were set back (or the sequence was lifted before anything was appended). What is known of it is
// a [Regression]; Probers that share their [Checkpoints] all know it when one has seen it, and all go on when one has
// found it settled.
//
// Two faults look like a normal state. The first is a checkpoint above the highest event, with the sequence at or above
// it. Rolled-back transactions leave the same state. Nothing can be skipped there, since no position up to the
// checkpoint is ever given again. (A promoted replica's sequence may be up to 32 numbers ahead.) The second is a
// sequence that has passed the checkpoint again before any Prober sees it. To prevent this, keep workers running, or
// compare the two before writers start.
//
// Numbers at or below the horizon without a visible event were rolled back and stay unused, so readers need no logic to
// wait for or skip them.
//
// # Preconditions
//
// [Check] verifies the preconditions that can be verified and says what to do. Each probe checks them again in the
// statements that it runs anyway. If one no longer holds, Probe returns an [UnfitError]. When it holds again, the prober
// starts afresh.
//
//   - Positions are drawn by the default of the column, within the INSERT, from one
//     sequence that counts upwards with CACHE 1 and does not cycle. A writer that
//     calls nextval by itself before it inserts is invisible in between.
//   - The connection is to the primary: locks and sequences of a standby are not
//     those of the writers.
//   - The events table is an ordinary or a partitioned table and no partition of
//     another one, since an insert into a parent draws its number before it locks
//     the partition.
//   - The positions have a unique index. Without it two events could have the
//     same position, and a page that ends between them would skip the second.
//     This is checked at each start and every ten seconds, and so are the next two.
//   - No event is without a position or an aggregate. It would have no slot, so no reader of some slots would get it.
//   - No subscription writes into the table. It stores events at the positions of another server, and our sequence says nothing of these.
//   - Partitions are attached empty.
//
// A transaction that makes a child of the events table may write to the child before others can see that it belongs to
// the table. It has locked the parent with ShareUpdateExclusiveLock before, and it has a transaction ID, so it counts as
// a holder too. So does, for a moment, an ANALYZE that stores what it found.
//
// An INSERT holds RowExclusiveLock even where its transaction holds a stronger lock on the table already, since
// PostgreSQL keeps and shows each mode by itself; so this one mode is enough to look for in the tables that are seen. It is mostly taken by the fast
// path, which pg_locks shows too. UPDATE and DELETE on the events table take it as well. They hold the horizon back
// while they run, which is unnecessary but harmless.
//
// ALTER SEQUENCE gives the sequence another file, waits for all transactions that have drawn from it, and so discards
// the numbers that sessions hold in their caches. CACHE 1 can therefore be relied upon as soon as a probe sees it. A
// sequence with another file than before may have had a cache in between, so the prober starts afresh.
//
// # The sequence and the rows
//
// A sequence below a stored event was not restored with the table, or belongs to a logical subscriber. At each start,
// and every ten seconds, the prober reads the highest position of a stored event, and then the sequence. A visible event
// has drawn its number before, so the sequence must not be below. If it is, Probe returns a [BehindError].
package horizon
