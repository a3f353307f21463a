package face

import (
	"context"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// hostileVariable names the environment's variable that makes every role of the tests hostile, see `make test-hostile`. Its value is
// one of pgx's modes.
const hostileVariable = "HOSTILE"

// hostile are settings of a role that change what statements mean, how they are planned, how long they may take, or how values are
// written. Those that the server does not know are left out. Without index scans the server would compile each statement, hence jit.
var hostile = map[string]string{
	"default_transaction_read_only": "on", "default_transaction_isolation": "serializable", "default_transaction_deferrable": "on",
	"row_security": "off", "quote_all_identifiers": "on", "xmloption": "document", "synchronous_commit": "off",
	"IntervalStyle": "sql_standard", "TimeZone": "'Asia/Kathmandu'", "extra_float_digits": "-15", "DateStyle": "'ISO, DMY'",
	"client_min_messages": "debug5", "plan_cache_mode": "force_generic_plan", "work_mem": "'64kB'", "jit": "off",
	"enable_indexscan": "off", "enable_indexonlyscan": "off", "enable_bitmapscan": "off", "enable_hashjoin": "off", "enable_nestloop": "off",
	"backslash_quote": "off", "escape_string_warning": "on", "array_nulls": "off", "transform_null_equals": "on",
}

// hostileToTexts are settings that Run refuses by name in the modes that use texts.
var hostileToTexts = map[string]string{"bytea_output": "escape", "DateStyle": "'German'", "standard_conforming_strings": "off"}

// hostileToAll are settings that the tests of make test-hostile can bear beside hostile. search_path names what is not there, and the
// catalog last. The times are the shortest that a handler of a test meets on a busy machine.
var hostileToAll = map[string]string{
	"search_path": "nowhere, public, pg_catalog", "statement_timeout": "'500ms'", "lock_timeout": "'100ms'",
	"idle_in_transaction_session_timeout": "'3s'", "idle_session_timeout": "'1s'", "transaction_timeout": "'800ms'",
	"application_name": "hostile", "track_activities": "off", "session_replication_role": "replica",
	"enable_seqscan": "off", "enable_sort": "off", "enable_hashagg": "off", "enable_material": "off", "enable_mergejoin": "off",
	"join_collapse_limit": "1", "from_collapse_limit": "1", "geqo_threshold": "2", "cursor_tuple_fraction": "0.001",
	"force_parallel_mode": "on", "debug_parallel_query": "on", "parallel_setup_cost": "0", "parallel_tuple_cost": "0",
	"min_parallel_table_scan_size": "0", "min_parallel_index_scan_size": "0", "check_function_bodies": "off",
	"stats_fetch_consistency": "snapshot", "constraint_exclusion": "on", "default_toast_compression": "pglz",
	"client_connection_check_interval": "'10ms'", "gin_fuzzy_search_limit": "1", "tcp_user_timeout": "'5s'", "lo_compat_privileges": "on",
}

// hostileMode is pgx's mode of the run of make test-hostile, if this is one.
func hostileMode() (mode pgx.QueryExecMode, is bool) {
	wanted := os.Getenv(hostileVariable)
	for mode := pgx.QueryExecModeCacheStatement; mode <= pgx.QueryExecModeSimpleProtocol; mode++ {
		if strings.ReplaceAll(mode.String(), " ", "_") == wanted {
			return mode, true
		}
	}
	if wanted != "" {
		panic(hostileVariable + " must be one of pgx's modes, such as simple_protocol")
	}
	return 0, false
}

// byHostility says whether a line of the log is about a connection that rested in the pool for longer than the idle_session_timeout.
func byHostility(line string) bool {
	_, hostile := hostileMode()
	return hostile && strings.Contains(line, "57P05")
}

// skipHostile skips the test in a run of make test-hostile. why says which of the settings it is about.
func skipHostile(t testing.TB, why string) {
	t.Helper()
	if _, hostile := hostileMode(); hostile {
		t.Skipf("not with hostile settings: %s", why)
	}
}

// makeHostile gives a role the settings against it that the server knows.
func (w *world) makeHostile(role string, settings map[string]string) {
	w.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if w.value("SELECT count(*) FROM pg_settings WHERE lower(name) = lower($1)", name) == "1" {
			w.exec("ALTER ROLE " + role + " SET " + name + " = " + settings[name])
		}
	}
}

