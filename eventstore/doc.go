// Package eventstore appends events to PostgreSQL and reads them. It works on the tables that the pupsourcing library
// creates: events and aggregate_heads. A third one, projection_checkpoints, holds the positions of pupsourcing's
// processors and of the manual runner. Existing tables work unchanged. RunMigrations creates the tables where they do
// not exist.
//
// # Appending
//
// Append stores any number of events of one aggregate, in one round trip, inside the caller's transaction:
//
//	result, err := store.Append(ctx, tx, es.NoStream(), []es.Event{…})
//
// One statement advances the aggregate's row in aggregate_heads and inserts the events. The transaction holds the row's
// lock until it ends, so appends to one aggregate run one after the other. The version is compared under this lock. Two
// transactions that expect the same version therefore cannot both succeed. Other writers may not use the lock; for them,
// the unique constraint of the events table is the last safeguard.
//
// pupsourcing's own appender may run at the same time. It inserts first and advances the head last. Nothing is lost or
// stored twice. If both append to the same aggregate at once, one of them fails, by the unique constraint or as the
// victim of a deadlock.
//
// The column's default allocates positions inside the INSERT, never before. The transaction therefore holds the table's
// RowExclusiveLock before it has a number. The computation of the horizon (package horizon) relies on this.
//
// # Reading
//
// Positions become visible out of order when transactions overlap. A reader that follows the stream must therefore not
// read past the horizon. Projections respect this rule. ReadEvents leaves it to the caller.
package eventstore
