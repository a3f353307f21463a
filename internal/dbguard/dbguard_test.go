package dbguard_test

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var things = pgx.Identifier{"public", `odd "name" \ 'of' a table`}

var modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

// selectNone finds no row, so a condition that is evaluated row by row would not be evaluated.
func selectNone(condition string) string {
	return "SELECT 1 FROM " + things.Sanitize() + " WHERE id = -1 AND " + condition
}

func connect(t *testing.T, dsn string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func TestAStandbyFailsEveryStatementAndLosesItsConnection(t *testing.T) {
	ctx := t.Context()
	primary, err := pgtest.Start(ctx, pgtest.Options{})
	require.NoError(t, err)
	defer func() { assert.NoError(t, primary.Close()) }()
	db := connect(t, primary.DSN("postgres"))
	_, err = db.Exec(ctx, "CREATE TABLE "+things.Sanitize()+" (id bigint PRIMARY KEY)")
	require.NoError(t, err)
	standby, err := primary.Standby(ctx)
	require.NoError(t, err)
	defer func() { assert.NoError(t, standby.Close()) }()

	for _, mode := range modes {
		rows, err := dbguard.New(db).Query(ctx, selectNone(dbguard.Primary), mode)
		require.NoError(t, err)
		assert.False(t, rows.Next(), mode)
		require.NoError(t, rows.Err(), mode)
	}
	replica := connect(t, standby.DSN("postgres"))
	pool := dbguard.New(replica)
	for _, mode := range modes {
		ask(t, replica, func() error {
			rows, err := pool.Query(ctx, selectNone(dbguard.Primary), mode)
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				assert.Fail(t, "a row")
			}
			return rows.Err()
		})
		ask(t, replica, func() error { return pool.QueryRow(ctx, selectNone(dbguard.Primary), mode).Scan(nil) })
		ask(t, replica, func() error {
			_, err := pool.Exec(ctx, selectNone(dbguard.Primary), mode)
			return err
		})
	}
	ask(t, replica, func() error {
		var batch pgx.Batch
		batch.Queue(selectNone(dbguard.Primary))
		return pool.SendBatch(ctx, &batch).Close()
	})
	ask(t, replica, func() error { return pool.InTransactions().Look(ctx, func(pgx.Tx) error { return nil }) })
	_, err = pool.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadWrite})
	require.Error(t, err)
	awaitClosed(t, replica)
	_, err = pool.Exec(ctx, "DELETE FROM "+things.Sanitize())
	assert.True(t, dbguard.IsStandby(err), err)
	awaitClosed(t, replica)
}

// ask checks that asking fails because of the standby and that the connection does not come back.
func ask(t *testing.T, pool *pgxpool.Pool, ask func() error) {
	t.Helper()
	err := ask()
	assert.True(t, dbguard.IsStandby(err), "%v", err)
	awaitClosed(t, pool)
}

// awaitClosed waits until the pool has no connection. A pool drops a closed one in the background.
func awaitClosed(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	assert.Eventually(t, func() bool { return pool.Stat().TotalConns() == 0 }, 10*time.Second, time.Millisecond, "the connection is not closed")
}

func TestHiddenRowsAreAnError(t *testing.T) {
	hiddenRowsAreAnError(t, pgtest.NewDatabase(t))
}

// The planners of later versions drop more of a WHERE clause in which a policy is false.
func TestHiddenRowsAreAnErrorOnOtherVersions(t *testing.T) {
	for _, major := range []int{14, 17, 18} {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			hiddenRowsAreAnError(t, connect(t, pgtest.OwnVersion(t, major, pgtest.Options{}).DSN("postgres")))
		})
	}
}

