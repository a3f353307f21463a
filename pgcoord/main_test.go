package pgcoord

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/awaiting"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience bounds every wait for something that must happen.
const patience = 20 * time.Second

var eventsTable = pgx.Identifier{"events"}

// newPool creates a database with the coordination tables and an events table,
// of which nobody reads more than the name.
func newPool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return pgtest.NewDatabaseFrom(t, "the coordination tables", func(pool *pgxpool.Pool) error {
		createTables(t, pool)
		return nil
	})
}

func createTables(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	require.NoError(t, migrations.Run(t.Context(), pool, ""))
	exec(t, pool, `CREATE TABLE events ()`)
}

// open is the Store of a replica set in the connection's schema.
func open(t testing.TB, pool *pgxpool.Pool, replicaSet string) *Store {
	t.Helper()
	return openIn(t, pool, "", replicaSet)
}

func openIn(t testing.TB, pool *pgxpool.Pool, schema, replicaSet string) *Store {
	t.Helper()
	s, err := Open(t.Context(), pool, schema, replicaSet, eventsTable)
	require.NoError(t, err)
	return s
}

// newStore creates a database with the Store of the replica set "main".
func newStore(t testing.TB) (*Store, *pgxpool.Pool) {
	t.Helper()
	pool := newPool(t)
	return open(t, pool, "main"), pool
}

// membership is a worker that runs the projections.
func membership(projections ...string) Membership {
	return Membership{
		ID: uuid.New(), Name: "a worker", Projections: projections, Partitions: 1, HasSession: true,
		Hostname: "host", ProcessID: 7, Version: "test",
	}
}

// join enters a worker that runs the projections.
func join(t testing.TB, s *Store, db DB, projections ...string) uuid.UUID {
	t.Helper()
	m := membership(projections...)
	require.NoError(t, s.Join(t.Context(), db, m))
	return m.ID
}

// setState records a state that the worker must be able to take.
func setState(t testing.TB, s *Store, db DB, worker uuid.UUID, state replicaset.WorkerState, generation int64) {
	t.Helper()
	ok, err := s.SetState(t.Context(), db, worker, state, generation)
	require.NoError(t, err)
	require.True(t, ok, "worker %s cannot become %s", worker, state)
}

// shortID is how reasons and tests tell workers apart.
func shortID(id uuid.UUID) string { return id.String()[len(id.String())-8:] }

// aTest is a change for tests that are about something else.
var aTest = []replicaset.Change{{Kind: "a test"}}

// prepare prepares the generation after from and returns its number.
func prepare(t testing.TB, s *Store, db Conn, from int64) int64 {
	t.Helper()
	number, err := numberOf(s.Prepare(t.Context(), db, replicaset.Preparation{From: from, Changes: aTest, By: uuid.New()}))
	require.NoError(t, err)
	require.Equal(t, from+1, number)
	return number
}

// generation prepares and activates the generation after from with the workers.
func generation(t testing.TB, s *Store, db Conn, from int64, workers ...uuid.UUID) int64 {
	t.Helper()
	number := prepare(t, s, db, from)
	for _, w := range workers {
		setState(t, s, db, w, replicaset.Ready, number)
	}
	activated, err := isActive(s.Activate(t.Context(), db, replicaset.Activation{Number: number, By: uuid.New()}, nil))
	require.NoError(t, err)
	require.True(t, activated)
	for _, w := range workers {
		setState(t, s, db, w, replicaset.Running, number)
	}
	return number
}

// markDead declares workers dead, and returns how many died.
func markDead(t testing.TB, s *Store, db DB, losses []replicaset.Loss) int {
	t.Helper()
	died, err := s.MarkDead(t.Context(), db, losses)
	require.NoError(t, err)
	return died
}

// owner is a replica set with one worker that owns the projection "orders".
type owner struct {
	*Store
	pool   *pgxpool.Pool
	worker uuid.UUID
	fence  Fence
}

// newOwner creates a database where a worker runs the projection "orders" alone.
func newOwner(t testing.TB) owner {
	t.Helper()
	return ownerOn(t, newPool(t))
}

// ownerOn is newOwner in a database with the tables.
func ownerOn(t testing.TB, pool *pgxpool.Pool) owner {
	t.Helper()
	s := open(t, pool, "main")
	w := join(t, s, pool, "orders")
	number := generation(t, s, pool, 0, w)
	return owner{s, pool, w, Fence{
		Projection: "orders", Partition: slot.Partition{Key: 0, Total: 1}, Generation: number, Worker: w,
	}}
}

// begin opens a batch that must begin. It is rolled back when the test ends, if
// it was not ended before.
func (o owner) begin(t testing.TB, pieces []slot.Piece, upTo int64) *Batch {
	t.Helper()
	b, err := o.BeginBatch(t.Context(), o.pool, o.fence, pieces, upTo, BatchSettings{})
	require.NoError(t, err)
	t.Cleanup(func() { b.Rollback(context.Background()) })
	return b
}

// attempt begins a batch, for its error; a batch that begins is rolled back.
func (o owner) attempt(ctx context.Context, pool *pgxpool.Pool, f Fence, pieces []slot.Piece, upTo int64) error {
	b, err := o.BeginBatch(ctx, pool, f, pieces, upTo, BatchSettings{})
	if err != nil {
		return err
	}
	b.Rollback(ctx)
	return nil
}

// refused attempts a batch that must find its belief wrong.
func (o owner) refused(t testing.TB, f Fence, pieces []slot.Piece, upTo int64) {
	t.Helper()
	require.ErrorIs(t, o.attempt(t.Context(), o.pool, f, pieces, upTo), ErrMoved)
}

