package pgcoord

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// newRole makes a role of the owner's database, which is dropped at the end.
func (o owner) newRole(t *testing.T, suffix string) string {
	t.Helper()
	name := suffix + "_" + o.pool.Config().ConnConfig.Database
	exec(t, o.pool, `CREATE ROLE `+name+` LOGIN`)
	t.Cleanup(func() {
		_, err := o.pool.Exec(context.Background(), `DROP OWNED BY `+name+`; DROP ROLE `+name)
		assert.NoError(t, err)
	})
	return name
}

// leftovers are what a handler may leave behind in its transaction.
var leftovers = map[string]string{
	"a role":                         `SET LOCAL ROLE tenant`,
	"a role for the session":         `SET ROLE tenant`,
	"a session user":                 `SET LOCAL SESSION AUTHORIZATION tenant`,
	"a user for the session":         `SET SESSION AUTHORIZATION tenant`,
	"a search_path":                  `CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.orchestrator_checkpoints (LIKE orchestrator_checkpoints); SET LOCAL search_path = elsewhere`,
	"no search_path":                 `SET LOCAL search_path = ''`,
	"row_security":                   `SET LOCAL row_security = off`,
	"an application_name":            `SET LOCAL application_name = 'mine'`,
	"no statement's time":            `SET LOCAL statement_timeout = '10s'; SET LOCAL lock_timeout = '1ms'`,
	"a replication role":             `SET LOCAL session_replication_role = replica`,
	"deferred constraints":           `SET CONSTRAINTS ALL DEFERRED`,
	"all reset":                      `RESET ALL`,
	"no prepared statements":         `DEALLOCATE ALL`,
	"another way of writing":         `SET LOCAL bytea_output = escape; SET LOCAL datestyle = 'SQL, DMY'; SET LOCAL standard_conforming_strings = on; SET LOCAL extra_float_digits = 0; SET LOCAL intervalstyle = iso_8601`,
	"a cursor, a lock and a channel": `DECLARE c CURSOR WITH HOLD FOR SELECT 1; SELECT pg_advisory_lock(4711); LISTEN elsewhere`,
}

func TestWhatAHandlerLeavesBehindDoesNotStopItsBatch(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		o := newOwner(t)
		tenant := o.newRole(t, "tenant")
		exec(t, o.pool, `REVOKE ALL ON SCHEMA public FROM PUBLIC`) // the tenant may not even name the tables
		for name, sql := range leftovers {
			t.Run(mode.String()+" "+name, func(t *testing.T) {
				config := o.pool.Config()
				config.MaxConns = 1
				one := pgtest.PoolInMode(t, config, mode)
				before := value[string](t, one, sqlWho, pgx.QueryExecModeExec)
				at := o.pieces(t)[0].Position
				b, err := o.BeginBatch(t.Context(), one, o.fence, whole(at), at+10, BatchSettings{})
				require.NoError(t, err)
				_, err = b.conn.Conn().PgConn().Exec(t.Context(), strings.ReplaceAll(sql, "tenant", tenant)).ReadAll()
				require.NoError(t, err)
				require.NoError(t, b.Commit(t.Context(), at+10))
				assert.Equal(t, whole(at+10), o.pieces(t))
				assert.Equal(t, before, value[string](t, one, sqlWho, pgx.QueryExecModeExec))
				exec(t, o.pool, `DROP SCHEMA IF EXISTS elsewhere CASCADE`)
				o.advance(t, o.pieces(t), at+20)
			})
		}
	}
}

const sqlWho = `SELECT concat_ws(',', session_user, current_user, current_setting('role'), current_setting('row_security'))`

func TestAReadOnlyTransactionNamesItsCause(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	b := o.begin(t, whole(0), 10)
	exec(t, b.Tx(), `SET TRANSACTION READ ONLY`)
	require.ErrorIs(t, b.Commit(t.Context(), 10), batchtx.ErrReadOnly)
	assert.Equal(t, whole(0), o.pieces(t))
}

func TestACheckpointThatIsNotChangedCommitsNothing(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"a trigger keeps the row": `CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
			CREATE TRIGGER keep BEFORE UPDATE ON orchestrator_checkpoints FOR EACH ROW EXECUTE FUNCTION keep()`,
		"the handler moves the row": `UPDATE orchestrator_checkpoints SET position = 7`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOwner(t)
			exec(t, o.pool, `CREATE TABLE read_model (n int)`)
			b := o.begin(t, whole(0), 10)
			exec(t, b.Tx(), `INSERT INTO read_model VALUES (1)`)
			_, err := b.conn.Conn().PgConn().Exec(t.Context(), sql).ReadAll()
			require.NoError(t, err)
			require.ErrorIs(t, b.Commit(t.Context(), 10), batchtx.ErrRows)
			assert.Zero(t, value[int](t, o.pool, `SELECT count(*) FROM read_model`), "the read model is committed without its checkpoint")
			assert.Equal(t, whole(0), o.pieces(t))
		})
	}
}

