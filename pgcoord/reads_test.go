package pgcoord

import (
	"context"
	"iter"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// everyMode is the modes in which pgx sends statements.
var everyMode = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

// connected is a connection of the owner's database in a mode.
func connected(t *testing.T, o owner, mode pgx.QueryExecMode, tracer pgx.QueryTracer) *pgx.Conn {
	t.Helper()
	config := o.pool.Config().ConnConfig.Copy()
	config.DefaultQueryExecMode, config.Tracer = mode, tracer
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func (o owner) reads(t *testing.T, db Conn) Assigned {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	a, err := o.ReadAssignment(ctx, db, o.worker, o.fence.Generation, []string{"orders"})
	require.NoError(t, err)
	return a
}

// counted counts the messages of a connection.
type counted struct{ messages int }

func (c *counted) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.messages++
	return ctx
}
func (*counted) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *counted) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.messages++
	return ctx
}
func (*counted) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (*counted) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// A session reads the same in three messages as a pool does in more, and in one as soon as its statements are prepared.
func TestASessionReadsItsAssignmentInFewMessages(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	b := o.begin(t, whole(0), 7)
	b.Park(failed(t, o, slot.All(), 7, "no stock"), 1)
	require.NoError(t, b.Commit(t.Context(), 7))
	o.fails(t, failed(t, o, slot.All(), 8, "no stock"))
	exec(t, o.pool, `INSERT INTO orchestrator_successions (projection, replaced, cut_over_at) VALUES ('orders', 'older', now())`)
	want := o.reads(t, o.pool)
	require.NoError(t, want.UnsettledErr)
	assert.Equal(t, []any{1, 1, 1, map[string]int64{"orders": 8}},
		[]any{len(want.Checkpoints), len(want.Parked), len(want.Successions), want.Unsettled})
	for _, mode := range everyMode {
		count := &counted{}
		conn := connected(t, o, mode, count)
		assert.Equal(t, want, o.reads(t, conn), mode.String())
		assert.Equal(t, 3, count.messages, mode.String())
		assert.Equal(t, want, o.reads(t, conn), mode.String())
		if mode == pgx.QueryExecModeCacheStatement {
			assert.Equal(t, 4, count.messages)
		} else {
			assert.Equal(t, 6, count.messages, mode.String())
		}
		assert.Equal(t, byte('I'), conn.PgConn().TxStatus(), mode.String())
		assert.Equal(t, "0", value[string](t, conn, `SHOW lock_timeout`), "the aid's patience is its own")
	}
}

// The record of failures is an aid: who cannot read it reads the rest.
func TestAnAssignmentIsReadWithoutTheRecordOfFailures(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	conns := map[pgx.QueryExecMode][]*pgx.Conn{}
	for _, mode := range everyMode {
		before := connected(t, o, mode, nil)
		require.NoError(t, o.reads(t, before).UnsettledErr)
		conns[mode] = []*pgx.Conn{before, connected(t, o, mode, nil)}
	}
	locked, err := o.pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = locked.Rollback(context.WithoutCancel(t.Context())) })
	exec(t, locked, `LOCK TABLE orchestrator_dead_letters`)
	for mode, conn := range inEach(conns) {
		a := o.reads(t, conn)
		assert.Len(t, a.Checkpoints, 1)
		require.ErrorContains(t, a.UnsettledErr, "reading the failed events of replica set", mode.String())
		require.ErrorContains(t, a.UnsettledErr, "55P03", mode.String())
		assert.Equal(t, byte('I'), conn.PgConn().TxStatus(), mode.String())
	}
}

// After an error pgx prepares the statements of the message again, which must not wait for a lock on the record of failures.
func TestAnAidIsNotPreparedAgainBehindALock(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	conn := connected(t, o, pgx.QueryExecModeCacheStatement, nil)
	for range 2 {
		require.NoError(t, o.reads(t, conn).UnsettledErr)
	}
	exec(t, o.pool, `ALTER TABLE orchestrator_successions RENAME TO elsewhere`)
	_, err := o.ReadAssignment(t.Context(), conn, o.worker, o.fence.Generation, []string{"orders"})
	require.ErrorContains(t, err, "42P01")
	exec(t, o.pool, `ALTER TABLE elsewhere RENAME TO orchestrator_successions`)
	locked, err := o.pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = locked.Rollback(context.WithoutCancel(t.Context())) })
	exec(t, locked, `LOCK TABLE orchestrator_dead_letters`)
	require.ErrorContains(t, o.reads(t, conn).UnsettledErr, "55P03")
}