func hiddenRowsAreAnError(t *testing.T, db *pgxpool.Pool) {
	t.Helper()
	ctx := t.Context()
	name := "reader_" + db.Config().ConnConfig.Database
	run := func(sql string) {
		_, err := db.Exec(ctx, sql)
		require.NoError(t, err)
	}
	table := things.Sanitize()
	run("CREATE TABLE " + table + " (id bigint PRIMARY KEY)")
	run("CREATE ROLE " + name)
	run("GRANT SELECT ON " + table + " TO " + name)
	t.Cleanup(func() {
		_, err := db.Exec(context.Background(), "DROP OWNED BY "+name+"; DROP ROLE "+name)
		assert.NoError(t, err)
	})
	conn, err := db.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	defer func() {
		_, err := conn.Exec(ctx, "RESET ROLE")
		assert.NoError(t, err)
	}()
	_, err = conn.Exec(ctx, "SET ROLE "+name)
	require.NoError(t, err)
	statements := []string{
		"SELECT id FROM " + table + " WHERE id = -1 LIMIT " + dbguard.LimitAllRows(things, "10::bigint"),
		"SELECT id FROM " + table + " ORDER BY id LIMIT " + dbguard.LimitAllRows(things, "NULL::bigint"),
		"SELECT count(*), " + dbguard.SelectAllRows(things) + " FROM " + table + " WHERE id = -1",
	}
	eachWay := func(check func(statement string, mode pgx.QueryExecMode, err error)) {
		for _, mode := range modes {
			for _, statement := range statements {
				_, err := conn.Exec(ctx, statement, mode)
				check(statement, mode, err)
			}
		}
	}
	visible := func(statement string, mode pgx.QueryExecMode, err error) {
		assert.NoError(t, err, "%v: %s", mode, statement)
	}
	hidden := func(statement string, mode pgx.QueryExecMode, err error) { // also where the statement was prepared before
		assert.True(t, dbguard.HidesRows(err), "%v: %s: %v", mode, statement, err)
		assert.False(t, dbguard.IsStandby(err))
	}
	eachWay(visible)
	run("ALTER TABLE " + table + " ENABLE ROW LEVEL SECURITY")
	eachWay(hidden)
	for _, policy := range []string{"false", "id > 5", "id = current_setting('server_version_num')::bigint", "true"} {
		run("CREATE POLICY p ON " + table + " USING (" + policy + ")")
		eachWay(hidden)
		run("DROP POLICY p ON " + table)
	}
	run("ALTER ROLE " + name + " BYPASSRLS")
	eachWay(visible)
	for _, statement := range statements {
		_, err = db.Exec(ctx, statement)
		require.NoError(t, err, "the owner sees all rows: %s", statement)
	}
}

func TestLimitAllRowsLimits(t *testing.T) {
	db := pgtest.NewDatabase(t)
	_, err := db.Exec(t.Context(), "CREATE TABLE "+things.Sanitize()+" AS SELECT generate_series(1, 100) AS id")
	require.NoError(t, err)
	for limit, rows := range map[any]int64{7: 7, 0: 0, 1000: 100, nil: 100} {
		tag, err := db.Exec(t.Context(), "SELECT id FROM "+things.Sanitize()+" LIMIT "+dbguard.LimitAllRows(things, "$1::bigint"), limit)
		require.NoError(t, err)
		assert.Equal(t, rows, tag.RowsAffected(), limit)
	}
}

func TestPoolReturnsItsConnections(t *testing.T) {
	ctx := t.Context()
	db := pgtest.NewDatabase(t)
	pool := dbguard.New(db)
	var number int
	require.NoError(t, pool.QueryRow(ctx, "SELECT 7 WHERE "+dbguard.Primary).Scan(&number))
	assert.Equal(t, 7, number)
	require.ErrorIs(t, pool.QueryRow(ctx, "SELECT 7 WHERE false").Scan(&number), pgx.ErrNoRows)
	require.Error(t, pool.QueryRow(ctx, "SELECT 'seven'").Scan(&number))
	_, err := pool.Exec(ctx, "no SQL")
	require.Error(t, err)
	rows, err := pool.Query(ctx, "SELECT generate_series(1, 1000)")
	require.NoError(t, err)
	assert.True(t, rows.Next())
	rows.Close()
	rows.Close()
	require.NoError(t, rows.Err())
	for _, end := range []func(pgx.Tx) error{
		func(tx pgx.Tx) error { return tx.Commit(ctx) },
		func(tx pgx.Tx) error { return tx.Rollback(ctx) },
	} {
		tx, err := pool.BeginTx(ctx, pgx.TxOptions{})
		require.NoError(t, err)
		require.NoError(t, end(tx))
		require.ErrorIs(t, end(tx), pgx.ErrTxClosed)
	}
	assert.Zero(t, db.Stat().AcquiredConns())
	assert.Equal(t, int32(1), db.Stat().TotalConns())

	db.Close()
	_, err = pool.Exec(ctx, "SELECT 1")
	require.Error(t, err)
	rows, err = pool.Query(ctx, "SELECT 1")
	require.Error(t, err)
	rows.Close()
	require.Error(t, rows.Err())
	require.Error(t, pool.QueryRow(ctx, "SELECT 1").Scan(&number))
	_, err = pool.BeginTx(ctx, pgx.TxOptions{})
	require.Error(t, err)
	var batch pgx.Batch
	batch.Queue("SELECT 1")
	require.Error(t, pool.SendBatch(ctx, &batch).Close())
}

