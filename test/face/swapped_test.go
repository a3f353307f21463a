package face

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// Empty tables get the names of the workers' own while they run. No event is lost, a fencing token is used once, and events
// that come again because checkpoints are gone are announced.
func TestTheWorkersTablesAreReplaced(t *testing.T) {
	pgtest.SkipBehindPooler(t, "a pooler changes nothing here, and this takes a while")
	for _, table := range []string{"checkpoints", "generations", "workers", "horizons", "heartbeats"} {
		t.Run(table, func(t *testing.T) {
			w := newWorld(t)
			w.troubled = true
			w.exec("ALTER TABLE handled DROP CONSTRAINT handled_pkey")
			for range 2 {
				start(t, w.orchestrator("set"), recorder{name: "users"})
			}
			w.awaitRunning("set", 2)
			w.append("ada", 3)
			w.append("grace", 3)
			w.awaitHandled("users", 6)
			number := w.value("SELECT max(number) FROM orchestrator_generations")
			name := "orchestrator_" + table
			w.exec("CREATE TABLE next (LIKE " + name + " INCLUDING ALL); ALTER TABLE " + name + " RENAME TO former; ALTER TABLE next RENAME TO " + name)
			w.append("ada", 3)
			w.append("edsger", 3)
			w.await("12", "SELECT count(DISTINCT position) FROM handled")
			w.awaitRunning("set", 2)
			if table != "checkpoints" {
				require.Equal(t, "12", w.value("SELECT count(*) FROM handled"), "some were handled again")
			} else {
				w.logs.AwaitLine(t, "were deleted")
			}
			require.Equal(t, "true", w.value("SELECT max(number) >= "+number+" FROM orchestrator_generations"))
		})
	}
}
