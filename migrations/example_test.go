package migrations_test

import (
	"bytes"
	"context"
	"fmt"

	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// A project that uses goose takes the tables into its own migrations.
func ExampleExport() {
	var file bytes.Buffer
	if err := migrations.Export(&file, migrations.ExportOptions{Schema: "projections", Format: "goose"}); err != nil {
		panic(err)
	}
	fmt.Println("goose finds both directions:", bytes.Contains(file.Bytes(), []byte("-- +goose Up")), bytes.Contains(file.Bytes(), []byte("-- +goose Down")))
	// Output: goose finds both directions: true true
}

// A program can look whether the database is up to date before it starts anything.
func ExampleStatus() {
	db, end := pgtest.ForExample() // a *pgxpool.Pool
	defer end()
	ctx := context.Background()
	if err := migrations.Run(ctx, db, ""); err != nil { // as orchestrator.RunMigrations does
		panic(err)
	}
	state, err := migrations.Status(ctx, db, "")
	if err != nil {
		panic(err)
	}
	fmt.Println("up to date:", state.Version == state.Latest)
	// Output: up to date: true
}