// advance handles everything up to a position in the range that has it.
func (o owner) advance(t testing.TB, pieces []slot.Piece, upTo int64) {
	t.Helper()
	require.NoError(t, o.begin(t, pieces, upTo).Commit(t.Context(), upTo))
}

// cut lays the positions of "orders" out in pieces that begin at the slots
// 0, 1000, 2000 …, all of which the worker owns. In the table they lie in the
// opposite order, so that who locks them as they come meets them backwards.
func (o owner) cut(t testing.TB, positions ...int64) []slot.Piece {
	t.Helper()
	exec(t, o.pool, `DELETE FROM orchestrator_checkpoints WHERE projection = 'orders'`)
	pieces := make([]slot.Piece, len(positions))
	for i, position := range positions {
		pieces[i] = slot.Piece{Range: slot.Range{From: 1000 * i, To: 1000 * (i + 1)}, Position: position}
		if i == len(positions)-1 {
			pieces[i].To = slot.Count
		}
	}
	for i := range slices.Backward(pieces) {
		exec(t, o.pool, `INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, position, replica_set, events_table,
			generation, partition_key, total_partitions, worker_id) VALUES ('orders', $1, $2, $3, 'main', 'public.events', $4, 0, 1, $5)`,
			pieces[i].From, pieces[i].To, pieces[i].Position, o.fence.Generation, o.worker)
	}
	return pieces
}

// pieces is the partition's checkpoints as they stand.
func (o owner) pieces(t testing.TB) []slot.Piece {
	t.Helper()
	pieces, err := o.Pieces(t.Context(), o.pool, o.fence)
	require.NoError(t, err)
	return pieces
}

// whole is one piece of every slot.
func whole(position int64) []slot.Piece {
	return []slot.Piece{{Range: slot.All(), Position: position}}
}

func exec(t testing.TB, db DB, sql string, args ...any) {
	t.Helper()
	_, err := db.Exec(t.Context(), sql, args...)
	require.NoError(t, err, sql)
}

// value is the one value that a query returns.
func value[T any](t testing.TB, db DB, sql string, args ...any) T {
	t.Helper()
	var v T
	require.NoError(t, db.QueryRow(t.Context(), sql, args...).Scan(&v), sql)
	return v
}

// dial opens a connection outside the pool that is closed when the test ends.
func dial(t testing.TB, pool *pgxpool.Pool) *pgx.Conn {
	t.Helper()
	return dialWith(t, pool.Config().ConnConfig.Copy())
}

func dialWith(t testing.TB, config *pgx.ConnConfig) *pgx.Conn {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// eventually polls until the query returns true.
func eventually(t testing.TB, db DB, what, sql string, args ...any) {
	t.Helper()
	awaiting.Until(t, patience, func() bool {
		var is bool
		return db.QueryRow(t.Context(), sql, args...).Scan(&is) == nil && is
	}, func() string { return what })
}

// awaitBlocked waits until the backend waits for a lock of another.
func awaitBlocked(t testing.TB, db DB, pid uint32) {
	t.Helper()
	eventually(t, db, "the backend never waited", `SELECT cardinality(pg_blocking_pids($1)) > 0`, pid)
}

// awaitBlockedBy waits until some backend waits for a lock that pid holds.
func awaitBlockedBy(t testing.TB, db DB, pid uint32) {
	t.Helper()
	eventually(t, db, "nobody ever waited for the backend",
		`SELECT EXISTS (SELECT 1 FROM pg_stat_activity AS a WHERE $1 = ANY(pg_blocking_pids(a.pid)))`, pid)
}

// sqlState is the SQLSTATE of the error, empty if it has none.
func sqlState(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

// await receives, or fails the test if nothing comes.
func await[T any](t testing.TB, from <-chan T, what string) T {
	t.Helper()
	return awaiting.Value(t, patience, from, what)
}

// async runs f in a goroutine and returns where its result will be.
func async[T any](f func() T) <-chan T {
	result := make(chan T, 1)
	go func() { result <- f() }()
	return result
}

// aggregateIn is the id of an aggregate whose slot lies in the range.
func aggregateIn(t testing.TB, db DB, r slot.Range) string {
	t.Helper()
	return value[string](t, db, `SELECT id FROM (SELECT '{it''s "' || n AS id FROM generate_series(1, 100000) AS n) AS ids
		WHERE (hashtextextended(id, 0) & 65535) >= $1 AND (hashtextextended(id, 0) & 65535) < $2 LIMIT 1`, r.From, r.To)
}

// listen opens a connection that hears the replica set's notifications.
func listen(t testing.TB, s *Store, pool *pgxpool.Pool) *pgx.Conn {
	t.Helper()
	conn := dial(t, pool)
	exec(t, conn, `LISTEN `+pgx.Identifier{s.Channel()}.Sanitize())
	return conn
}

// hears waits for the next notification and returns what it says.
func hears(t testing.TB, conn *pgx.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	n, err := conn.WaitForNotification(ctx)
	require.NoError(t, err)
	return n.Payload
}

// stateOf is the worker's state as the table has it.
func stateOf(t testing.TB, db DB, worker uuid.UUID) replicaset.WorkerState {
	t.Helper()
	return replicaset.WorkerState(value[string](t, db, `SELECT state FROM orchestrator_workers WHERE worker_id = $1`, worker))
}

// detailOf is what happened to the worker last.
func detailOf(t testing.TB, db DB, worker uuid.UUID) string {
	t.Helper()
	return value[string](t, db, `SELECT detail FROM orchestrator_workers WHERE worker_id = $1`, worker)
}

// numberOf is the number of the generation that was prepared.
func numberOf(p Prepared, err error) (int64, error) { return p.Number, err }

// isActive says whether the generation was activated.
func isActive(a Activated, err error) (bool, error) { return a.Active, err }