func TestTransactionsWriteWhateverTheDefaultsAre(t *testing.T) {
	ctx := t.Context()
	db := pgtest.NewDatabase(t)
	_, err := db.Exec(ctx, "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)")
	require.NoError(t, err)
	for _, mode := range modes {
		config := db.Config()
		config.MaxConns = 1
		config.ConnConfig.DefaultQueryExecMode = mode
		config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
		config.ConnConfig.RuntimeParams["default_transaction_isolation"] = "serializable"
		config.ConnConfig.RuntimeParams["statement_timeout"] = "100ms"
		own, err := pgxpool.NewWithConfig(ctx, config)
		require.NoError(t, err)
		in := dbguard.New(own).InTransactions()
		tag, err := in.Exec(ctx, "INSERT INTO t VALUES ($1)", 1)
		require.NoError(t, err, mode)
		assert.EqualValues(t, 1, tag.RowsAffected(), mode)
		_, err = in.Exec(ctx, "INSERT INTO t VALUES ($1)", 1)
		require.Error(t, err, "%s: the constraint is checked at COMMIT", mode)
		var level string
		require.NoError(t, in.QueryRow(ctx, "SELECT current_setting('transaction_isolation') || current_setting('row_security') || $1::text", "x").Scan(&level))
		assert.Equal(t, "read committedoffx", level, mode)
		require.NoError(t, in.QueryRow(ctx, "SELECT current_setting('transaction_isolation') || current_setting('row_security')", pgx.QueryExecModeExec).Scan(&level))
		assert.Equal(t, "read committedoff", level, mode)
		_, err = in.Exec(ctx, "SELECT pg_sleep($1)", 0.2)
		require.NoError(t, err, mode)
		_, err = in.Exec(ctx, "SELECT pg_sleep(0.2)", pgx.QueryExecModeExec)
		require.NoError(t, err, mode)
		_, err = in.Exec(ctx, "no SQL")
		require.Error(t, err)
		require.ErrorIs(t, in.QueryRow(ctx, "SELECT 1 WHERE false").Scan(nil), pgx.ErrNoRows)
		_, err = in.Exec(ctx, "DELETE FROM t")
		require.NoError(t, err, mode)
		assert.Zero(t, own.Stat().AcquiredConns())
		assert.EqualValues(t, 1, own.Stat().NewConnsCount(), "%s: no error cost the connection", mode)
		own.Close()
	}
}