func TestACommitInAnotherTransactionIsRefused(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	exec(t, o.pool, `CREATE TABLE read_model (n int)`)
	for _, sql := range []string{"ROLLBACK; BEGIN", "ROLLBACK AND CHAIN", "ROLLBACK; BEGIN; UPDATE orchestrator_checkpoints SET position = position"} {
		b := o.begin(t, whole(0), 10)
		_, err := b.conn.Conn().PgConn().Exec(t.Context(), sql).ReadAll()
		require.NoError(t, err)
		exec(t, b.Tx(), `INSERT INTO read_model VALUES (1)`)
		require.ErrorIs(t, b.Commit(t.Context(), 10), projection.ErrBatchTransaction, sql)
		assert.Zero(t, value[int](t, o.pool, `SELECT count(*) FROM read_model`), sql)
		assert.Equal(t, whole(0), o.pieces(t), sql)
	}
}

// A role's timeouts are for the handlers' statements. A batch that waits for its rows is not ended by them.
func TestTheRolesTimeoutsAreTheHandlers(t *testing.T) {
	t.Parallel()
	t.Run("15", func(t *testing.T) { timeoutsAreTheHandlers(t, newOwner(t), "statement_timeout", "lock_timeout") })
	t.Run("17", func(t *testing.T) {
		server := pgtest.OwnVersion(t, 17, pgtest.Options{})
		pool, err := pgxpool.New(t.Context(), server.DSN("postgres"))
		require.NoError(t, err)
		defer pool.Close()
		createTables(t, pool)
		timeoutsAreTheHandlers(t, ownerOn(t, pool), "statement_timeout", "lock_timeout", "transaction_timeout")
	})
}

func timeoutsAreTheHandlers(t *testing.T, o owner, names ...string) {
	t.Helper()
	parameters := map[string]string{"idle_in_transaction_session_timeout": "20"}
	for _, name := range names {
		parameters[name] = "400"
	}
	one := single(t, o.pool, parameters)
	first := o.begin(t, whole(0), 10)
	defer first.Rollback(context.Background()) // or nothing closes the pool after a failure
	settings := BatchSettings{IdleTimeout: time.Minute}
	second := async(func() error {
		b, err := o.BeginBatch(context.Background(), one, o.fence, whole(0), 20, settings)
		if err != nil {
			return err
		}
		defer b.Rollback(context.Background())
		for name, want := range map[string]string{"statement_timeout": "400ms", "lock_timeout": "160ms"} {
			var setting string
			if err := b.Tx().QueryRow(context.Background(), `SELECT current_setting($1)`, name).Scan(&setting); err != nil {
				return err
			}
			assert.Equal(t, want, setting, name)
		}
		for range 5 {
			if _, err := b.Tx().Exec(context.Background(), `SELECT pg_sleep(0.1)`); err != nil {
				return err
			}
		}
		return b.Commit(context.Background(), 20)
	})
	awaitBlockedBy(t, o.pool, first.conn.Conn().PgConn().PID())
	eventually(t, o.pool, "it does not wait longer than the timeouts", `SELECT EXISTS (SELECT FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock' AND clock_timestamp() - xact_start > '600ms')`)
	first.Rollback(t.Context())
	require.NoError(t, await(t, second, "the second batch"))
	assert.Equal(t, whole(20), o.pieces(t))
}

// A handler that has ended the transaction may have set a role or anything else for the session, so nobody gets its connection.
func TestAConnectionWhoseTransactionAHandlerEndedIsClosed(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	for sql, commits := range map[string]bool{
		"SET search_path = nowhere; COMMIT":                    false,
		"SET search_path = nowhere; COMMIT; BEGIN":             false,
		"SET search_path = nowhere; COMMIT; BEGIN; SELECT 1/0": false,
		"SET search_path = nowhere; COMMIT AND CHAIN":          true, // its handler returns no error
	} {
		b := o.begin(t, whole(0), 10)
		pid := b.conn.Conn().PgConn().PID()
		_, _ = b.conn.Conn().PgConn().Exec(t.Context(), sql).ReadAll()
		if commits {
			require.ErrorIs(t, b.Commit(t.Context(), 10), projection.ErrBatchTransaction)
		}
		b.Rollback(t.Context())
		eventually(t, o.pool, "the connection is used again after "+sql, `SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)`, pid)
	}
	for _, sql := range []string{"SELECT 1", "SELECT 1/0"} {
		b := o.begin(t, whole(0), 10)
		pid := b.conn.Conn().PgConn().PID()
		_, _ = b.conn.Conn().PgConn().Exec(t.Context(), sql).ReadAll()
		b.Rollback(t.Context())
		assert.True(t, value[bool](t, o.pool, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)`, pid), "a batch that fails costs no connection")
	}
}
