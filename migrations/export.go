package migrations

import (
	"context"
	"fmt"
	"io"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/migrate"
)

// ExportOptions says what Export writes.
type ExportOptions struct {
	// Schema is the schema that the tables go to. The exported file creates it if it is missing. Empty means that the tables' names are without a schema, and
	// the search_path of whoever runs the file decides.
	Schema string
	// From is the version that the database is at. The default, 0, is a database without the tables. To is the version that it is to have; it must be
	// above From. The default, 0, means the latest.
	From, To int
	// Down exports the way back instead, from To to From. It must be false for goose and tern, whose files have both directions.
	Down bool
	// Format is the tool that will run the file: "plain" for psql, which is the default, "goose", "golang-migrate" or "tern".
	Format string
}

// Export writes the orchestrator's migrations as one SQL file for another migration tool. The file also records the versions, so that RunMigrations has nothing
// to do afterwards, and Run finds the tables that it needs. It is one transaction. It refuses a database whose tables are not at version From, or, on the way
// back, To. It does not touch the event store's tables. An error names the option that breaks its rule.
func Export(w io.Writer, o ExportOptions) error {
	if err := ValidateSchema("Schema", o.Schema); err != nil {
		return fmt.Errorf("exporting the migrations: %w", err)
	}
	runner, err := embedded.runner(o.Schema)
	if err == nil {
		err = runner.Export(w, migrate.ExportOptions{From: o.From, To: o.To, Down: o.Down, Format: o.Format})
	}
	if err != nil {
		return fmt.Errorf("exporting the migrations: %w", err)
	}
	return nil
}

// State is how far a database is.
type State struct {
	// Schema is where the tables are, or where they would be made.
	Schema string `json:"schema"`
	// Version is the last migration that was applied; 0 where there are no tables. Latest is the last one of this program.
	Version int `json:"version"`
	Latest  int `json:"latest"`
}

// Status says how far a database is. Unlike Check it takes any version, and does not look at the tables. An empty schema means the connection's search_path.
func Status(ctx context.Context, db DB, schema string) (State, error) {
	runner, err := embedded.runner(schema)
	if err != nil {
		return State{}, err
	}
	found, err := runner.State(ctx, db)
	if err != nil {
		return State{}, fmt.Errorf("looking for the version of the orchestrator's tables: %w", named(err))
	}
	return State{Schema: found.Schema, Version: found.Version, Latest: runner.Latest()}, nil
}
