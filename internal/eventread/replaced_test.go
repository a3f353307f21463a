package eventread

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/eventtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// While another table has the name, reads fail. They go on when the table has its name back.
func TestNothingIsReadFromAnotherTable(t *testing.T) {
	t.Parallel()
	s, pool := newResolved(t)
	mustAppend(t, s, pool, es.Any(), eventtest.Event("a"))
	var oid uint32
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT 'events'::regclass::oid").Scan(&oid))
	exec(t, pool, "CREATE TABLE replacement (LIKE events INCLUDING ALL)")
	dsn := pool.Config().ConnString()
	for _, mode := range pgtest.ExecModes() {
		config, err := pgxpool.ParseConfig(dsn)
		require.NoError(t, err)
		config.ConnConfig.DefaultQueryExecMode = mode
		db, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		of := &store{Store: s.Store, statements: newStatements(s.EventsTable(), oid)}
		reads := trusted(t, of, db)
		reads["the next"] = func() error { _, err := of.statements.next(t.Context(), db, 0, 2000); return err }
		reads["a page"] = func() error {
			page, err := s.reader().Read(t.Context(), db, Query{Pieces: []slot.Piece{{Range: slot.All()}}, UpTo: 1, Table: oid, Limit: 10})
			if err == nil {
				assert.Len(t, page.Events, 1)
			}
			return err
		}
		for name, read := range reads {
			require.NoError(t, read(), "%s: %s", mode, name)
		}
		exec(t, pool, "ALTER TABLE events RENAME TO former; ALTER TABLE replacement RENAME TO events")
		for name, read := range reads {
			assert.True(t, dbguard.IsReplaced(read()), "%s: %s", mode, name)
		}
		exec(t, pool, "ALTER TABLE events RENAME TO replacement; ALTER TABLE former RENAME TO events")
		for name, read := range reads {
			require.NoError(t, read(), "%s: %s", mode, name)
		}
		db.Close()
	}
}
