package migrations

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestTheEmbeddedFilesAreComplete(t *testing.T) {
	t.Parallel()
	assert.GreaterOrEqual(t, Latest(), 1)
}

func TestRunMakesATablesSetThatCheckAccepts(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{"", "orchestration"} {
		t.Run(fmt.Sprintf("schema %q", schema), func(t *testing.T) {
			t.Parallel()
			db := pgtest.NewDatabase(t)
			err := Check(t.Context(), db, schema)
			require.ErrorIs(t, err, ErrMissing)
			require.ErrorContains(t, err, "orchestrator.RunMigrations(db)")

			require.NoError(t, Run(t.Context(), db, schema))
			require.NoError(t, Check(t.Context(), db, schema))
			require.NoError(t, Run(t.Context(), db, schema), "repeated")

			require.ErrorIs(t, Check(t.Context(), db, "elsewhere"), ErrMissing)
		})
	}
}

func TestCheckWorksInsideATransaction(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	err := pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
		require.ErrorIs(t, Check(t.Context(), tx, "nowhere"), ErrMissing)
		_, err := tx.Exec(t.Context(), "SELECT 1")
		return err // the transaction is not aborted
	})
	require.NoError(t, err)
}

func TestEverythingIsMadeInTheSchema(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	require.NoError(t, Run(t.Context(), db, "orchestration"))
	var outside int
	require.NoError(t, db.QueryRow(t.Context(), "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace").Scan(&outside))
	assert.Zero(t, outside)
}

// next is the library's migrations and one more.
func next(t *testing.T) set {
	t.Helper()
	all := fstest.MapFS{}
	entries, err := files.ReadDir(".")
	require.NoError(t, err)
	for _, entry := range entries {
		data, err := files.ReadFile(entry.Name())
		require.NoError(t, err)
		all[entry.Name()] = &fstest.MapFile{Data: data}
	}
	number := fmt.Sprintf("%06d", Latest()+1)
	all[number+"_next.up.sql"] = &fstest.MapFile{Data: []byte("ALTER TABLE {{schema}}orchestrator_workers ADD next int")}
	all[number+"_next.down.sql"] = &fstest.MapFile{Data: []byte("ALTER TABLE {{schema}}orchestrator_workers DROP next")}
	return set{files: all, shapes: strings.Replace(shapes, "table orchestrator_workers\n", "table orchestrator_workers\ncolumn next integer\n", 1)}
}

// Who has the tables of an earlier version is told, and keeps what they say.
func TestAnEarlierVersionIsBroughtUpToDate(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	require.NoError(t, Run(t.Context(), db, ""))
	_, err := db.Exec(t.Context(), `
		INSERT INTO orchestrator_workers (worker_id, replica_set, name, state, projections, hostname, process_id, library_version)
		VALUES (gen_random_uuid(), 'set', 'w', 'pending', '{}', 'h', 1, 'v')`)
	require.NoError(t, err)
	_, err = next(t).locate(t.Context(), db, "")
	require.ErrorIs(t, err, ErrOutdated)
	require.NoError(t, next(t).run(t.Context(), db, ""))
	_, err = next(t).locate(t.Context(), db, "")
	require.NoError(t, err)
	require.ErrorIs(t, Check(t.Context(), db, ""), ErrNewer)
	var kept int
	require.NoError(t, db.QueryRow(t.Context(), "SELECT count(*) FROM orchestrator_workers").Scan(&kept))
	assert.Equal(t, 1, kept)
}

func TestDownTakesEverythingBack(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	require.NoError(t, Run(t.Context(), db, "orchestration"))
	require.NoError(t, Down(t.Context(), db, "orchestration", Latest()))
	rows, err := db.Query(t.Context(), "SELECT relname FROM pg_class WHERE relnamespace = 'orchestration'::regnamespace AND relkind = 'r'")
	require.NoError(t, err)
	left, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	assert.Equal(t, []string{VersionTable}, left)
	require.ErrorIs(t, Check(t.Context(), db, "orchestration"), ErrMissing)
	require.NoError(t, Run(t.Context(), db, "orchestration"))
	require.ErrorContains(t, Down(t.Context(), db, "orchestration", 0), "steps must be at least 1")
}

func TestANewerDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	require.NoError(t, Run(t.Context(), db, ""))
	_, err := db.Exec(t.Context(), "INSERT INTO orchestrator_schema_version (version, name) VALUES ($1, 'future')", Latest()+1)
	require.NoError(t, err)
	for _, err := range []error{Check(t.Context(), db, ""), Run(t.Context(), db, ""), Down(t.Context(), db, "", 1)} {
		require.ErrorIs(t, err, ErrNewer)
	}
}

func TestTenProcessesRunAtOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { assert.NoError(t, Run(t.Context(), db, "orchestration")) })
	}
	wg.Wait()
	require.NoError(t, Check(t.Context(), db, "orchestration"))
}

func TestAVersionIsJudged(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		version int
		want    error
		text    string
	}{
		{"no tables", 0, ErrMissing, "create them with orchestrator.RunMigrations(db)"},
		{"older", 1, ErrOutdated, "update them with orchestrator.RunMigrations(db) (they are at version 1 of 3)"},
		{"the same", 3, nil, ""},
		{"newer", 4, ErrNewer, "orchestrator.RunMigrations(db) of the newer version made them (they are at version 4, the program knows versions up to 3)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := judge(tt.version, 3, "app")
			require.ErrorIs(t, err, tt.want)
			if tt.want != nil {
				require.ErrorContains(t, err, tt.text)
			}
		})
	}
}

func TestABadSchemaNameIsRefused(t *testing.T) {
	t.Parallel()
	const want = "Schema must consist of letters, digits, underscores and hyphens"
	require.ErrorContains(t, Run(t.Context(), nil, "a;b"), want)
	require.ErrorContains(t, Down(t.Context(), nil, "a.b", 1), want)
	require.ErrorContains(t, Check(t.Context(), nil, `a"b`), want)
}
