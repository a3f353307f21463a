package pgcoord

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// The timeouts of a role do not cut a transition short that waits for a batch: each attempt would begin to wait again.
func TestTransitionsDoNotKnowTheRolesTimeouts(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	number := prepare(t, o.Store, o.pool, o.fence.Generation)
	setState(t, o.Store, o.pool, o.worker, replicaset.Ready, number)
	batch := o.begin(t, whole(0), 10)
	config := o.pool.Config()
	config.ConnConfig.RuntimeParams["lock_timeout"] = "50ms"
	config.ConnConfig.RuntimeParams["statement_timeout"] = "100ms"
	config.ConnConfig.RuntimeParams["synchronous_commit"] = "off"
	hostile, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(hostile.Close)
	began := make(chan int, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	activation := async(func() error {
		_, err := o.Activate(ctx, hostile, replicaset.Activation{Number: number}, func(pid int) { began <- pid })
		return err
	})
	pid := await(t, began, "the activation")
	eventually(t, o.pool, "the activation does not wait for longer than the timeouts", `SELECT EXISTS (SELECT 1 FROM pg_stat_activity
		WHERE pid = $1 AND clock_timestamp() - query_start > interval '300 ms' AND cardinality(pg_blocking_pids(pid)) > 0)`, pid)
	require.NoError(t, batch.Commit(t.Context(), 10))
	require.NoError(t, await(t, activation, "the end of the activation"))
}

// The server ends a transition whose caller is frozen, so that its locks do not stay.
func TestTransitionsEndSoonAfterTheirCallersDeadline(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "0", statementTimeout(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	timeout, err := time.ParseDuration(statementTimeout(ctx) + "ms")
	require.NoError(t, err)
	assert.InDelta(t, time.Hour+transitionMargin, timeout, float64(time.Minute))
	over, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Hour))
	defer cancel()
	assert.NotEqual(t, "0", statementTimeout(over), "0 is none")
}

// A generation's number is a fencing token. It does not go back when somebody deletes the generations.
func TestNumbersGoOnWhenGenerationsAreDeleted(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	generation(t, o.Store, o.pool, 1, o.worker)
	exec(t, o.pool, `DELETE FROM orchestrator_generations`)
	number, err := numberOf(o.Prepare(t.Context(), o.pool, change(0)))
	require.NoError(t, err)
	assert.EqualValues(t, 3, number)
}

// Partition numbers of before are a preference. Whatever stands there keeps nobody from being activated.
func TestPartitionKeysThatMakeNoSenseAreIgnored(t *testing.T) {
	t.Parallel()
	for _, keys := range []string{`7`, `[1]`, `"x"`, `null`, `{"x": 1}`, `{"1": "y"}`, `{"1": [-3, 70000]}`} {
		o := newOwner(t)
		exec(t, o.pool, `UPDATE orchestrator_workers SET partition_keys = $1::text::jsonb`, keys)
		exec(t, o.pool, `UPDATE orchestrator_workers SET unpartitioned = '{NULL}', projections = projections || NULL::text`)
		generation(t, o.Store, o.pool, 1, o.worker)
	}
}

// A partition is a worker's as a whole or not at all: the events of a row that somebody has deleted would be handled, and again later.
func TestPiecesThatLeaveSlotsOutAreNobodys(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"deleted first": `DELETE FROM orchestrator_checkpoints WHERE slot_from = 0`,
		"deleted last":  `DELETE FROM orchestrator_checkpoints WHERE slot_from = 2000`,
		"shortened":     `UPDATE orchestrator_checkpoints SET slot_to = 1500 WHERE slot_from = 1000`,
		"moved":         `UPDATE orchestrator_checkpoints SET partition_key = 1, total_partitions = 2 WHERE slot_from = 1000`,
		"given away":    `UPDATE orchestrator_checkpoints SET worker_id = gen_random_uuid() WHERE slot_from = 1000`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOwner(t)
			require.Len(t, o.pieces(t), 1)
			o.cut(t, 5, 6, 7)
			require.Len(t, o.pieces(t), 3)
			exec(t, o.pool, sql)
			assert.Empty(t, o.pieces(t))
		})
	}
}

// Rows that are hidden look as if they were not there.
func TestHiddenRowsOfTheCoordinationTablesAreAnError(t *testing.T) {
	t.Parallel()
	for _, table := range []string{"generations", "workers", "heartbeats", "checkpoints"} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			o := newOwner(t)
			exec(t, o.pool, `ALTER TABLE orchestrator_`+table+` ENABLE ROW LEVEL SECURITY; ALTER TABLE orchestrator_`+table+` FORCE ROW LEVEL SECURITY`)
			role := "hidden_" + o.pool.Config().ConnConfig.Database
			exec(t, o.pool, `CREATE ROLE `+role)
			t.Cleanup(func() {
				_, err := o.pool.Exec(context.Background(), `DROP OWNED BY `+role+`; DROP ROLE `+role)
				assert.NoError(t, err)
			})
			exec(t, o.pool, `GRANT ALL ON ALL TABLES IN SCHEMA public TO `+role)
			conn := dial(t, o.pool)
			exec(t, conn, `SET ROLE `+role)
			ctx := t.Context()
			_, observed := o.Observe(ctx, conn, o.worker, true)
			_, glanced := o.Glance(ctx, conn, o.worker)
			_, assigned := o.ReadAssignment(ctx, conn, o.worker, 1, []string{"orders"})
			_, prepared := o.Prepare(ctx, conn, change(1))
			_, activated := o.Activate(ctx, conn, replicaset.Activation{Number: 1}, nil)
			for name, err := range map[string]error{
				"Observe": observed, "Glance": glanced, "ReadAssignment": assigned, "Prepare": prepared, "Activate": activated,
				"CheckEntered": o.CheckEntered(ctx, conn, []string{"orders"}),
			} {
				assert.True(t, dbguard.HidesRows(err), "%s: %v", name, err)
			}
		})
	}
}
