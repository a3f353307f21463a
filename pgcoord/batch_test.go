package pgcoord

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// piecesAt is pieces with other positions.
func piecesAt(pieces []slot.Piece, positions ...int64) []slot.Piece {
	pieces = slices.Clone(pieces)
	for i, position := range positions {
		pieces[i].Position = position
	}
	return pieces
}

// single is the configuration of a pool that has one connection, so that a test
// sees in what condition it comes back.
func single(t *testing.T, pool *pgxpool.Pool, parameters map[string]string) *pgxpool.Pool {
	t.Helper()
	config := pool.Config()
	config.MaxConns = 1
	maps.Copy(config.ConnConfig.RuntimeParams, parameters)
	one, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(one.Close)
	return one
}

func TestBatchCommitsReadModelAndCheckpointTogether(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	exec(t, o.pool, `CREATE TABLE read_model (n int)`)
	b := o.begin(t, whole(0), 10)
	assert.True(t, b.Alive())
	exec(t, b.Tx(), `INSERT INTO read_model VALUES (1)`)
	assert.Equal(t, whole(0), o.pieces(t), "nothing is seen before the commit")
	require.NoError(t, b.Commit(t.Context(), 10))
	assert.Equal(t, whole(10), o.pieces(t))

	b = o.begin(t, whole(10), 20)
	exec(t, b.Tx(), `INSERT INTO read_model VALUES (2)`)
	b.Rollback(t.Context())
	b.Rollback(t.Context())
	assert.Equal(t, whole(10), o.pieces(t))
	assert.Equal(t, 1, value[int](t, o.pool, `SELECT count(*) FROM read_model`))
	assert.Zero(t, o.pool.Stat().AcquiredConns())
}

func TestFenceComparesAllThatTheWorkerBelieves(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	pieces := o.cut(t, 5, 7)
	tests := map[string]func(f *Fence, p []slot.Piece){
		"an older generation": func(f *Fence, _ []slot.Piece) { f.Generation-- },
		"a newer generation":  func(f *Fence, _ []slot.Piece) { f.Generation++ },
		"another worker":      func(f *Fence, _ []slot.Piece) { f.Worker = uuid.New() },
		"another projection":  func(f *Fence, _ []slot.Piece) { f.Projection = "other" },
		"a lower position":    func(_ *Fence, p []slot.Piece) { p[1].Position-- },
		"a higher position":   func(_ *Fence, p []slot.Piece) { p[1].Position++ },
		"another beginning":   func(_ *Fence, p []slot.Piece) { p[1].From++ },
		"another end":         func(_ *Fence, p []slot.Piece) { p[1].To-- },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			f, believed := o.fence, slices.Clone(pieces)
			change(&f, believed)
			o.refused(t, f, believed, 20)
			assert.Equal(t, pieces, o.pieces(t))
		})
	}
	o.advance(t, pieces, 20)
	assert.Equal(t, piecesAt(pieces, 20, 20), o.pieces(t), "the right belief passes")
}

// The first batch's COMMIT was not answered, and the worker tries again with the
// same belief while the server still works on it.
func TestBatchBehindItsOwnPredecessorIsFenced(t *testing.T) {
	t.Parallel()
	for name, committed := range map[string]bool{"committed": true, "rolled back": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOwner(t)
			first := o.begin(t, whole(0), 10)
			pid := first.conn.Conn().PgConn().PID()
			second := async(func() error {
				b, err := o.BeginBatch(context.Background(), o.pool, o.fence, whole(0), 20, BatchSettings{})
				if err != nil {
					return err
				}
				if _, err := b.Tx().Exec(context.Background(), `CREATE TABLE handled ()`); err != nil {
					return err
				}
				return b.Commit(context.Background(), 20)
			})
			awaitBlockedBy(t, o.pool, pid)
			if committed {
				require.NoError(t, first.Commit(t.Context(), 10))
				require.ErrorIs(t, await(t, second, "the second batch"), ErrMoved)
				assert.Equal(t, whole(10), o.pieces(t))
				assert.True(t, value[bool](t, o.pool, `SELECT to_regclass('handled') IS NULL`), "its events were handled again")
				return
			}
			first.Rollback(t.Context())
			require.NoError(t, await(t, second, "the second batch"))
			assert.Equal(t, whole(20), o.pieces(t))
		})
	}
}

