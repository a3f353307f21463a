package pgcoord

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// failed is the letter of the event at a position, of an aggregate in the range.
func failed(t testing.TB, o owner, r slot.Range, position int64, says string) Letter {
	t.Helper()
	return Letter{Attempts: 1, Error: says, Event: es.PersistedEvent{
		GlobalPosition: position, EventID: uuid.New(), EventType: "Placed", BoundedContext: "shop", AggregateType: "Order",
		AggregateID: aggregateIn(t, o.pool, r),
	}}
}

// fails records a failure, and returns how many there were.
func (o owner) fails(t testing.TB, letter Letter) int {
	t.Helper()
	attempts, err := o.RecordFailure(t.Context(), dbguard.New(o.pool).InTransactions(), o.fence, letter)
	require.NoError(t, err)
	return attempts
}

// commits advances the checkpoint by a batch that has handled the events at the positions.
func (o owner) commits(t testing.TB, pieces []slot.Piece, to int64, positions ...int64) {
	t.Helper()
	b := o.begin(t, pieces, to)
	b.Recovered(positions)
	require.NoError(t, b.Commit(t.Context(), to))
}

// skips records what was skipped.
func (o owner) skips(t testing.TB) []int64 {
	t.Helper()
	skipped, err := o.RecordSkipped(t.Context(), dbguard.New(o.pool).InTransactions(), o.fence)
	require.NoError(t, err)
	return skipped
}

// deadLetters counts the rows of which a condition is true.
func deadLetters(t testing.TB, o owner, condition string) int {
	t.Helper()
	return value[int](t, o.pool, `SELECT count(*) FROM orchestrator_dead_letters WHERE `+condition)
}

func TestFailuresAreCountedUntilHandled(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	letter := failed(t, o, slot.All(), 7, "no stock")
	assert.Equal(t, 1, o.fails(t, letter))
	assert.Equal(t, 1, deadLetters(t, o, `state = 'retrying' AND attempts = 1 AND last_error = 'no stock' AND replica_set = 'main'
		AND event_type = 'Placed' AND bounded_context = 'shop' AND aggregate_type = 'Order' AND generation = 1 AND handled_at IS NULL`))
	letter.Error = "still none" // on a worker that has begun to count
	assert.Equal(t, 2, o.fails(t, letter))
	assert.Equal(t, 1, deadLetters(t, o, `attempts = 2 AND last_error = 'still none' AND last_failed_at >= first_failed_at`))
	retrying, err := o.Unsettled(t.Context(), o.pool)
	require.NoError(t, err)
	assert.Equal(t, map[string]int64{"orders": 7}, retrying)

	o.commits(t, whole(0), 6, 6)
	assert.Equal(t, 1, deadLetters(t, o, `state = 'retrying'`), "it was not handled")
	o.commits(t, whole(6), 7, 6, 7)
	assert.Equal(t, 1, deadLetters(t, o, `state = 'handled' AND handled_at IS NOT NULL AND attempts = 2`))
	retrying, err = o.Unsettled(t.Context(), o.pool)
	require.NoError(t, err)
	assert.Empty(t, retrying)
	assert.Equal(t, 1, o.fails(t, letter), "it is recorded too late")
	assert.Equal(t, 1, deadLetters(t, o, `state = 'handled' AND attempts = 2`))

	exec(t, o.pool, `UPDATE orchestrator_checkpoints SET position = 6`)
	assert.Equal(t, 1, o.fails(t, letter), "it is counted since it was handled")
	assert.Equal(t, 1, deadLetters(t, o, `state = 'retrying' AND handled_at IS NOT NULL AND attempts = 1`), "it fails in a replay")
}

// A batch that does not commit has handled nothing.
func TestHandledCommitsWithItsBatch(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	o.fails(t, failed(t, o, slot.All(), 7, "no stock"))
	b := o.begin(t, whole(0), 7)
	b.Recovered([]int64{7})
	_, err := b.Tx().Exec(t.Context(), `SELECT 1 / 0`)
	require.Error(t, err)
	require.Error(t, b.Commit(t.Context(), 7))
	assert.Equal(t, 1, deadLetters(t, o, `state = 'retrying'`))
}

