package face

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// appendMany stores n events at once: one in a hundred is a Refund, fewer are a Return, the rest are Orders.
func (w *world) appendMany(n int) {
	w.t.Helper()
	w.exec(`INSERT INTO events (bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type, payload)
		SELECT 'Sales', CASE WHEN i % 100 = 0 THEN 'Refund' WHEN i % 300 = 1 THEN 'Return' ELSE 'Order' END,
			'a-' || i % 100, (SELECT coalesce(max(global_position), 0) FROM events) + i, gen_random_uuid(), 'Something', ''
		FROM generate_series(1, $1::bigint) AS i`, n)
}

// scopedProjections are projections of which one, or all together, want few of the events of appendMany, with the types of each.
var scopedProjections = map[string][]string{"refunds": {"Refund"}, "both": {"Return", "Refund", "Nothing"}, "orders": {"Order"}}

// awaitAllInScope waits until the checkpoints have reached the last event, and requires that the projections have handled what they want and no more.
// It does not use the index itself.
func (w *world) awaitAllInScope(projections ...string) {
	w.t.Helper()
	for _, name := range projections {
		w.await(w.lastPosition(), "SELECT min(position) FROM orchestrator_checkpoints WHERE projection = $1", name)
		assert.Equal(w.t, "0", w.value(`SELECT count(*) FROM (SELECT position FROM handled WHERE projection = $1) AS h
			FULL JOIN (SELECT global_position FROM events WHERE aggregate_type || '' = ANY ($2::text[])) AS e ON e.global_position = h.position
			WHERE h.position IS NULL OR e.global_position IS NULL`, name, scopedProjections[name]), name)
	}
}

// indexScans is how often an optional index was used.
func (w *world) indexScans(name string) string {
	w.t.Helper()
	return w.value("SELECT coalesce(sum(idx_scan), 0)::bigint FROM pg_stat_user_indexes WHERE starts_with(indexrelname, $1)", "pupsourcing_"+name+"_")
}

// The scope index comes and goes while workers run: each projection gets exactly its events, in order, and the index is used.
func TestScopeIndexComesAndGoes(t *testing.T) {
	for name, projections := range map[string][]string{"one type": {"refunds"}, "several": {"refunds", "both"}, "nearly all": {"refunds", "orders"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			few, many := 4000, 10_000
			if name == "nearly all" { // each of which is handled
				few, many = 500, 1500
			}
			w := newWorld(t)
			w.appendMany(few)
			var run []projection.Projection
			for _, p := range projections {
				run = append(run, scoped{recorder: recorder{name: p}, types: scopedProjections[p]})
			}
			r := start(t, w.orchestrator("set"), run...)
			w.awaitAllInScope(projections...)
			assert.Equal(t, "0", w.indexScans("scope"))

			require.NoError(t, w.store.InstallScopeIndex(t.Context(), w.application()))
			eventually(t, func() bool { // the worker finds out within seconds
				w.appendMany(few)
				w.awaitAllInScope(projections...)
				return name == "nearly all" || w.indexScans("scope") != "0"
			}, func() string { return "the scope index was never used" })

			w.appendMany(many)
			require.NoError(t, w.store.RemoveScopeIndex(t.Context(), w.application()))
			w.appendMany(many)
			w.awaitAllInScope(projections...)

			require.NoError(t, w.store.InstallScopeIndex(t.Context(), w.application()))
			second := start(t, w.orchestrator("set"), run...)
			w.awaitRunning("set", 2)
			w.appendMany(many)
			w.awaitAllInScope(projections...)
			require.NoError(t, r.stop())
			w.appendMany(few)
			w.awaitAllInScope(projections...)
			require.NoError(t, second.stop())
			w.requireInOrder()
		})
	}
}

// requireInOrder requires that each aggregate's events were handled in order, and none failed.
func (w *world) requireInOrder() {
	w.t.Helper()
	assert.Equal(w.t, "0", w.value(`SELECT count(*) FROM (SELECT aggregate_version, lag(aggregate_version) OVER (PARTITION BY projection, aggregate_id ORDER BY nth) AS before
		FROM handled) AS h WHERE aggregate_version < before`), "handled out of an aggregate's order")
	assert.Equal(w.t, "0", w.value("SELECT count(*) FROM orchestrator_dead_letters"))
}

// The slot index comes and goes while four workers run, and then one of them leaves: each event is handled once, in order, and the index is used.
func TestSlotIndexComesAndGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const many = 6000
	w.appendMany(many)
	refunds := scoped{recorder: recorder{name: "refunds"}, types: scopedProjections["refunds"]}
	var workers []*running
	for range 4 {
		workers = append(workers, start(t, w.orchestrator("set"), refunds))
	}
	w.awaitRunning("set", 4)
	w.awaitAllInScope("refunds")
	require.NoError(t, w.store.InstallSlotIndex(t.Context(), w.application()))
	eventually(t, func() bool { // the workers find out within seconds
		w.appendMany(many)
		w.awaitAllInScope("refunds")
		_, hostile := hostileMode() // which has the planner avoid indexes
		return hostile || w.indexScans("slot") != "0"
	}, func() string { return "the slot index was never used" })

	w.appendMany(many)
	require.NoError(t, w.store.RemoveSlotIndex(t.Context(), w.application()))
	w.appendMany(many)
	w.awaitAllInScope("refunds")
	require.NoError(t, w.store.InstallSlotIndex(t.Context(), w.application()))
	w.appendMany(many)
	require.NoError(t, workers[0].stop())
	w.appendMany(many)
	w.awaitAllInScope("refunds")
	for _, r := range workers[1:] {
		require.NoError(t, r.stop())
	}
	w.requireInOrder()
}
