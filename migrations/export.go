package migrations

import (
	"context"
	"fmt"
	"io"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/migrate"
)

// ExportOptions configures Export.
type ExportOptions struct {
	// Schema is the schema of the tables. The exported file creates it if it is missing. If Schema is empty, the file
	// names the tables without a schema, and the search_path of the session that runs the file decides.
	Schema string
	// From is the version that the database has. The default, 0, is a database without the tables. To is the version
	// that it will have. To must be above From. The default, 0, means the latest.
	From, To int
	// Down exports the way back instead, from To to From. It must be false for goose and tern, whose files contain both
	// directions.
	Down bool
	// Format is the tool that will run the file: "plain" for psql (the default), "goose", "golang-migrate" or "tern".
	Format string
}

// Export writes the orchestrator's migrations as one SQL file for another migration tool. The file also records the
// versions. Afterwards RunMigrations has nothing to do, and Run finds the tables that it needs. The file is one
// transaction. It refuses a database whose tables are not at version From, or, on the way back, at To. It does not touch
// the event store's tables. If an option breaks its rule, the error names it.
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

// State is the migration state of a database.
type State struct {
	// Schema is the schema of the tables, or the one in which they would be created.
	Schema string `json:"schema"`
	// Version is the last migration that was applied. It is 0 if there are no tables. Latest is the last migration of
	// this program.
	Version int `json:"version"`
	Latest  int `json:"latest"`
}

// Status returns the migration state of a database. Unlike Check, it accepts any version and does not look at the
// tables. An empty schema means the connection's search_path.
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
