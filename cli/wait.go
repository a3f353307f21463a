package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	urfave "github.com/urfave/cli/v3"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
)

// waitCommand is the command that waits for a projection.
func (a *app) waitCommand() *urfave.Command {
	return &urfave.Command{
		Name: "wait", Usage: "wait until a projection has handled what is appended now; the exit code is 3 if it does not in time", ArgsUsage: "PROJECTION",
		Description: "Nothing is waited for that needs a person: a projection that is paused or stopped, or that\nnobody runs, ends the command at once.",
		Flags: []urfave.Flag{
			&urfave.Int64Flag{Name: "position", Usage: "wait for this `position`; default: that of the last event"},
			&urfave.DurationFlag{Name: "timeout", Value: time.Minute, Usage: "`how long` to wait"},
		},
		Action: a.wait, ShellComplete: a.completeProjections,
	}
}

func (a *app) wait(ctx context.Context, c *urfave.Command) error {
	name, err := projectionArgument(c)
	if err != nil {
		return err
	}
	position, timeout := c.Int64("position"), c.Duration("timeout")
	switch {
	case position < 0:
		return usage(c, fmt.Errorf("--position must not be negative, got %d", position))
	case timeout <= 0:
		return usage(c, fmt.Errorf("--timeout must be above 0, got %s", timeout))
	}
	db, err := a.database(ctx, c)
	if err != nil {
		return err
	}
	if position == 0 {
		if position, err = a.eventStore(c).LatestPosition(ctx, db); err != nil {
			return err
		}
	}
	options := append(a.schemaOption(c), orchestrator.WithLogger(slog.New(slog.DiscardHandler)))
	orch, err := orchestrator.New(db, a.eventStore(c), "of no matter", options...) // a wait is for any replica set
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = orch.WaitFor(limited, name, position)
	switch {
	case err == nil:
		return a.done(c, outcome{Action: "wait", Projection: name, Position: &position}, "Projection %q has handled position %d.", name, position)
	case ctx.Err() != nil:
		return err
	case limited.Err() != nil, errors.Is(err, orchestrator.ErrNotRunning), errors.Is(err, orchestrator.ErrProjectionPaused),
		errors.Is(err, orchestrator.ErrProjectionStopped), errors.Is(err, orchestrator.ErrAggregateParked), errors.Is(err, orchestrator.ErrProjectionReplaced):
		return errors.Join(a.done(c, outcome{Action: "wait", Projection: name, Position: &position}, "%v", err), errFalse)
	}
	return err
}
