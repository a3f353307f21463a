package migrations

import (
	"flag"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/migrate"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

var update = flag.Bool("update", false, "write tables.txt after a migration was added")

// What Check compares with is what the migrations make.
func TestTheDescriptionOfTheTablesIsOfTheLatestVersion(t *testing.T) {
	db := pgtest.NewDatabase(t)
	runner, err := migrate.New(migrate.Config{Files: files, VersionTable: VersionTable})
	require.NoError(t, err)
	require.NoError(t, runner.Up(t.Context(), db))
	rows, err := db.Query(t.Context(), "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> $1 ORDER BY relname", VersionTable)
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	described, err := migrate.Describe(t.Context(), db, "public", names)
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile("tables.txt", []byte(described), 0o644))
		return
	}
	assert.Equal(t, described, shapes, "run: go test ./migrations -run Description -update")
}

// run executes a statement of the test.
func run(t *testing.T, db *pgxpool.Pool, sql string) {
	t.Helper()
	_, err := db.Exec(t.Context(), sql)
	require.NoError(t, err)
}

// Whatever was done to the tables, Run and Check say it, and name the table.
func TestTablesThatWereChangedAreRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ change, want string }{
		"dropped":                  {"DROP TABLE orchestrator_dead_letters CASCADE", `"public"."orchestrator_dead_letters": the table is missing`},
		"a view":                   {"ALTER TABLE orchestrator_dead_letters RENAME TO x; CREATE VIEW orchestrator_dead_letters AS SELECT * FROM x", "it must be a table, and is a view"},
		"an index":                 {"ALTER TABLE orchestrator_dead_letters RENAME TO x; CREATE INDEX orchestrator_dead_letters ON x (state)", "it must be a table, and is an index"},
		"a column less":            {"ALTER TABLE orchestrator_workers DROP COLUMN detail", "the column detail is missing"},
		"a renamed column":         {"ALTER TABLE orchestrator_workers RENAME COLUMN detail TO details", "the column detail is missing"},
		"another type":             {"ALTER TABLE orchestrator_checkpoints ALTER COLUMN generation TYPE integer", "the column generation must be of type bigint, and is of type integer"},
		"a nullable column":        {"ALTER TABLE orchestrator_checkpoints ALTER COLUMN replica_set DROP NOT NULL", "the column replica_set must be NOT NULL"},
		"no default":               {"ALTER TABLE orchestrator_checkpoints ALTER COLUMN updated_at DROP DEFAULT", "the column updated_at must have a default"},
		"no primary key":           {"ALTER TABLE orchestrator_checkpoints DROP CONSTRAINT orchestrator_checkpoints_pkey", "(projection, slot_from) must be unique"},
		"ranges that overlap":      {"ALTER TABLE orchestrator_checkpoints DROP CONSTRAINT orchestrator_checkpoints_disjoint", "the constraint exclude () is missing"},
		"several generations":      {"DROP INDEX orchestrator_generations_current", "the constraint unique (replica_set) in part is missing"},
		"one generation":           {"DROP INDEX orchestrator_generations_current; CREATE UNIQUE INDEX ON orchestrator_generations (replica_set)", "the constraint unique (replica_set) in part is missing"},
		"a check less":             {"ALTER TABLE orchestrator_checkpoints DROP CONSTRAINT orchestrator_checkpoints_check", "the constraint check ("},
		"workers that outlive":     {"ALTER TABLE orchestrator_heartbeats DROP CONSTRAINT orchestrator_heartbeats_worker_id_fkey", "the constraint foreign key (worker_id) to orchestrator_workers on delete cascade is missing"},
		"no cascade":               {"ALTER TABLE orchestrator_heartbeats DROP CONSTRAINT orchestrator_heartbeats_worker_id_fkey, ADD FOREIGN KEY (worker_id) REFERENCES orchestrator_workers", "on delete cascade is missing"},
		"unlogged":                 {"ALTER TABLE orchestrator_checkpoints SET UNLOGGED", "it must not be unlogged"},
		"a version table of ours":  {"DROP TABLE orchestrator_schema_version; CREATE TABLE orchestrator_schema_version (version bigint, dirty boolean)", "the column version must be of type integer"},
		"a version that was never": {"INSERT INTO orchestrator_schema_version (version, name) VALUES (0, 'x')", "has a row for version 0, and none for version 1"},
		"another's versions":       {"UPDATE orchestrator_schema_version SET name = 'events' WHERE version = 1", `says that version 1 is "events", this program's is "init"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.NewDatabase(t)
			require.NoError(t, Run(t.Context(), db, ""))
			run(t, db, tt.change)
			for _, err := range []error{Check(t.Context(), db, ""), Run(t.Context(), db, "")} {
				require.ErrorIs(t, err, ErrChanged)
				require.ErrorContains(t, err, tt.want)
			}
		})
	}
}

func TestWhatAnOperatorAddsDoesNoHarm(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	require.NoError(t, Run(t.Context(), db, ""))
	run(t, db, `
		ALTER TABLE orchestrator_workers ADD COLUMN mine text;
		CREATE INDEX ON orchestrator_dead_letters (event_type);
		ALTER TABLE orchestrator_checkpoints RENAME CONSTRAINT orchestrator_checkpoints_pkey TO mine;
		ALTER TABLE orchestrator_checkpoints ADD CHECK (position < 1000000000000);
		ALTER TABLE orchestrator_generations SET (autovacuum_vacuum_scale_factor = 0.1);
		DROP INDEX orchestrator_workers_replica_set`)
	require.NoError(t, Check(t.Context(), db, ""))
	require.NoError(t, Run(t.Context(), db, ""))
}

// $user is the first schema of the search_path, and one may appear at any time.
func TestASchemaThatAppearsInTheSearchPathChangesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	require.NoError(t, Run(t.Context(), db, ""))
	cfg := db.Config()
	cfg.ConnConfig.RuntimeParams["search_path"] = "appeared, public"
	other, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer other.Close()
	run(t, db, "CREATE SCHEMA appeared; CREATE TABLE appeared.orchestrator_checkpoints (id int)")
	require.NoError(t, next(t).run(t.Context(), other, ""))
	for _, pool := range []*pgxpool.Pool{db, other} {
		schema, err := next(t).locate(t.Context(), pool, "")
		require.NoError(t, err)
		assert.Equal(t, "public", schema)
	}
	var strangers int
	require.NoError(t, db.QueryRow(t.Context(), "SELECT count(*) FROM pg_class WHERE relnamespace = 'appeared'::regnamespace AND relkind = 'r'").Scan(&strangers))
	assert.Equal(t, 1, strangers, "nothing may be made there")
	run(t, db, "CREATE SCHEMA empty")
	cfg.ConnConfig.RuntimeParams["search_path"] = "nowhere"
	lost, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer lost.Close()
	require.ErrorContains(t, Run(t.Context(), lost, ""), "no schema in the connection's search_path exists")
}

// The role's settings are the administrator's.
func TestRunWorksWhateverTheRolesSettingsAre(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	run(t, db, `CREATE SCHEMA evil; CREATE SCHEMA "odd ""name"" \ 'of' a schema"; CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT ''-infinity''::timestamptz'`)
	cfg := db.Config()
	maps.Copy(cfg.ConnConfig.RuntimeParams, map[string]string{
		"default_transaction_read_only": "on", "default_transaction_isolation": "serializable", "standard_conforming_strings": "off",
		"backslash_quote": "off", "lock_timeout": "10s", "statement_timeout": "30s", "DateStyle": "German, DMY", "bytea_output": "escape",
		"search_path": `"odd ""name"" \ 'of' a schema", evil, pg_catalog`, "row_security": "off", "client_encoding": "UTF8", "quote_all_identifiers": "on",
	})
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec} {
		cfg.ConnConfig.DefaultQueryExecMode = mode
		hostile, err := pgxpool.NewWithConfig(t.Context(), cfg.Copy())
		require.NoError(t, err)
		require.NoError(t, Run(t.Context(), hostile, ""))
		schema, err := Locate(t.Context(), hostile, "")
		require.NoError(t, err)
		assert.Equal(t, `odd "name" \ 'of' a schema`, schema)
		hostile.Close()
	}
}

func TestATableThatWasThereBeforeIsNotAdopted(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	run(t, db, "CREATE VIEW orchestrator_workers AS SELECT 1")
	require.ErrorContains(t, Run(t.Context(), db, ""), "already exists")
	require.ErrorIs(t, Check(t.Context(), db, ""), ErrMissing)
	run(t, db, "DROP VIEW orchestrator_workers")
	require.NoError(t, Run(t.Context(), db, ""))
}

// Another tool has made the tables from a copy of the files. The error says how to go on, and its SQL does.
func TestTablesThatAnotherToolHasMade(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	require.NoError(t, Run(t.Context(), db, ""))
	run(t, db, "DROP TABLE orchestrator_schema_version")
	err := Run(t.Context(), db, "")
	require.ErrorIs(t, err, ErrChanged)
	require.ErrorContains(t, err, "already exists")
	_, remedy, found := strings.Cut(err.Error(), "call this again: ")
	require.True(t, found, err)
	remedy, _, found = strings.Cut(remedy, "): ")
	require.True(t, found, err)
	run(t, db, remedy+")")
	require.NoError(t, Run(t.Context(), db, ""))
	require.NoError(t, Check(t.Context(), db, ""))
}
