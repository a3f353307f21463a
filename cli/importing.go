package cli

import (
	"context"
	"fmt"
	"strconv"

	urfave "github.com/urfave/cli/v3"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// This file has the arguments and the output of the command import-checkpoints. admin.ImportCheckpoints does the work.

// importing is the command's name.
const importing = "import-checkpoints"

// importCommand is the command that goes on where a manual runner has stopped.
func (a *app) importCommand() *urfave.Command {
	return &urfave.Command{
		Name: importing, Usage: "go on where a manual runner of a projection has stopped", ArgsUsage: "PROJECTION",
		Description: "The rows of this library's manual runner become the replica set's checkpoints, exactly, and\nare deleted, which ends processors that still run. pupsourcing's rows of partitions are taken at\ntheir lowest position, so events may be handled again: stop its processors first, when all have\nreached one position.",
		Flags:       losing(), Action: a.importCheckpoints, ShellComplete: a.completeProjections,
	}
}

func (a *app) importCheckpoints(ctx context.Context, c *urfave.Command) error {
	name, err := projectionArgument(c)
	if err != nil {
		return err
	}
	if _, err := form(c); err != nil {
		return err
	}
	if a.value(c, "replica-set", "PUPSOURCING_REPLICA_SET") == "" {
		return usage(c, fmt.Errorf("say with --replica-set which replica set is to run the projection"))
	}
	adm, err := a.admin(ctx, c)
	if err != nil {
		return err
	}
	planned, err := adm.PreviewImport(ctx, name)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		a.say("Would hand projection %q over from its manual runner. Nothing was changed.", name)
		return a.printImport(c, importResult{Import: planned, DryRun: true})
	}
	what := fmt.Sprintf("hand projection %q over from its manual runner: %s, the lowest at %d, and %s may be handled again",
		name, counted(len(planned.Rows), "row", "rows"), planned.Position, counted(planned.MayRepeat, "event", "events"))
	if yes, err := a.confirmed(ctx, c, outcome{Projection: name}, what); !yes {
		return err
	}
	done, err := adm.ImportCheckpoints(ctx, name, c.String("reason"))
	if err != nil {
		return err
	}
	return a.printImport(c, importResult{Import: done})
}

// importResult is an import, as JSON has it.
type importResult struct {
	admin.Import
	DryRun bool `json:"dry_run,omitempty"`
}

// printImport prints what came of an import, or would.
func (a *app) printImport(c *urfave.Command, done importResult) error {
	fields := [][2]string{
		{"operation", strconv.FormatInt(done.Operation, 10)},
		{"position", strconv.FormatInt(done.Position, 10)},
		{"may repeat", counted(done.MayRepeat, "event", "events")},
	}
	for _, row := range done.Rows {
		fields = append(fields, [2]string{"row", fmt.Sprintf("%s at %d", row.Name, row.Position)})
	}
	if done.Advice != "" {
		fields = append(fields, [2]string{"advice", done.Advice})
	}
	return printOne(a, c, done, fields...)
}
