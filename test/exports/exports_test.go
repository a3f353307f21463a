package exports

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/golang-migrate/migrate/v4"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	tern "github.com/jackc/tern/v2/migrate"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// tool runs exported files, in order, and takes them back.
type tool struct {
	format  string
	own     string // the tool's own table
	up      func(t *testing.T, dsn string, files fstest.MapFS) error
	down    func(t *testing.T, dsn string, files fstest.MapFS) error
	name    func(step int) string
	reverse func(step int) string // the file of the way back, where that is another
}

var tools = []tool{
	{
		format: "plain", up: psql("up"), down: psql("down"),
		name:    func(step int) string { return fmt.Sprintf("%d.up.sql", step) },
		reverse: func(step int) string { return fmt.Sprintf("%d.down.sql", step) },
	},
	{
		format: "goose", own: "goose_db_version", up: gooses((*goose.Provider).Up), down: gooses(func(p *goose.Provider, ctx context.Context) ([]*goose.MigrationResult, error) {
			return p.DownTo(ctx, 0)
		}),
		name: func(step int) string { return fmt.Sprintf("%05d_orchestrator.sql", step) },
	},
	{
		format: "golang-migrate", own: "schema_migrations", up: golangMigrates((*migrate.Migrate).Up), down: golangMigrates((*migrate.Migrate).Down),
		name:    func(step int) string { return fmt.Sprintf("%d_orchestrator.up.sql", step) },
		reverse: func(step int) string { return fmt.Sprintf("%d_orchestrator.down.sql", step) },
	},
	{
		format: "tern", own: "tern_version", up: terns(-1), down: terns(0),
		name: func(step int) string { return fmt.Sprintf("%03d_orchestrator.sql", step) },
	},
}

// What another tool has run is what the library's own migrations make, whether in one file or in several, and they find nothing to do afterwards.
func TestOtherToolsMakeTheSameTables(t *testing.T) {
	for _, tool := range tools {
		for _, schema := range []string{"", "my-orchestrator"} {
			for name, versions := range map[string][]int{"at once": {0, migrations.Latest()}, "in steps": steps()} {
				t.Run(tool.format+"/"+schema+"/"+name, func(t *testing.T) {
					t.Parallel()
					files := exported(t, tool, schema, versions)
					db, dsn := database(t)
					before := dump(t, dsn, "")
					require.NoError(t, tool.up(t, dsn, files))
					assert.Equal(t, ownDump(t, schema), dump(t, dsn, tool.own))
					require.NoError(t, migrations.Check(t.Context(), db, schema))
					applied := appliedAt(t, db, schema)
					require.NoError(t, orchestrator.RunMigrations(db, withSchema(schema)...))
					assert.Equal(t, applied, appliedAt(t, db, schema), "the library's own migrations do nothing")

					require.NoError(t, tool.down(t, dsn, files))
					if schema != "" {
						_, err := db.Exec(t.Context(), "DROP SCHEMA "+pgx.Identifier{schema}.Sanitize())
						require.NoError(t, err, "nothing is left in it")
					}
					assert.Equal(t, before, dump(t, dsn, tool.own))
				})
			}
		}
	}
}

// A file for another version changes nothing, and says so.
func TestAnExportRefusesAnotherVersion(t *testing.T) {
	for _, tool := range tools {
		t.Run(tool.format, func(t *testing.T) {
			t.Parallel()
			db, dsn := database(t)
			require.NoError(t, orchestrator.RunMigrations(db))
			before := dump(t, dsn, tool.own)
			err := tool.up(t, dsn, exported(t, tool, "", []int{0, migrations.Latest()}))
			require.ErrorContains(t, err, "this file is for version 0 of the tables")
			assert.Equal(t, before, dump(t, dsn, tool.own))
		})
	}
}

// steps is every version.
func steps() (versions []int) {
	for v := range migrations.Latest() + 1 {
		versions = append(versions, v)
	}
	return versions
}

// exported is a file for each step from one version to the next.
func exported(t *testing.T, tool tool, schema string, versions []int) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	for i := range len(versions) - 1 {
		o := migrations.ExportOptions{Schema: schema, From: versions[i], To: versions[i+1], Format: tool.format}
		files[tool.name(i+1)] = &fstest.MapFile{Data: export(t, o)}
		if tool.reverse != nil {
			o.Down = true
			files[tool.reverse(i+1)] = &fstest.MapFile{Data: export(t, o)}
		}
	}
	return files
}

func export(t *testing.T, o migrations.ExportOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, migrations.Export(&b, o))
	return b.Bytes()
}