// settingsAgainst are the settings of every role in a run of make test-hostile with the mode.
func settingsAgainst(mode pgx.QueryExecMode) map[string]string {
	settings := maps.Clone(hostile)
	maps.Copy(settings, hostileToAll)
	if mode != pgx.QueryExecModeExec && mode != pgx.QueryExecModeSimpleProtocol {
		maps.Copy(settings, hostileToTexts)
	}
	return settings
}

// newApplication makes the pool that a test's application uses apart from the administrator's, if its role is to be hostile.
func (w *world) newApplication() {
	w.t.Helper()
	if _, is := hostileMode(); !is {
		return
	}
	role := w.role("application", "SUPERUSER")
	w.with(func(c *pgxpool.Config) { c.ConnConfig.User, c.ConnConfig.Password = role, "pw" })
}

// application is the pool that a test's application and its workers use.
func (w *world) application() *pgxpool.Pool {
	if w.workers != nil {
		return w.workers
	}
	return w.db
}

// newEmptyWorld is a database without tables, with the administrator's pool and the application's.
func newEmptyWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, db: pgtest.NewDatabase(t), store: eventstore.New(), logs: newLogs()}
	w.newApplication()
	return w
}

// readWrite is what an application says of its transactions where the role's defaults may say otherwise.
var readWrite = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}

// inTx runs f in a transaction of the application.
func (w *world) inTx(f func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(w.t.Context(), w.application(), readWrite, f)
}

// role creates a role that may connect and is dropped after the test.
func (w *world) role(name, options string) string {
	w.t.Helper()
	name += "_" + w.db.Config().ConnConfig.Database
	w.exec("CREATE ROLE " + name + " LOGIN PASSWORD 'pw' " + options)
	w.t.Cleanup(func() {
		_, err := w.db.Exec(context.Background(), "DROP OWNED BY "+name+" CASCADE; DROP ROLE "+name)
		require.NoError(w.t, err)
	})
	if mode, is := hostileMode(); is {
		w.makeHostile(name, settingsAgainst(mode))
	}
	return name
}

// alwaysFire has the triggers that call a function fire whatever session_replication_role is.
func (w *world) alwaysFire(function string) {
	w.t.Helper()
	rows, err := w.db.Query(w.t.Context(), `SELECT format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', t.tgrelid::regclass, t.tgname)
		FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid WHERE p.proname = $1 AND NOT t.tgisinternal`, function)
	require.NoError(w.t, err)
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(w.t, err)
	require.NotEmpty(w.t, statements)
	for _, statement := range statements {
		w.exec(statement)
	}
}

// with makes the application use a pool of its own, whose configuration change alters.
func (w *world) with(change func(*pgxpool.Config)) {
	w.t.Helper()
	config := w.config()
	change(config)
	w.workers = w.open(config)
}

// as opens a pool for another role.
func (w *world) as(role string) *pgxpool.Pool {
	w.t.Helper()
	config := w.config()
	config.ConnConfig.User, config.ConnConfig.Password = role, "pw"
	return w.open(config)
}

// config is the configuration of the application's pool.
func (w *world) config() *pgxpool.Config {
	config := w.application().Config()
	if mode, is := hostileMode(); is {
		config.ConnConfig.DefaultQueryExecMode = mode
	}
	return config
}

// open opens a pool that is closed after the test.
func (w *world) open(config *pgxpool.Config) *pgxpool.Pool {
	w.t.Helper()
	pool, err := pgxpool.NewWithConfig(w.t.Context(), config)
	require.NoError(w.t, err)
	w.t.Cleanup(pool.Close)
	return pool
}