func TestFencedBatchLeavesACleanConnection(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	o.advance(t, whole(0), 10)
	one := single(t, o.pool, nil)
	pid := value[int](t, one, `SELECT pg_backend_pid()`)
	err := o.attempt(t.Context(), one, o.fence, whole(9), 20)
	require.ErrorIs(t, err, ErrMoved)
	require.ErrorContains(t, err, o.fence.String())
	assert.Zero(t, one.Stat().AcquiredConns())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := one.Acquire(ctx)
	require.NoError(t, err, "the connection was not returned")
	defer conn.Release()
	assert.Equal(t, byte('I'), conn.Conn().PgConn().TxStatus())
	assert.Equal(t, pid, value[int](t, conn, `SELECT pg_backend_pid()`), "the connection was thrown away")
}

func TestBatchTouchesOnlyThePiecesBelowIt(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	pieces := o.cut(t, 3, 7, 15, 20)
	b := o.begin(t, pieces, 15)
	lock := func(from int) string {
		_, err := o.pool.Exec(t.Context(), `SELECT FROM orchestrator_checkpoints WHERE slot_from = $1 FOR UPDATE NOWAIT`, from)
		return sqlState(err)
	}
	const lockNotAvailable = "55P03"
	assert.Equal(t, lockNotAvailable, lock(0))
	assert.Equal(t, lockNotAvailable, lock(1000))
	assert.Empty(t, lock(2000), "a piece at the batch's end is not locked")
	assert.Empty(t, lock(3000), "a piece above it is not locked")
	require.NoError(t, b.Commit(t.Context(), 15))
	assert.Equal(t, piecesAt(pieces, 15, 15, 15, 20), o.pieces(t))

	o.advance(t, o.pieces(t), 15)
	assert.Equal(t, piecesAt(pieces, 15, 15, 15, 20), o.pieces(t), "a batch without pieces changes nothing")
}

func TestCommitCutsTheBatch(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		handled int64
		want    []int64
	}{
		"between the pieces": {9, []int64{9, 9, 12, 20}},
		"at a piece":         {12, []int64{12, 12, 12, 20}},
		"below all":          {1, []int64{3, 7, 12, 20}},
		"at the end":         {15, []int64{15, 15, 15, 20}},
	}
	o := newOwner(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pieces := o.cut(t, 3, 7, 12, 20)
			require.NoError(t, o.begin(t, pieces, 15).Commit(t.Context(), tt.handled))
			assert.Equal(t, piecesAt(pieces, tt.want...), o.pieces(t))
		})
	}
}

func TestBatchSettingsAreLocalToItsTransaction(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	const show = `SELECT ARRAY[current_setting('application_name'), current_setting('synchronous_commit'),
		current_setting('idle_in_transaction_session_timeout')]`
	one := single(t, o.pool, map[string]string{
		"application_name": "the application", "synchronous_commit": "local", "idle_in_transaction_session_timeout": "77s",
	})
	application := []string{"the application", "local", "77s"}
	require.Equal(t, application, value[[]string](t, one, show))
	for name, tt := range map[string]struct {
		settings BatchSettings
		want     []string
	}{
		"fast":    {BatchSettings{IdleTimeout: 1500 * time.Millisecond}, []string{ApplicationName(o.worker), "off", "1500ms"}},
		"durable": {BatchSettings{IdleTimeout: time.Minute, SynchronousCommit: true}, []string{ApplicationName(o.worker), "local", "1min"}},
	} {
		for _, end := range []string{"commit", "rollback"} {
			t.Run(name+" "+end, func(t *testing.T) {
				b, err := o.BeginBatch(t.Context(), one, o.fence, whole(0), 10, tt.settings)
				require.NoError(t, err)
				assert.Equal(t, tt.want, value[[]string](t, b.Tx(), show))
				if end == "commit" {
					require.NoError(t, b.Commit(t.Context(), 0))
				} else {
					b.Rollback(t.Context())
				}
				assert.Equal(t, application, value[[]string](t, one, show))
			})
		}
	}
}

