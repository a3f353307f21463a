package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"github.com/jackc/pgx/v5/pgxpool"
	urfave "github.com/urfave/cli/v3"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
)

// migrate is the commands for the tables.
func (a *app) migrate() *urfave.Command {
	return &urfave.Command{
		Name:  "migrate",
		Usage: "make and change the tables",
		Commands: []*urfave.Command{
			{
				Name: "up", Usage: "bring the orchestrator's tables to this program's version",
				Description: "Does what orchestrator.RunMigrations does. It may run at any time, also beside workers\nof this version. With --event-store it makes the tables of the events as well.",
				Flags: []urfave.Flag{
					&urfave.BoolFlag{Name: "event-store", Usage: "make the event store's tables first"},
					&urfave.BoolFlag{Name: "dry-run", Usage: "say which versions are missing, and do nothing"},
				},
				Action: a.migrateUp,
			},
			{
				Name: "down", Usage: "revert the newest migrations, and lose what their tables hold",
				Description: "Stop the workers first. Going back by all versions drops the checkpoints: every\nprojection begins at the start of the stream then.",
				Flags:       losing(&urfave.IntFlag{Name: "steps", Value: 1, Usage: "`how many` versions to go back"}),
				Action:      a.migrateDown,
			},
			{Name: "status", Usage: "say which version the tables have; the exit code is 3 if it is not this program's", Action: a.migrateStatus},
			{
				Name: "export", Usage: "write the migrations as a file for psql, goose, golang-migrate or tern",
				Description: "The file also records the versions, so that 'migrate up' has nothing to do afterwards.\nNothing is read from a database.",
				Flags: []urfave.Flag{
					&urfave.StringFlag{Name: "format", Value: "plain", Usage: "`tool`: plain, goose, golang-migrate or tern"},
					&urfave.IntFlag{Name: "from", Usage: "`version` that the database is at; 0 where there are no tables"},
					&urfave.IntFlag{Name: "to", Usage: "`version` that it is to have; default: the latest"},
					&urfave.BoolFlag{Name: "down", Usage: "write the way back; goose's and tern's files have both"},
					&urfave.StringFlag{Name: "file", Usage: "`path` to write to; default: the standard output"},
				},
				Action: a.migrateExport,
			},
		},
	}
}

// noArguments refuses arguments.
func noArguments(c *urfave.Command) error {
	if c.Args().Present() {
		return usage(c, fmt.Errorf("%s takes no argument, got %q", c.Name, c.Args().First()))
	}
	return nil
}

// schemaOption names the schema of the orchestrator's tables where one is given.
func (a *app) schemaOption(c *urfave.Command) []orchestrator.Option {
	if schema := a.schema(c); schema != "" {
		return []orchestrator.Option{orchestrator.WithSchema(schema)}
	}
	return nil
}

// tables connects and says which version the tables have, for a command without arguments.
func (a *app) tables(ctx context.Context, c *urfave.Command) (*pgxpool.Pool, migrations.State, error) {
	if err := noArguments(c); err != nil {
		return nil, migrations.State{}, err
	}
	db, err := a.database(ctx, c)
	if err != nil {
		return nil, migrations.State{}, err
	}
	state, err := migrations.Status(ctx, db, a.schema(c))
	return db, state, err
}

func (a *app) migrateUp(ctx context.Context, c *urfave.Command) error {
	db, before, err := a.tables(ctx, c)
	if err != nil {
		return err
	}
	if before.Version < before.Latest {
		if ahead, err := a.goAhead(c, outcome{}, fmt.Sprintf("bring the tables from version %d to %d", before.Version, before.Latest)); !ahead {
			return err
		}
	}
	if c.Bool("dry-run") {
		return a.done(c, outcome{Action: "up", DryRun: true}, "The tables are at version %d: there is nothing to do.", before.Version)
	}
	if c.Bool("event-store") {
		if err := a.makeEventTables(ctx, c); err != nil {
			return err
		}
	}
	if err := orchestrator.RunMigrationsContext(ctx, db, append(a.schemaOption(c), orchestrator.WithLogger(a.logger()))...); err != nil {
		return err
	}
	return a.migrateStatus(ctx, c)
}

func (a *app) makeEventTables(ctx context.Context, c *urfave.Command) error {
	if a.config.EventStore != nil {
		return usage(c, errors.New("--event-store: this program has an event store of its own, which eventstore.RunMigrations makes"))
	}
	return eventstore.RunMigrationsContext(ctx, a.pool, append(a.eventStoreOptions(c), eventstore.WithLogger(a.logger()))...)
}

// logger logs migrations.
func (a *app) logger() *slog.Logger { return slog.New(slog.NewTextHandler(a.config.Stderr, nil)) }

func (a *app) migrateDown(ctx context.Context, c *urfave.Command) error {
	steps := c.Int("steps")
	if steps < 1 {
		return usage(c, fmt.Errorf("--steps must be at least 1, got %d", steps))
	}
	db, before, err := a.tables(ctx, c)
	if err != nil {
		return err
	}
	to := max(0, before.Version-steps)
	if yes, err := a.confirmed(ctx, c, outcome{}, fmt.Sprintf("take the tables back from version %d to %d, and lose what they hold of the later ones", before.Version, to)); !yes {
		return err
	}
	if err := migrations.Down(ctx, db, a.schema(c), steps, migrations.WithLogger(a.logger())); err != nil {
		return err
	}
	err = a.migrateStatus(ctx, c)
	if errors.Is(err, errFalse) {
		return nil // that was the purpose
	}
	return err
}

func (a *app) migrateStatus(ctx context.Context, c *urfave.Command) error {
	_, s, err := a.tables(ctx, c)
	if err != nil {
		return err
	}
	if err := printOne(a, c, s,
		[2]string{"schema", orDash(s.Schema)}, [2]string{"version", strconv.Itoa(s.Version)}, [2]string{"latest", strconv.Itoa(s.Latest)}); err != nil {
		return err
	}
	if s.Version != s.Latest {
		return errFalse
	}
	return nil
}

func (a *app) migrateExport(_ context.Context, c *urfave.Command) (err error) {
	if err := noArguments(c); err != nil {
		return err
	}
	o := migrations.ExportOptions{Schema: a.schema(c), From: c.Int("from"), To: c.Int("to"), Down: c.Bool("down"), Format: c.String("format")}
	path := c.String("file")
	if path == "" {
		return usageOf(c, migrations.Export(a.config.Stdout, o))
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // migrations are no secret
	if err != nil {
		return fmt.Errorf("writing the migrations: %w", err)
	}
	err = migrations.Export(file, o)
	if closeErr := file.Close(); err == nil && closeErr != nil {
		return fmt.Errorf("writing the migrations: %w", closeErr)
	}
	if err != nil {
		_ = os.Remove(path)
	}
	return usageOf(c, err)
}

// usageOf takes an error for that of the command line.
func usageOf(c *urfave.Command, err error) error {
	if err == nil {
		return nil
	}
	return usage(c, err)
}
