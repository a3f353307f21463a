package face

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// aids are the tables without which a replica set works, if less well.
var aids = []string{
	"orchestrator_turns", "orchestrator_abandoned_handlers", "orchestrator_dead_letters", "orchestrator_operations", "orchestrator_requests", "orchestrator_drains", "orchestrator_samples", "orchestrator_waits",
}

// Events are handled, and workers join and leave, while nobody can use any of the tables that are only aids.
func TestTablesThatAreOnlyAidsStopNobody(t *testing.T) {
	pgtest.SkipBehindPooler(t, "the roles that connect are its own")
	each := func(w *world, statement string) {
		for _, aid := range aids {
			w.exec(strings.ReplaceAll(statement, "$", aid))
		}
	}
	for way, take := range map[string]func(w *world, role string) (back func()){
		"revoked": func(w *world, role string) func() {
			each(w, "REVOKE ALL ON $ FROM "+role)
			return func() { each(w, "GRANT ALL ON $ TO "+role) }
		},
		"renamed": func(w *world, _ string) func() {
			each(w, "ALTER TABLE $ RENAME TO away_$")
			return func() { each(w, "ALTER TABLE away_$ RENAME TO $") }
		},
		"locked": func(w *world, _ string) func() {
			tx := w.locked(strings.Join(aids, ", "))
			return func() { require.NoError(w.t, tx.Rollback(context.Background())) }
		},
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.troubled = true
			role := w.role("worker", "")
			w.exec("GRANT ALL ON ALL TABLES IN SCHEMA public TO " + role + "; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO " + role)
			w.workers = w.as(role)
			users := recorder{name: "users"}
			start(t, w.orchestrator("set"), users)
			leaver := start(t, w.orchestrator("set"), users)
			w.awaitRunning("set", 2)
			w.append("ada", 3)
			w.awaitHandled("users", 3)
			back := take(w, role)
			w.append("ada", 3)
			w.append("grace", 3)
			w.awaitHandled("users", 9)
			require.NoError(t, leaver.stop())
			w.append("ada", 3)
			w.append("grace", 3)
			w.awaitHandled("users", 15)
			back()
			start(t, w.orchestrator("set"), users)
			w.awaitRunning("set", 2)
			w.append("ada", 3)
			w.awaitHandled("users", 18)
			w.requireOrder("users")
		})
	}
}

// The stored horizon is no aid: its term says whether a horizon still holds. So nothing is handled without it, and the log says what is missing.
func TestNothingIsHandledWithoutTheStoredHorizon(t *testing.T) {
	pgtest.SkipBehindPooler(t, "the roles that connect are its own")
	w := newWorld(t)
	w.troubled = true
	role := w.role("worker", "")
	w.exec("GRANT ALL ON ALL TABLES IN SCHEMA public TO " + role + "; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO " + role)
	w.workers = w.as(role)
	orch := w.orchestrator("set")
	start(t, orch, recorder{name: "users"})
	w.append("ada", 3)
	w.awaitHandled("users", 3)
	w.exec("REVOKE SELECT ON orchestrator_horizons FROM " + role)
	w.append("ada", 3)
	w.logs.AwaitLine(t, "permission denied for table orchestrator_horizons")
	w.logs.AwaitLine(t, "GRANT SELECT ON ")
	w.exec("GRANT SELECT ON orchestrator_horizons TO " + role)
	w.awaitHandled("users", 6)
	w.requireOrder("users")
}