func withSchema(schema string) []orchestrator.Option {
	if schema == "" {
		return nil
	}
	return []orchestrator.Option{orchestrator.WithSchema(schema)}
}

func database(t *testing.T) (*pgxpool.Pool, string) {
	t.Helper()
	dsn := pgtest.NewDSN(t)
	db, err := pgxpool.New(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return db, dsn
}

// ownDump is what the library's own migrations make.
func ownDump(t *testing.T, schema string) string {
	t.Helper()
	db, dsn := database(t)
	require.NoError(t, orchestrator.RunMigrations(db, withSchema(schema)...))
	return dump(t, dsn, "")
}

// dump is the database's schema, as pg_dump writes it, without a tool's own table.
func dump(t *testing.T, dsn, without string) string {
	t.Helper()
	args := []string{"--schema-only", "--dbname", dsn}
	if without != "" {
		args = append(args, "--exclude-table", "*."+without+"*")
	}
	return strings.Join(settings(command(t, "pg_dump", args...)), "\n")
}

// settings leaves out of a dump what differs from call to call.
func settings(text string) (kept []string) {
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, `\restrict`) && !strings.HasPrefix(line, `\unrestrict`) {
			kept = append(kept, line)
		}
	}
	return kept
}

// command runs a program of PostgreSQL's.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := run(t, name, args...)
	require.NoError(t, err)
	return out
}

func run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	bin, err := pgtest.Find()
	require.NoError(t, err)
	out, err := exec.CommandContext(t.Context(), filepath.Join(bin, name), args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return string(out), nil
}

func appliedAt(t *testing.T, db *pgxpool.Pool, schema string) string {
	t.Helper()
	table := pgx.Identifier{migrations.VersionTable}
	if schema != "" {
		table = pgx.Identifier{schema, migrations.VersionTable}
	}
	var text string
	require.NoError(t, db.QueryRow(t.Context(), "SELECT string_agg(t::text, ' ' ORDER BY version) FROM "+table.Sanitize()+" AS t").Scan(&text))
	return text
}

func psql(ending string) func(*testing.T, string, fstest.MapFS) error {
	return func(t *testing.T, dsn string, files fstest.MapFS) error {
		t.Helper()
		for i := range len(files) / 2 {
			step := i + 1
			if ending == "down" {
				step = len(files)/2 - i
			}
			path := filepath.Join(t.TempDir(), "file.sql")
			require.NoError(t, os.WriteFile(path, files[fmt.Sprintf("%d.%s.sql", step, ending)].Data, 0o600))
			if _, err := run(t, "psql", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--quiet", "--dbname", dsn, "--file", path); err != nil {
				return err
			}
		}
		return nil
	}
}

func gooses(do func(*goose.Provider, context.Context) ([]*goose.MigrationResult, error)) func(*testing.T, string, fstest.MapFS) error {
	return func(t *testing.T, dsn string, files fstest.MapFS) error {
		t.Helper()
		db, err := sql.Open("pgx", dsn)
		require.NoError(t, err)
		defer db.Close()
		provider, err := goose.NewProvider(goose.DialectPostgres, db, files)
		require.NoError(t, err)
		_, err = do(provider, t.Context())
		return err
	}
}

func golangMigrates(do func(*migrate.Migrate) error) func(*testing.T, string, fstest.MapFS) error {
	return func(t *testing.T, dsn string, files fstest.MapFS) error {
		t.Helper()
		config, err := pgx.ParseConfig(dsn)
		require.NoError(t, err)
		driver, err := migratepgx.WithInstance(stdlib.OpenDB(*config), &migratepgx.Config{})
		require.NoError(t, err)
		source, err := iofs.New(files, ".")
		require.NoError(t, err)
		m, err := migrate.NewWithInstance("iofs", source, "pgx5", driver)
		require.NoError(t, err)
		err = do(m)
		sourceErr, databaseErr := m.Close()
		return errors.Join(err, sourceErr, databaseErr)
	}
}

// terns migrates to a version; -1 means the last.
func terns(to int32) func(*testing.T, string, fstest.MapFS) error {
	return func(t *testing.T, dsn string, files fstest.MapFS) error {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), dsn)
		require.NoError(t, err)
		defer conn.Close(context.WithoutCancel(t.Context()))
		m, err := tern.NewMigrator(t.Context(), conn, "public.tern_version")
		require.NoError(t, err)
		require.NoError(t, m.LoadMigrations(files))
		if to < 0 {
			return m.Migrate(t.Context())
		}
		return m.MigrateTo(t.Context(), to)
	}
}
