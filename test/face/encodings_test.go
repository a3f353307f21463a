package face

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// newEncodedWorld is a world in a database with an encoding of its own.
func newEncodedWorld(t *testing.T, encoding string) *world {
	t.Helper()
	server := newEmptyWorld(t)
	name := server.db.Config().ConnConfig.Database + "_encoded"
	server.exec("CREATE DATABASE " + name + " TEMPLATE template0 LOCALE 'C' ENCODING '" + encoding + "'")
	t.Cleanup(func() {
		_, err := server.db.Exec(context.Background(), "DROP DATABASE "+name)
		require.NoError(t, err)
	})
	w := &world{t: t, store: server.store, logs: server.logs}
	encoded := func(c *pgxpool.Config) *pgxpool.Pool {
		c.ConnConfig.Database, c.ConnConfig.RuntimeParams["client_encoding"] = name, "UTF8"
		return w.open(c)
	}
	w.db = encoded(server.db.Config())
	if server.workers != nil { // its role is hostile
		w.workers = encoded(server.config())
	}
	require.NoError(t, eventstore.RunMigrations(w.application(), eventstore.WithLogger(nil)))
	require.NoError(t, orchestrator.RunMigrations(w.application(), orchestrator.WithLogger(w.logs.Logger())))
	return w
}

// An error's text may have characters that the database has not. What becomes of the event must be recorded all the same.
func TestOutcomesAreRecordedInAnyEncoding(t *testing.T) {
	pgtest.SkipBehindPooler(t, "the database is the test's own")
	for encoding, text := range map[string]string{
		"LATIN1":    `für Zoë \u2192 4711, für Zoë \u2192 \u2026`,
		"EUC_JP":    `f\u00fcr Zo\u00eb \u2192 4711, f\u00fcr Zo\u00eb \u2192 \u2026`,
		"SQL_ASCII": `für Zoë → 4711, für Zoë → …`,
	} {
		t.Run(encoding, func(t *testing.T) {
			w := newEncodedWorld(t, encoding)
			w.append("ada", 2)
			bad := errors.New("für Zoë → 4711")
			policied := func(name string, then projection.Outcome) policied {
				return policied{recorder{name: name, before: poisoned(bad, 1, 2)}, projection.ErrorPolicy{Attempts: 2, Then: then}}
			}
			orch := w.orchestrator("set", orchestrator.WithWorkerName("Zoë → 1"))
			r := start(t, orch, policied("parks", projection.Park), policied("skips", projection.Skip), policied("stops", projection.Stop))
			w.await("parks 1 parked 2, parks 2 parked 0, skips 1 skipped 2, skips 2 skipped 2, stops 1 stopped 2",
				"SELECT projection, global_position, state, attempts FROM orchestrator_dead_letters ORDER BY 1, 2")
			w.await(text, "SELECT DISTINCT last_error || ', ' || error_kind FROM orchestrator_dead_letters WHERE attempts > 0")
			require.NoError(t, r.stop())
		})
	}
}
