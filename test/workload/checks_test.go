package workload

import (
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// handled is a database in which some events were written and then handled by one worker, "w", in generation 1, as they should.
func handled(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, _ := migrated(t, twoProjections)
	writers := StartWriters(t.Context(), pool, silentStore(), WriterOptions{Aggregates: 6, RollbackShare: 0.2, MaxHold: 1, MaxPause: 1, Transactions: 15})
	require.NoError(t, writers.Wait().Err)
	worker := uuid.New()
	execute(t, pool, `INSERT INTO orchestrator_workers (worker_id, replica_set, name, state, projections, hostname, process_id, library_version)
		VALUES ($1, 'r', 'w', 'running', '{all,orders}', 'h', 1, 'v')`, worker)
	execute(t, pool, `INSERT INTO orchestrator_generations (replica_set, number, state, cause, reason, prepared_by, members, activated_at)
		VALUES ('r', 1, 'active', 'first', 'w joined', $1, array[$1::uuid], now())`, worker)
	for _, spec := range twoProjections {
		execute(t, pool, `INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, replica_set, events_table, generation,
			partition_key, total_partitions, worker_id) VALUES ($1, 0, 65536, 'r', 'events', 1, 0, 1, $2)`, spec.Name, worker)
		handleAll(t, pool, NewRecorder(spec, "w"))
	}
	return pool
}

// handleAll has the projection handle all events that it wants.
func handleAll(t *testing.T, pool *pgxpool.Pool, p projection.Projection) {
	t.Helper()
	events, err := silentStore().ReadEvents(t.Context(), pool, 0, 10_000)
	require.NoError(t, err)
	described, err := handling.Describe[projection.Wrapper, projection.ErrorPolicied](p)
	require.NoError(t, err)
	scope := described.Scope.AggregateTypes
	wanted := events[:0]
	for _, e := range events {
		if len(scope) == 0 || e.AggregateType == scope[0] {
			wanted = append(wanted, e)
		}
	}
	require.NotEmpty(t, wanted)
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := handling.Handle(t.Context(), p, tx, handling.List(wanted), nil)
		return err
	}))
}

func TestAllChecksHoldWhenEverythingWasHandledOnceAndInOrder(t *testing.T) {
	t.Parallel()
	pool := handled(t)
	require.NoError(t, Analyze(t.Context(), pool))
	for _, c := range Checks() {
		result, err := RunCheck(t.Context(), pool, c)
		require.NoError(t, err)
		assert.True(t, result.OK(), "%s: %d", c.Title, result.Count)
	}
	var generations, slots int64
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT min(generation), count(DISTINCT slot) FROM workload_log").Scan(&generations, &slots))
	assert.Equal(t, int64(1), generations, "the log must name the checkpoints' generation")
	assert.Greater(t, slots, int64(5))
}

func TestEachCheckFindsWhatItIsFor(t *testing.T) {
	t.Parallel()
	const anAggregate = `(SELECT aggregate_id FROM workload_log WHERE projection = 'all' GROUP BY aggregate_id ORDER BY count(*) DESC LIMIT 1)`
	for title, damage := range map[string]string{
		"handled": "DELETE FROM workload_log",
		"missing": "DELETE FROM workload_log WHERE seq = (SELECT max(seq) FROM workload_log)",
		"twice": `INSERT INTO workload_log (projection, global_position, bounded_context, aggregate_type, aggregate_id, aggregate_version,
			slot, generation, worker, process_id)
			SELECT projection, global_position, bounded_context, aggregate_type, aggregate_id, aggregate_version,
			slot, generation, worker, process_id FROM workload_log ORDER BY seq DESC LIMIT 1`,
		"phantom": "UPDATE workload_log SET global_position = 1000000 WHERE seq = 1",
		"order": `UPDATE workload_log SET seq = CASE aggregate_version WHEN 1 THEN -1 ELSE -2 END
			WHERE projection = 'all' AND aggregate_version IN (1, 2) AND aggregate_id = ` + anAggregate,
		"read model": "UPDATE workload_read_model SET gaps = 1 WHERE ctid = (SELECT min(ctid) FROM workload_read_model)",
		"sharing": `UPDATE workload_log SET worker = 'x' WHERE seq = (
			SELECT max(seq) FROM workload_log WHERE projection = 'all' AND aggregate_id = ` + anAggregate + `)`,
		"going back": `UPDATE workload_log SET generation = 2 WHERE seq = (
			SELECT min(seq) FROM workload_log WHERE projection = 'all' AND aggregate_id = ` + anAggregate + `)`,
		"strangers": "UPDATE orchestrator_generations SET members = '{}'",
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			pool := handled(t)
			require.True(t, count(t, pool, title).OK())
			execute(t, pool, damage)
			assert.False(t, count(t, pool, title).OK())
		})
	}
}

func TestAnEventOutOfScopeIsAPhantom(t *testing.T) {
	t.Parallel()
	pool := handled(t)
	execute(t, pool, "UPDATE workload_scopes SET aggregate_types = '{account}' WHERE projection = 'orders'")
	assert.False(t, count(t, pool, "phantom").OK())
}

func TestTheReadModelCountsAnEventThatDidNotFollowTheOneBefore(t *testing.T) {
	t.Parallel()
	pool := handled(t)
	handleAll(t, pool, NewRecorder(twoProjections[0], "w"))
	var gaps, aggregates int64
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT sum(gaps), count(*) FROM workload_read_model WHERE projection = 'all'`).Scan(&gaps, &aggregates))
	assert.Equal(t, aggregates, gaps, "each aggregate began again from version 1, once")
	assert.False(t, count(t, pool, "twice").OK())
}

func TestTheLogsSlotIsTheLibrarys(t *testing.T) {
	t.Parallel()
	pool := handled(t)
	var out int64
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM workload_log WHERE slot <> hashtextextended(aggregate_id, 0) & $1`, slot.Count-1).Scan(&out))
	assert.Zero(t, out)
}
