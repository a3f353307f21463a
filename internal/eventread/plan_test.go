package eventread

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// node is what the test looks at in a plan.
type node struct {
	Type  string  `json:"Node Type"`
	Index string  `json:"Index Name"`
	Cond  string  `json:"Index Cond"`
	Role  string  `json:"Parent Relationship"`
	Cost  float64 `json:"Total Cost"`
	Plans []node  `json:"Plans"`
}

// A filtered read must walk the primary key between both bounds and stop at the
// limit. A plan with a sort would read the whole backlog for every page.
func TestEveryFilteredReadWalksThePrimaryKey(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it prepares a statement and looks at its plan")
	const rows = 20_000
	for _, analysed := range []bool{true, false} {
		s, pool := newStore(t)
		fill := `
			ALTER TABLE events SET (autovacuum_enabled = false);
			INSERT INTO events (bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type, payload)
			SELECT CASE WHEN i %% 1000 = 0 THEN 'rare' ELSE 'sales' END, CASE WHEN i %% 5000 = 1 THEN 'Rare' ELSE 'Order' END,
				'order-' || i / 10, i %% 10 + 1, gen_random_uuid(), 'OrderPlaced', convert_to(repeat('x', 100), 'UTF8')
			FROM generate_series(1, %d) AS i;`
		if analysed {
			fill += "ANALYZE events;"
		}
		_, err := pool.Exec(t.Context(), fmt.Sprintf(fill, rows))
		require.NoError(t, err)
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			t.Run(fmt.Sprintf("analysed %v, %s", analysed, mode), func(t *testing.T) {
				t.Parallel()
				conn := planning(t, pool, mode)
				limits := []int{100}
				if analysed {
					limits = append(limits, 1000)
				}
				for name, q := range plannedQueries(rows, limits) {
					sql, args, _ := s.statements.read(q)
					leaf := leafOf(t, explain(t, conn, sql, args), name)
					assert.Equal(t, "Index Scan", leaf.Type, name)
					assert.Equal(t, "events_pkey", leaf.Index, name)
					assert.Contains(t, leaf.Cond, "global_position > ", name)
					assert.Contains(t, leaf.Cond, "global_position <= ", name)
				}
			})
		}
	}
}

// planning is a connection that makes plans in a mode.
func planning(t *testing.T, pool *pgxpool.Pool, mode string) *pgx.Conn {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	t.Cleanup(conn.Release)
	_, err = conn.Exec(t.Context(), "SET plan_cache_mode = "+mode)
	require.NoError(t, err)
	return conn.Conn()
}

// plannedQueries are filtered reads of every shape, from everywhere.
func plannedQueries(rows int64, limits []int) map[string]Query {
	all := slot.All()
	half := slot.Range{From: 0, To: slot.Count / 2}
	other := slot.Range{From: slot.Count / 2, To: slot.Count}
	pieces := func(low int64) map[string][]slot.Piece {
		return map[string][]slot.Piece{
			"all slots":  {{Range: all, Position: low}},
			"one piece":  {{Range: half, Position: low}},
			"two pieces": {{Range: half, Position: low}, {Range: other, Position: low + 50}},
			"some slots": {{Range: slot.Range{From: 9, To: slot.Count / 2}, Position: low}, {Range: slot.Range{From: slot.Count / 2, To: slot.Count - 9}, Position: low + 50}},
		}
	}
	scopes := map[string]Query{
		"no scope":        {},
		"a common type":   {AggregateTypes: []string{"Order"}},
		"a rare type":     {AggregateTypes: []string{"Rare"}},
		"an unknown type": {AggregateTypes: []string{"None"}},
		"a rare context":  {BoundedContexts: []string{"rare"}},
		"both rare":       {AggregateTypes: []string{"Rare", "None"}, BoundedContexts: []string{"rare"}},
	}
	queries := make(map[string]Query)
	for where, low := range map[string]int64{"from the start": 0, "from the middle": rows / 2} {
		for which, p := range pieces(low) {
			for what, q := range scopes {
				for _, limit := range limits {
					q.Pieces, q.UpTo, q.Limit = p, rows, limit
					queries[fmt.Sprintf("%s, %s, %s, limit %d", where, which, what, limit)] = q
				}
			}
		}
	}
	return queries
}

// explain is the plan of a prepared statement.
func explain(t *testing.T, conn *pgx.Conn, sql string, args []any) node {
	t.Helper()
	_, err := conn.Exec(t.Context(), "PREPARE planned AS "+sql)
	require.NoError(t, err)
	defer func() {
		_, err := conn.Exec(t.Context(), "DEALLOCATE planned")
		require.NoError(t, err)
	}()
	execute := "EXPLAIN (FORMAT json) EXECUTE planned("
	for i := range args {
		if i > 0 {
			execute += ", "
		}
		execute += fmt.Sprintf("$%d", i+1)
	}
	var document []byte
	require.NoError(t, conn.QueryRow(t.Context(), execute+")", append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...).Scan(&document))
	var plans []struct{ Plan node }
	require.NoError(t, json.Unmarshal(document, &plans))
	return plans[0].Plan
}

// leafOf is the plan's only leaf. Every node above it must have one child, and be the limit or the guard, whose own plan is
// evaluated once.
func leafOf(t *testing.T, plan node, name string) node {
	t.Helper()
	for len(plan.Plans) > 0 {
		children := slices.DeleteFunc(slices.Clone(plan.Plans), func(n node) bool { return n.Role == "InitPlan" && n.Type == "Result" })
		require.Len(t, children, 1, name)
		require.Contains(t, []string{"Limit", "Result"}, plan.Type, name)
		plan = children[0]
	}
	return plan
}