// Whoever gives up while the server commits learns that it has.
func TestACommitIsAnsweredThoughTheCallerGivesUp(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewDatabase(t)
	for _, sql := range []string{
		`CREATE TABLE written (n int)`,
		`CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$`,
		`CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON written DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linger()`,
	} {
		_, err := pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	ctx, giveUp := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- dbguard.New(pool).InTransactions().Do(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO written VALUES (1)`)
			return err
		})
	}()
	require.Eventually(t, func() bool {
		var sleeps bool
		err := pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep')`).Scan(&sleeps)
		return err == nil && sleeps
	}, time.Minute, time.Millisecond)
	giveUp()
	require.NoError(t, <-ended)

	require.ErrorIs(t, dbguard.New(pool).InTransactions().Do(t.Context(), func(pgx.Tx) error { return context.Canceled }), context.Canceled)
	before, end := context.WithCancel(t.Context())
	require.ErrorIs(t, dbguard.New(pool).InTransactions().Do(before, func(tx pgx.Tx) error {
		_, err := tx.Exec(before, `INSERT INTO written VALUES (2)`)
		end()
		return err
	}), context.Canceled, "it had not begun to commit")
	var written int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT sum(n) FROM written`).Scan(&written))
	require.Equal(t, 1, written)
}

func TestASilentServerIsFoundOut(t *testing.T) {
	ctx := t.Context()
	db := pgtest.NewDatabase(t)
	pool := dbguard.NewPatient(db, 200*time.Millisecond)
	_, err := pool.Exec(ctx, "SELECT pg_sleep(20)")
	require.ErrorIs(t, err, dbguard.ErrNoAnswer)
	pool = dbguard.NewPatient(db, 200*time.Millisecond)
	rows, err := pool.Query(ctx, "SELECT pg_sleep(CASE WHEN i = 3 THEN 20 ELSE 0 END) FROM generate_series(1, 5) AS i")
	require.NoError(t, err)
	for rows.Next() {
		assert.Fail(t, "the server buffers rows as small as these")
	}
	require.ErrorIs(t, rows.Err(), dbguard.ErrNoAnswer)
	_, err = dbguard.NewPatient(db, 200*time.Millisecond).InTransactions().Exec(ctx, "SELECT pg_sleep(20)")
	require.ErrorIs(t, err, dbguard.ErrNoAnswer)
	assert.Zero(t, db.Stat().AcquiredConns())
}

// A server that is slow must not be taken for a dead one forever.
func TestPatienceGrows(t *testing.T) {
	pool := dbguard.NewPatient(pgtest.NewDatabase(t), 50*time.Millisecond)
	failed := 0
	require.Eventually(t, func() bool {
		_, err := pool.Exec(t.Context(), "SELECT pg_sleep(0.3)")
		if err != nil {
			failed++
			assert.ErrorIs(t, err, dbguard.ErrNoAnswer)
		}
		return err == nil
	}, 20*time.Second, time.Millisecond)
	assert.Positive(t, failed)
}

// Where the server may write no temporary files, and has little memory, the library's own statements fail.
func TestMemoryThatDoesNotSufficeIsNamed(t *testing.T) {
	db := pgtest.NewDatabase(t)
	for _, setting := range []struct {
		memory, files string
		refused       bool
	}{{"64kB", "0", true}, {"64kB", "100kB", true}, {"1MB", "0", false}, {"64kB", "-1", false}, {"64kB", "10MB", false}} {
		config := db.Config()
		config.ConnConfig.RuntimeParams["work_mem"], config.ConnConfig.RuntimeParams["temp_file_limit"] = setting.memory, setting.files
		own, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		err = dbguard.CheckSettings(t.Context(), own)
		own.Close()
		if !setting.refused {
			require.NoError(t, err, "%+v", setting)
			continue
		}
		require.ErrorIs(t, err, dbfault.ErrConfiguration, "%+v", setting)
		require.ErrorContains(t, err, "work_mem=64kB")
		require.ErrorContains(t, err, "temp_file_limit="+setting.files)
	}
}

func TestSettingsThatChangeWhatIsReadAreNamed(t *testing.T) {
	db := pgtest.NewDatabase(t)
	texts := []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}
	for _, setting := range []struct {
		name, value string
		refused     []pgx.QueryExecMode
	}{
		{"client_encoding", "LATIN1", modes},
		{"datestyle", "German", texts},
		{"bytea_output", "escape", texts},
		{"standard_conforming_strings", "off", texts[1:]},
		{"intervalstyle", "sql_standard", nil},
	} {
		for _, mode := range modes {
			config := db.Config()
			config.ConnConfig.DefaultQueryExecMode = mode
			config.ConnConfig.RuntimeParams[setting.name] = setting.value
			own, err := pgxpool.NewWithConfig(t.Context(), config)
			require.NoError(t, err)
			err = dbguard.CheckSettings(t.Context(), own)
			if slices.Contains(setting.refused, mode) {
				require.ErrorIs(t, err, dbfault.ErrConfiguration, "%s in mode %s", setting.name, mode)
				require.ErrorContains(t, err, setting.name+"="+setting.value)
			} else {
				require.NoError(t, err, "%s in mode %s", setting.name, mode)
			}
			own.Close()
		}
	}
}