// What a checkpoint has passed without a handler was skipped, by the checkpoint of the event's slot.
func TestSkippedIsWhatTheSlotsCheckpointHasPassed(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	pieces := o.cut(t, 10, 10, 10)
	for i, p := range pieces {
		o.fails(t, failed(t, o, p.Range, int64(15+i), "no"))
	}
	exec(t, o.pool, `UPDATE orchestrator_checkpoints SET position = 20 WHERE slot_from = $1`, pieces[1].From)
	letters := o
	letters.fence.Projection = "letters"
	assert.Empty(t, letters.skips(t), "that was another projection")
	skipped := o.skips(t)
	assert.Equal(t, []int64{16}, skipped)
	assert.Equal(t, 2, deadLetters(t, o, `state = 'retrying' AND global_position IN (15, 17)`))
	assert.Equal(t, 1, deadLetters(t, o, `state = 'skipped' AND global_position = 16 AND skipped_at IS NOT NULL AND handled_at IS NULL`))
	skipped = o.skips(t)
	assert.Empty(t, skipped, "it is recorded")
}

func TestFencedWorkerRecordsNoFailure(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	letter := failed(t, o, slot.All(), 7, "no stock")
	for name, change := range map[string]func(*Fence){
		"another worker":     func(f *Fence) { f.Worker = uuid.New() },
		"another generation": func(f *Fence) { f.Generation++ },
		"another projection": func(f *Fence) { f.Projection = "letters" },
	} {
		f := o.fence
		change(&f)
		attempts, err := o.RecordFailure(t.Context(), dbguard.New(o.pool).InTransactions(), f, letter)
		require.NoError(t, err)
		assert.Equal(t, letter.Attempts, attempts)
		assert.Zero(t, deadLetters(t, o, `true`), name)
	}
}

func TestFailureMaySayAnything(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	o.fails(t, failed(t, o, slot.All(), 7, "zero \x00, half \xc3, whole ü"))
	assert.Equal(t, "zero \uFFFD, half \uFFFD, whole ü", value[string](t, o.pool, `SELECT last_error FROM orchestrator_dead_letters`))
}

func TestPruneKeepsWhatIsNeeded(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	left := join(t, o.Store, o.pool, "orders")
	require.NoError(t, o.Stop(t.Context(), o.pool, left, ""))
	buried, later := join(t, o.Store, o.pool, "orders"), join(t, o.Store, o.pool, "orders")
	stranger := open(t, o.pool, "stranger")
	foreign := join(t, stranger, o.pool, "letters")
	require.NoError(t, stranger.Stop(t.Context(), o.pool, foreign, ""))
	for range 3 {
		o.fence.Generation = generation(t, o.Store, o.pool, o.fence.Generation, o.worker)
	}
	for position := range int64(4) {
		o.fails(t, failed(t, o, slot.All(), position+1, "no"))
	}
	o.commits(t, whole(0), 1, 1)
	o.commits(t, whole(1), 2, 2)
	exec(t, o.pool, `UPDATE orchestrator_checkpoints SET position = 3`)
	skipped := o.skips(t)
	assert.Equal(t, []int64{3}, skipped)
	living := join(t, o.Store, o.pool, "orders")
	bury(t, o.Store, o.pool, buried)
	bury(t, o.Store, o.pool, later)
	bury(t, o.Store, o.pool, o.worker) // it owns checkpoints, though it died
	exec(t, o.pool, `UPDATE orchestrator_workers SET state_changed_at = now() - interval '1 hour' WHERE worker_id = ANY($1::text[]::uuid[])`,
		texts([]uuid.UUID{left, buried, o.worker}))

	require.NoError(t, o.Prune(t.Context(), o.pool, 1))
	require.NoError(t, o.PruneFailures(t.Context(), o.pool, 1))
	assert.Equal(t, "3,4", value[string](t, o.pool, `SELECT string_agg(number::text, ',' ORDER BY number) FROM orchestrator_generations`))
	assert.ElementsMatch(t, texts([]uuid.UUID{later, living, o.worker, foreign}), value[[]string](t, o.pool, `SELECT array_agg(worker_id::text) FROM orchestrator_workers`))
	assert.Equal(t, 4, value[int](t, o.pool, `SELECT count(*) FROM orchestrator_heartbeats`))
	assert.Equal(t, 1, deadLetters(t, o, `state = 'retrying'`))
	assert.Equal(t, 1, deadLetters(t, o, `state = 'handled'`))
	assert.Equal(t, 1, deadLetters(t, o, `state = 'skipped'`), "nothing else says that nobody has handled it")
	assert.Equal(t, o.fence.Generation+1, prepare(t, o.Store, o.pool, o.fence.Generation), "the numbers go on")
}