func TestBatchWhoseBackendIsEndedCommitsNothing(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	exec(t, o.pool, `CREATE TABLE read_model (n int)`)
	b := o.begin(t, whole(0), 10)
	exec(t, b.Tx(), `INSERT INTO read_model VALUES (1)`)
	pid := b.conn.Conn().PgConn().PID()
	exec(t, o.pool, `SELECT pg_terminate_backend($1)`, pid)
	eventually(t, o.pool, "the backend did not end", `SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = $1)`, pid)
	_, err := b.Tx().Exec(t.Context(), `INSERT INTO read_model VALUES (2)`)
	require.Error(t, err)
	assert.False(t, b.Alive())
	require.Error(t, b.Commit(t.Context(), 10))
	assert.Equal(t, whole(0), o.pieces(t))
	assert.Zero(t, value[int](t, o.pool, `SELECT count(*) FROM read_model`))
	require.Eventually(t, func() bool { return o.pool.Stat().AcquiredConns() == 0 }, patience, time.Millisecond, "the connection was not returned")
}

func TestIdleTimeoutEndsAFrozenWorkersBatch(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	b, err := o.BeginBatch(t.Context(), o.pool, o.fence, whole(0), 10, BatchSettings{IdleTimeout: 50 * time.Millisecond})
	require.NoError(t, err)
	defer b.Rollback(t.Context())
	eventually(t, o.pool, "the backend was not ended", `SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = $1)`,
		b.conn.Conn().PgConn().PID())
	require.Error(t, b.Commit(t.Context(), 10))
	assert.Equal(t, whole(0), o.pieces(t))
	o.advance(t, whole(0), 10)
}

func TestHandlersCannotEndTheBatch(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	b := o.begin(t, whole(0), 10)
	require.ErrorIs(t, b.Tx().Commit(t.Context()), projection.ErrBatchTransaction)
	require.ErrorIs(t, b.Tx().Rollback(t.Context()), projection.ErrBatchTransaction)
	assert.Equal(t, byte('T'), b.conn.Conn().PgConn().TxStatus())
	require.NoError(t, b.Commit(t.Context(), 10))
	assert.Equal(t, whole(10), o.pieces(t))
}

func TestCommitOfAnAbortedTransactionIsAnError(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	for _, handled := range []int64{10, 5} {
		b := o.begin(t, whole(0), 10)
		_, err := b.Tx().Exec(t.Context(), `SELECT 1/0`)
		require.Error(t, err, "the handler ignores it")
		require.Error(t, b.Commit(t.Context(), handled))
		assert.Equal(t, whole(0), o.pieces(t))
	}
	none := o.begin(t, whole(0), 0)
	_, err := none.Tx().Exec(t.Context(), `SELECT 1/0`)
	require.Error(t, err)
	require.Error(t, none.Commit(t.Context(), 0), "with no checkpoint to advance")
	assert.Zero(t, o.pool.Stat().AcquiredConns())
}

func TestCommitThatTheServerRefusesChangesNothing(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	exec(t, o.pool, `CREATE TABLE parent (id int PRIMARY KEY);
		CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)`)
	b := o.begin(t, whole(0), 10)
	exec(t, b.Tx(), `INSERT INTO child VALUES (1)`)
	err := b.Commit(t.Context(), 10)
	assert.Equal(t, "23503", sqlState(err))
	assert.Equal(t, whole(0), o.pieces(t))
}

func TestRollbackWorksAfterTheContextHasEnded(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	one := single(t, o.pool, nil)
	pid := value[int](t, one, `SELECT pg_backend_pid()`)
	ctx, cancel := context.WithCancel(t.Context())
	b, err := o.BeginBatch(ctx, one, o.fence, whole(0), 10, BatchSettings{})
	require.NoError(t, err)
	cancel()
	b.Rollback(ctx)
	assert.Equal(t, pid, value[int](t, one, `SELECT pg_backend_pid()`))
	o.advance(t, whole(0), 10)
}

func TestBeginBatchGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	first := o.begin(t, whole(0), 10)
	ctx, cancel := context.WithCancel(t.Context())
	second := async(func() error { return o.attempt(ctx, o.pool, o.fence, whole(0), 10) })
	awaitBlockedBy(t, o.pool, first.conn.Conn().PgConn().PID())
	cancel()
	require.ErrorIs(t, await(t, second, "the second batch"), context.Canceled)
	require.NoError(t, first.Commit(t.Context(), 10))
	o.advance(t, whole(10), 20)
	require.Eventually(t, func() bool { return o.pool.Stat().AcquiredConns() == 0 }, patience, time.Millisecond, "the connection was not returned")
}

func TestBeginBatchNamesThePoolsLimit(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	one := single(t, o.pool, nil)
	conn, err := one.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err = o.attempt(ctx, one, o.fence, whole(0), 10)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "the pool's limit is 1")
}
