package invoices

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
)

// testDatabase is a database with the library's tables and the read model's, on the server that TEST_DATABASE_URL names. It is dropped when the test ends.
func testDatabase(t *testing.T) *pgxpool.Pool {
	t.Helper()
	url := os.Getenv("TEST_DATABASE_URL")
	if url == "" {
		t.Skip("set TEST_DATABASE_URL to a PostgreSQL server, for example postgres://localhost/postgres")
	}
	ctx := context.WithoutCancel(t.Context())
	server, err := pgxpool.New(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	name := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if _, err := server.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = server.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)") })
	config := server.Config()
	config.ConnConfig.Database = name
	db, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	_, err = db.Exec(ctx, Table)
	if err := errors.Join(err, eventstore.RunMigrations(db), orchestrator.RunMigrations(db)); err != nil {
		t.Fatal(err)
	}
	return db
}
