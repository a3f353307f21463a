package docs

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// newTables is a database with all tables of the library.
func newTables(t *testing.T) *pgxpool.Pool {
	t.Helper()
	db := pgtest.NewDatabase(t)
	require.NoError(t, eventstore.RunMigrations(db))
	require.NoError(t, orchestrator.RunMigrations(db))
	return db
}

func TestSQLRuns(t *testing.T) {
	db := newTables(t)
	ran := 0
	for _, d := range documents(t) {
		for _, b := range d.blocks {
			if b.language == "sql" {
				assert.NoError(t, runSQL(t.Context(), db, d, b))
				ran++
			}
		}
	}
	assert.Positive(t, ran)
}

// runSQL says why the statements of a block do not run. They change nothing.
func runSQL(ctx context.Context, db *pgxpool.Pool, d document, b block) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if _, err := tx.Exec(ctx, "CREATE ROLE worker; CREATE ROLE writer; CREATE ROLE reader; CREATE TABLE order_counts (customer text, orders int)"); err != nil { // as the documents call them
		return err
	}
	for statement := range strings.SplitSeq(b.text, ";\n") {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", d.at(b.line), err)
		}
	}
	return nil
}

func TestSQLThatDoesNotRunIsFound(t *testing.T) {
	db := newTables(t)
	for text, problem := range map[string]string{
		"SELECT * FROM orchestrator_workers;\nSELECT position FROM orchestrator_checkpoints;\n": "",
		"SELECT 1;\nSELECT nothing FROM orchestrator_workers;\n":                                `a.md:3: ERROR: column "nothing" does not exist`,
		"SELECT 1 FROM orchestrator_workers\nSELECT 2;\n":                                       "a.md:3: ERROR: syntax error",
	} {
		err := runSQL(t.Context(), db, document{path: "a.md"}, block{language: "sql", text: text, line: 3})
		if problem == "" {
			assert.NoError(t, err)
		} else {
			assert.ErrorContains(t, err, problem)
		}
	}
}
