package eventstore

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// The right that is missing is named whatever string literals mean to the role that lacks it.
func TestTheMissingRightIsNamedWhateverStringsMean(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it connects with settings")
	s, pool := newStore(t)
	name := newRole(t, pool, "writer")
	other := connectAs(t, pool, name, map[string]string{"standard_conforming_strings": "off", "search_path": "nowhere, public"})
	_, err := tryAppend(t.Context(), s, other, es.Any(), eventsOf("ada", 1)...)
	require.ErrorIs(t, err, dbrights.ErrNotGranted)
	require.ErrorContains(t, err, "GRANT UPDATE ON public.aggregate_heads TO "+name)
}

// An application that logs in as one role and appends as another is told that what was looked up is the former's.
func TestAfterSetRoleTheErrorSaysWhoseRightsWereLookedUp(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it connects as another role")
	s, pool := newStore(t)
	name, app := newRole(t, pool, "writer"), newRole(t, pool, "app")
	exec(t, pool, "GRANT "+name+" TO "+app+"; ALTER ROLE "+app+" NOINHERIT")
	login := connectAs(t, pool, app, nil)
	for _, test := range []struct {
		db   *pgxpool.Pool
		text string
	}{
		{login, "UPDATE ON public.aggregate_heads TO " + app + "; that is what the role that logs in lacks, so after SET ROLE grant it to the other"},
		{pool, "the role that logs in, " + pool.Config().ConnConfig.User + ", lacks no right that this needs: grant it to the role of SET ROLE"},
	} {
		tx := begin(t, test.db, pgx.TxOptions{})
		_, err := tx.Exec(t.Context(), "SET LOCAL ROLE "+name)
		require.NoError(t, err)
		_, err = s.Append(t.Context(), tx, es.Any(), eventsOf("ada", 1))
		require.ErrorContains(t, err, "42501")
		require.ErrorContains(t, err, test.text)
	}
	exec(t, pool, "GRANT USAGE ON SEQUENCE events_global_position_seq TO "+name+"; GRANT UPDATE ON aggregate_heads TO "+name)
	tx := begin(t, login, pgx.TxOptions{})
	_, err := tx.Exec(t.Context(), "SET LOCAL ROLE "+name)
	require.NoError(t, err)
	_, err = s.Append(t.Context(), tx, es.Any(), eventsOf("ada", 1))
	require.NoError(t, err, "what the error asks for suffices")
}

// Looking up what is missing may take as long as a connection does. An append that waits for another's lookup ends with its context.
func TestAnAppendDoesNotWaitForAnothersLookup(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	tx := begin(t, pool, pgx.TxOptions{})
	cfg := tx.Conn().Config()
	s.refusals.of(refused{databaseName: databaseName{host: cfg.Host, port: cfg.Port, database: cfg.Database, user: cfg.User}}).looking <- struct{}{} // and never back
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	refused := &pgconn.PgError{Code: "42501"}
	assert.Equal(t, error(refused), s.explain(ctx, tx, refused))
}