// inEach are the connections with their modes.
func inEach(conns map[pgx.QueryExecMode][]*pgx.Conn) iter.Seq2[pgx.QueryExecMode, *pgx.Conn] {
	return func(yield func(pgx.QueryExecMode, *pgx.Conn) bool) {
		for mode, all := range conns {
			for _, conn := range all {
				if !yield(mode, conn) {
					return
				}
			}
		}
	}
}

// GlanceAhead reads the same as a glance and an assignment one after the other. A generation that is not active has no assignment.
func TestWhatIsReadAhead(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	prepare(t, o.Store, o.pool, o.fence.Generation)
	ahead := func(db Conn) (replicaset.View, *Assigned) {
		v, a, err := o.GlanceAhead(t.Context(), db, o.worker, o.fence.Generation+1, []string{"orders"})
		require.NoError(t, err)
		require.Equal(t, o.fence.Generation+1, v.Generation.Number)
		require.True(t, v.Glance)
		require.Len(t, v.Workers, 1)
		return v, a
	}
	for _, mode := range everyMode {
		v, a := ahead(connected(t, o, mode, nil))
		assert.Equal(t, replicaset.Preparing, v.Generation.State)
		assert.Empty(t, a.Checkpoints)
	}
	setState(t, o.Store, o.pool, o.worker, replicaset.Ready, o.fence.Generation+1)
	activated, err := isActive(o.Activate(t.Context(), o.pool, replicaset.Activation{Number: o.fence.Generation + 1, By: o.worker}, nil))
	require.NoError(t, err)
	require.True(t, activated)
	for _, mode := range everyMode {
		conn := connected(t, o, mode, nil)
		v, a := ahead(conn)
		assert.Equal(t, replicaset.Active, v.Generation.State)
		want, err := o.ReadAssignment(t.Context(), conn, o.worker, o.fence.Generation+1, []string{"orders"})
		require.NoError(t, err)
		require.Len(t, want.Checkpoints, 1)
		assert.Equal(t, want, *a, mode.String())
	}
	_, a := ahead(o.pool)
	assert.Nil(t, a, "a pool has no message for both")
}

// GlanceAhead returns the view though the assignment cannot be read.
func TestAGlanceDoesWithoutWhatIsReadAhead(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	exec(t, o.pool, `ALTER TABLE orchestrator_successions RENAME TO elsewhere`)
	for _, mode := range everyMode {
		v, a, err := o.GlanceAhead(t.Context(), connected(t, o, mode, nil), o.worker, o.fence.Generation, []string{"orders"})
		require.NoError(t, err, mode.String())
		assert.Nil(t, a)
		assert.Len(t, v.Workers, 1)
	}
}

// Each error says what was attempted.
func TestAnAssignmentThatCannotBeRead(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	exec(t, o.pool, `ALTER TABLE orchestrator_parked_aggregates RENAME TO elsewhere`)
	for _, mode := range everyMode {
		for _, db := range []Conn{o.pool, connected(t, o, mode, nil)} {
			_, err := o.ReadAssignment(t.Context(), db, o.worker, o.fence.Generation, []string{"orders"})
			require.ErrorContains(t, err, "42P01", mode.String())
			require.ErrorContains(t, err, "reading", mode.String())
		}
	}
}

// A change may come between any two reads. What was read of a revision is at least as new as the revision.
func TestWhatIsReadIsAsNewAsTheRevisionThatFencesIt(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	conn := connected(t, o, pgx.QueryExecModeCacheStatement, nil)
	changing, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- o.keepParking(changing) }()
	for changing.Err() == nil {
		a := o.reads(t, conn)
		require.Len(t, a.Checkpoints, 1)
		require.GreaterOrEqual(t, int64(len(a.Parked)), a.Checkpoints[0].Revision)
	}
	require.NoError(t, <-done)
}

// keepParking parks an aggregate more and raises the revision by one, again and again.
func (o owner) keepParking(ctx context.Context) error {
	for ctx.Err() == nil {
		err := pgx.BeginFunc(context.WithoutCancel(ctx), o.pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(context.WithoutCancel(ctx), `
				WITH raised AS (UPDATE orchestrator_checkpoints SET revision = revision + 1 RETURNING revision)
				INSERT INTO orchestrator_parked_aggregates (projection, bounded_context, aggregate_type, aggregate_id, replica_set, global_position, letters)
				SELECT 'orders', 'shop', 'Order', revision::text, 'main', 1, 1 FROM raised`)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
