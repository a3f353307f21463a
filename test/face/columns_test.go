package face

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// PostgreSQL compares names of the type char(n) without the spaces at their ends. So do workers.
func TestNamesMayBeFilledUpWithSpaces(t *testing.T) {
	w := newWorld(t)
	for _, column := range []string{"bounded_context", "aggregate_type", "aggregate_id", "event_type"} {
		w.exec("ALTER TABLE events ALTER " + column + " TYPE char(20)")
	}
	r := start(t, w.orchestrator("set"),
		scoped{recorder{name: "users"}, []string{"User"}, nil}, scoped{recorder{name: "orders"}, []string{"Order"}, []string{"Shop"}}, recorder{name: "all"})
	w.append("ada", 2)
	w.appendTo("Shop", "Order", "1", 1)
	w.awaitHandled("all", 3)
	w.awaitHandled("users", 2)
	w.awaitHandled("orders", 1)
	require.Equal(t, "3 3", w.value("SELECT max(length(aggregate_id)), count(DISTINCT position) FROM handled"))
	require.NoError(t, r.stop())
}
