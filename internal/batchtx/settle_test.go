package batchtx_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// What handlers have deferred is theirs. What a trigger on the library's own table defers is not.
func TestOnlyWhatHandlersHaveDeferredIsOfCommit(t *testing.T) {
	db := pgtest.NewDatabase(t)
	_, err := db.Exec(t.Context(), `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$no$$; END';
		CREATE TABLE theirs (id int); CREATE TABLE own (id int); INSERT INTO own VALUES (1);
		CREATE CONSTRAINT TRIGGER no AFTER INSERT ON theirs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
		CREATE CONSTRAINT TRIGGER no AFTER UPDATE ON own DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		handler string
		own     []batchtx.Statement
		theirs  bool
	}{
		"theirs":             {"INSERT INTO theirs VALUES (1)", nil, true},
		"both":               {"INSERT INTO theirs VALUES (1)", []batchtx.Statement{{SQL: "UPDATE own SET id = 2"}}, true},
		"own":                {"SELECT", []batchtx.Statement{{SQL: "UPDATE own SET id = 2"}}, false},
		"own, made deferred": {"SET CONSTRAINTS ALL DEFERRED", []batchtx.Statement{{SQL: "UPDATE own SET id = 2"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			tx := beginOn(t, db, batchtx.Settings{})
			run(t, tx, test.handler)
			err := tx.CommitWith(t.Context(), test.own...)
			require.Equal(t, "P0001", dbfault.Code(err), "%v", err)
			assert.Equal(t, test.theirs, batchtx.IsOfCommit(err))
		})
	}
}

// sent is the statements that a connection sends.
type sent struct{ statements []string }

func (s *sent) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.statements = append(s.statements, data.SQL)
	return ctx
}

func (*sent) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (s *sent) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	for _, q := range data.Batch.QueuedQueries {
		s.statements = append(s.statements, q.SQL)
	}
	return ctx
}

func (*sent) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (*sent) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// A handler's statement_timeout bounds nothing of the commit but the statement that ends it, on new connections and on others.
func TestTheCommitBeginsByEndingTheHandlersTimeout(t *testing.T) {
	config := pgtest.NewDatabase(t).Config().ConnConfig
	var log sent
	config.Tracer = &log
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	defer batchtx.Close(conn)
	for range 2 {
		tx, _, err := batchtx.Begin(t.Context(), conn, batchtx.Settings{})
		require.NoError(t, err)
		run(t, tx, "SET LOCAL statement_timeout = '100ms'")
		log.statements = nil
		require.NoError(t, tx.CommitWith(t.Context(), batchtx.Statement{SQL: "SELECT pg_sleep(0.2)"}))
		assert.Equal(t, "SET LOCAL statement_timeout = 0", log.statements[0])
		assert.False(t, slices.ContainsFunc(log.statements[1:], func(sql string) bool { return strings.Contains(sql, "'statement_timeout'") }))
	}
}
