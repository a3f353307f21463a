// Package eventstore appends events to PostgreSQL and reads them, on the tables
// that the pupsourcing library creates: events, aggregate_heads and, for its
// own progress only, projection_checkpoints. Existing tables work unchanged;
// RunMigrations creates them where there are none.
//
// # Appending
//
// Append stores any number of events of one aggregate, in one round trip, inside
// the caller's transaction:
//
//	result, err := store.Append(ctx, tx, es.NoStream(), []es.Event{…})
//
// One statement advances the aggregate's row in aggregate_heads and inserts the
// events. The row's lock, held until the transaction ends, puts appends to one
// aggregate in a row; the version is compared under it, so two transactions that
// expect the same version cannot both win. The unique constraint of the events
// table is the last net, for writers that do it otherwise. pupsourcing's own
// appender, which inserts first and advances the head last, may run beside this
// one: nothing is lost or doubled, but where both meet in one aggregate one of
// them fails, by the unique constraint or as the victim of a deadlock.
//
// Positions are drawn by the column's default inside the INSERT, never before:
// the table's RowExclusiveLock is then held before a number exists, on which the
// computation of the horizon (package horizon) rests.
//
// # Reading
//
// Positions become visible out of order when transactions overlap, so whoever
// follows the stream must not read past the horizon. Projections do not.
// ReadEvents leaves it to the caller.
package eventstore
