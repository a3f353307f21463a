package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	urfave "github.com/urfave/cli/v3"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// Config configures the command line. The zero value is that of a standalone program.
type Config struct {
	// Stdin, Stdout and Stderr are the streams. Nil means the process's own. Results go to Stdout. Questions, progress
	// and errors go to Stderr.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Getenv reads an environment variable. Nil means os.Getenv.
	Getenv func(string) string
	// Connect opens the pool. Run closes it when the command has ended. If Connect is nil, the connection comes from the
	// flag --database, from DATABASE_URL, or from the variables of PostgreSQL's own programs, such as PGHOST.
	Connect func(context.Context) (*pgxpool.Pool, error)
	// EventStore is the event store. If it is nil, the flags --events-schema and --events-table name its tables.
	EventStore *eventstore.Store
	// Projections are the program's projections. The shell completion offers their names. They are optional.
	Projections []projection.Projection
}

// Run runs a command and returns the exit code. args are the arguments after the program's name, as in os.Args[1:]; Run
// also accepts all of os.Args. It never ends the process. When ctx ends, the command ends.
func Run(ctx context.Context, args []string, c Config) (exitCode int) {
	if len(args) > 0 && len(os.Args) > 0 && args[0] == os.Args[0] {
		args = args[1:]
	}
	a := &app{config: c.withDefaults()}
	defer a.close()
	name := "pupsourcing-orchestrator"
	if len(os.Args) > 0 && os.Args[0] != "" {
		name = filepath.Base(os.Args[0])
	}
	a.json = wantsJSON(args)
	root := a.root(name)
	err := root.Run(ctx, append([]string{name}, asksForHelp(root, args)...))
	return a.end(ctx, name, err)
}

// wantsJSON says whether the arguments ask for JSON, also where they are wrong otherwise.
func wantsJSON(args []string) bool {
	for i, arg := range args {
		flag, value, joined := strings.Cut(arg, "=")
		if !joined && i+1 < len(args) {
			value = args[i+1]
		}
		if value == "json" && slices.Contains([]string{"-o", "--o", "-output", "--output"}, flag) {
			return true
		}
	}
	return false
}

// asksForHelp is the arguments; where --help is among them, or the first is help, those that show the help of the command that is named before anything else.
// A command that there is not stays, so that it is refused.
func asksForHelp(root *urfave.Command, args []string) []string {
	asks := slices.Contains(args, "--help") || slices.Contains(args, "-h")
	for len(args) > 0 && args[0] == "help" {
		asks, args = true, args[1:]
	}
	if !asks || slices.Contains(args, "--generate-shell-completion") {
		return args
	}
	var path []string
	for command := root; len(args) > 0; args = args[1:] {
		if strings.HasPrefix(args[0], "-") {
			if len(args) > 1 && takesNext(root, command, args[0]) {
				args = args[1:]
			}
			continue
		}
		below := command.Command(args[0])
		switch {
		case below != nil:
			command, path = below, append(path, args[0])
			continue
		case len(command.Commands) > 0:
			return append(path, args[0])
		}
		break
	}
	return append(path, "--help")
}

// takesNext says whether the argument after a flag of one of the commands is the flag's value.
func takesNext(root, command *urfave.Command, flag string) bool {
	name := strings.TrimLeft(flag, "-")
	for _, f := range slices.Concat(root.Flags, command.Flags) {
		if documented, ok := f.(urfave.DocGenerationFlag); ok && slices.Contains(f.Names(), name) {
			return documented.TakesValue()
		}
	}
	return false
}

func (c Config) withDefaults() Config {
	if c.Stdin == nil {
		c.Stdin = os.Stdin
	}
	if c.Stdout == nil {
		c.Stdout = os.Stdout
	}
	if c.Stderr == nil {
		c.Stderr = os.Stderr
	}
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	return c
}

// app is one run of a command.
type app struct {
	config Config
	pool   *pgxpool.Pool // nil before it is needed
	json   bool          // errors are printed as JSON too
}

// root is the command of all others.
func (a *app) root(name string) *urfave.Command {
	root := &urfave.Command{
		Name:  name,
		Usage: "look at workers that share projections, and operate them",
		Description: `Every command that changes a replica set records who did it, when, what and why in
the table orchestrator_operations. Commands that lose something ask first, or need --yes.

Exit codes: 0 yes or done, 1 failed, 2 the command line is wrong, 3 a condition does not
hold, 4 not confirmed.`,
		Version:               pgcoord.LibraryVersion(),
		Reader:                a.config.Stdin,
		Writer:                a.config.Stdout,
		ErrWriter:             a.config.Stderr,
		EnableShellCompletion: true,
		Suggest:               true,
		HideHelpCommand:       true,
		ExitErrHandler:        func(context.Context, *urfave.Command, error) {}, // Run returns the code
		ConfigureShellCompletionCommand: func(c *urfave.Command) {
			c.Hidden, c.Usage = false, "print a script that completes commands in bash, zsh, fish or PowerShell (pwsh)"
			a.finish(c)
			c.Action = a.noShell
		},
		Flags: []urfave.Flag{
			&urfave.StringFlag{Name: "database", Usage: "`URL` of the database; default: DATABASE_URL, or PGHOST and its like"},
			&urfave.StringFlag{Name: "schema", Usage: "`schema` of the orchestrator's tables; default: PUPSOURCING_SCHEMA, or as the search_path says"},
			&urfave.StringFlag{Name: "replica-set", Aliases: []string{"r"}, Usage: "`name` of the replica set; default: PUPSOURCING_REPLICA_SET, or the only one"},
			&urfave.StringFlag{Name: "events-schema", Usage: "`schema` of the events table; default: PUPSOURCING_EVENTS_SCHEMA, or as the search_path says"},
			&urfave.StringFlag{Name: "events-table", Usage: "`name` of the events table; default: PUPSOURCING_EVENTS_TABLE, or events"},
			&urfave.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`form` of the result: table, plain (tabs between columns, no heading) or json"},
			&urfave.StringFlag{Name: "actor", Usage: "`name` of the person who acts, for orchestrator_operations; default: the user and the host"},
		},
		Commands: slices.Concat(a.looking(), a.inspecting(), []*urfave.Command{a.projections(), a.deadLetters(), a.workers(), a.importCommand(), a.migrate(), a.events(), a.healthcheck(), a.serve()}),
	}
	a.finish(root)
	return root
}

// finish sets on a command and those below it what all have.
func (a *app) finish(c *urfave.Command) {
	c.OnUsageError = func(_ context.Context, c *urfave.Command, err error, _ bool) error { return usage(c, err) }
	c.HideHelpCommand = true
	if c.Action == nil {
		c.Action = a.noCommand
	}
	for _, sub := range c.Commands {
		a.finish(sub)
	}
}

func (a *app) close() {
	if a.pool != nil {
		a.pool.Close()
	}
}