// Whatever is the matter with the record, the batch commits, and says that it was not recorded. It is recorded afterwards.
func TestTheRecordOfFailuresFailsNoBatch(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ spoil, repair, code string }{
		"a right is revoked":      {`REVOKE ALL ON orchestrator_dead_letters FROM {role}`, `GRANT ALL ON orchestrator_dead_letters TO {role}`, "42501"},
		"the table is renamed":    {`ALTER TABLE orchestrator_dead_letters RENAME TO away`, `ALTER TABLE away RENAME TO orchestrator_dead_letters`, "42P01"},
		"a trigger refuses":       {`CREATE TRIGGER no BEFORE UPDATE ON orchestrator_dead_letters EXECUTE FUNCTION refuse()`, `DROP TRIGGER no ON orchestrator_dead_letters`, "P0001"},
		"a deferred trigger does": {`CREATE CONSTRAINT TRIGGER no AFTER UPDATE ON orchestrator_dead_letters DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`, `DROP TRIGGER no ON orchestrator_dead_letters`, "P0001"},
		"a policy hides its rows": {`ALTER TABLE orchestrator_dead_letters ENABLE ROW LEVEL SECURITY`, `ALTER TABLE orchestrator_dead_letters DISABLE ROW LEVEL SECURITY`, "42501"},
		"a row is locked":         {"", `SELECT FROM orchestrator_dead_letters FOR UPDATE`, "55P03"},
		"the table is locked":     {"", `LOCK TABLE orchestrator_dead_letters`, "55P03"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOwner(t)
			role := o.newRole(t, "worker")
			fill := strings.NewReplacer("{role}", role).Replace
			exec(t, o.pool, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$no$$; END'`)
			exec(t, o.pool, fill(`GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}`))
			o.fails(t, failed(t, o, slot.All(), 7, "no stock"))
			config := o.pool.Config()
			config.ConnConfig.User = role
			as, err := pgxpool.NewWithConfig(t.Context(), config)
			require.NoError(t, err)
			defer as.Close()

			repair := func() { exec(t, o.pool, fill(test.repair)) }
			if test.spoil != "" {
				exec(t, o.pool, fill(test.spoil))
			} else {
				person, err := o.pool.Begin(t.Context())
				require.NoError(t, err)
				exec(t, person, test.repair)
				repair = func() { require.NoError(t, person.Commit(t.Context())) }
			}
			b, err := o.BeginBatch(t.Context(), as, o.fence, whole(0), 7, BatchSettings{})
			require.NoError(t, err)
			b.Recovered([]int64{7})
			require.NoError(t, b.Commit(t.Context(), 7))
			assert.Equal(t, test.code, dbfault.Code(b.Unrecorded()))
			assert.False(t, b.Recorded())
			assert.Equal(t, whole(7), o.pieces(t))

			db := dbguard.New(as).InTransactions()
			require.Error(t, o.RecordHandled(t.Context(), db, "orders", []int64{7}, 0))
			repair()
			assert.Equal(t, 1, deadLetters(t, o, `state = 'retrying'`))
			require.NoError(t, o.RecordHandled(t.Context(), db, "orders", []int64{7}, 0))
			assert.Equal(t, 1, deadLetters(t, o, `state = 'handled' AND handled_at IS NOT NULL`))
		})
	}
}

// Hardened databases take PL/pgSQL from their roles. Then the record is written by itself.
func TestWithoutPLpgSQLABatchSaysSo(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	role := o.newRole(t, "worker")
	exec(t, o.pool, `GRANT ALL ON ALL TABLES IN SCHEMA public TO `+role)
	exec(t, o.pool, `REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC`)
	config := o.pool.Config()
	config.ConnConfig.User = role
	as, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer as.Close()
	b, err := o.BeginBatch(t.Context(), as, o.fence, whole(0), 7, BatchSettings{})
	require.NoError(t, err)
	b.Recovered([]int64{7})
	require.ErrorIs(t, b.Commit(t.Context(), 7), ErrNoRecord)
	assert.True(t, b.Alive(), "the connection was given back, and was not lost")
	assert.Equal(t, whole(0), o.pieces(t))
}

// A skipped event is to be handled again where its checkpoint was set back.
func TestASkippedEventIsUnsettledInARebuild(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	o.fails(t, failed(t, o, slot.All(), 7, "no stock"))
	exec(t, o.pool, `UPDATE orchestrator_checkpoints SET position = 9`)
	assert.Equal(t, []int64{7}, o.skips(t))
	unsettled := func() map[string]int64 {
		found, err := o.Unsettled(t.Context(), o.pool)
		require.NoError(t, err)
		return found
	}
	assert.Empty(t, unsettled())
	exec(t, o.pool, `UPDATE orchestrator_checkpoints SET position = 0`)
	assert.Equal(t, map[string]int64{"orders": 7}, unsettled())
	o.commits(t, whole(0), 7, 7)
	assert.Equal(t, 1, deadLetters(t, o, `state = 'handled' AND handled_at IS NOT NULL AND skipped_at IS NOT NULL`), "what happened to it stays")
	assert.Empty(t, unsettled())
}
