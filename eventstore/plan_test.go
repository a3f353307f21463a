package eventstore

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// planOf is the plan of a prepared statement, as text.
func planOf(t *testing.T, conn *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	_, err := conn.Exec(t.Context(), "PREPARE planned AS "+sql)
	require.NoError(t, err)
	marks := make([]string, len(args))
	for i := range args {
		marks[i] = fmt.Sprintf("$%d", i+1)
	}
	execute := "EXPLAIN (COSTS off) EXECUTE planned(" + strings.Join(marks, ", ") + ")"
	rows, err := conn.Query(t.Context(), execute, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "DEALLOCATE planned")
	require.NoError(t, err)
	return strings.Join(lines, "\n")
}

func TestReadsUseTheirIndexes(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it prepares statements by SQL")
	s, pool := newStore(t)
	_, err := pool.Exec(t.Context(), `
		INSERT INTO events (bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type, payload)
		SELECT 'sales', 'Order', 'order-' || i / 10, i % 10 + 1, gen_random_uuid(), 'OrderPlaced', '' FROM generate_series(1, 10000) AS i;
		ANALYZE events`)
	require.NoError(t, err)
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			conn, err := pool.Acquire(t.Context())
			require.NoError(t, err)
			defer conn.Release()
			_, err = conn.Exec(t.Context(), "SET plan_cache_mode = "+mode)
			require.NoError(t, err)
			stream := planOf(t, conn.Conn(), s.sql.stream, "sales", "Order", "order-7", int64(0), int64(math.MaxInt64))
			assert.Regexp(t, `^Index Scan using events_bounded_context\S* on events\n\s+Index Cond: [^\n]*$`, stream)
			all := planOf(t, conn.Conn(), s.sql.readAll, int64(0), int64(100))
			assert.Regexp(t, `^Limit\n\s+->\s+Index Scan using events_pkey on events\n\s+Index Cond: [^\n]*$`, all)
		})
	}
}
