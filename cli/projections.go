package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	urfave "github.com/urfave/cli/v3"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// projections is the commands for projections.
func (a *app) projections() *urfave.Command {
	all := &urfave.BoolFlag{Name: "all", Usage: "all projections of the replica set"}
	return &urfave.Command{
		Name:  "projections",
		Usage: "look at projections, hold them back, and let them go on",
		Commands: []*urfave.Command{
			{Name: "list", Usage: "list the projections of the replica set, and how far they are", Action: a.listProjections},
			{
				Name: "pause", Usage: "hold a projection back", ArgsUsage: "PROJECTION",
				Description: "When the command has ended, nothing of the projection can commit any more. A pause\noutlasts restarts, crashes and other numbers of workers, until 'projections resume'\nor the time that --for or --until gives.",
				Flags: changing(all,
					&urfave.DurationFlag{Name: "for", Usage: "end the pause after this `time`, such as 30m"},
					&urfave.TimestampFlag{Name: "until", Usage: "end the pause at this `time`, such as 2026-05-01T06:00:00Z", Config: urfave.TimestampConfig{Layouts: []string{time.RFC3339}}},
					&urfave.DurationFlag{Name: "patience", Value: time.Minute, Usage: "wait at most this `duration` for a handler that runs"}),
				Action: a.pause, ShellComplete: a.completeProjections,
			},
			{
				Name: "resume", Usage: "end a pause, or a stop at an event that could not be handled", ArgsUsage: "PROJECTION",
				Description: "The event at which a projection stopped is tried again.",
				Flags:       changing(all), Action: a.resume, ShellComplete: a.completeProjections,
			},
			a.reset(),
			a.rebuildCommand(),
			a.waitCommand(),
			a.cutOver(),
			{
				Name: "move", Usage: "give a projection to another replica set", ArgsUsage: "PROJECTION",
				Description: "Restart the workers of this replica set without the projection first, and start workers of the\nother one with it afterwards. It goes on where it is.",
				Flags:       losing(&urfave.StringFlag{Name: "to", Usage: "`replica set` that gets the projection"}),
				Action:      a.move, ShellComplete: a.completeProjections,
			},
		},
	}
}

func (a *app) listProjections(ctx context.Context, c *urfave.Command) error {
	s, err := a.snapshot(ctx, c)
	if err != nil {
		return err
	}
	return printList(a, c, s.Projections, projectionColumns()...)
}

func projectionColumns() []column[admin.Projection] {
	return []column[admin.Projection]{
		{"projection", func(p admin.Projection) string { return p.Name }},
		{"state", projectionState},
		{"position", func(p admin.Projection) string { return strconv.FormatInt(p.Position, 10) }},
		{"lag", func(p admin.Projection) string { return lagText(p.Lag, p.LagExact) }},
		{"partitions", func(p admin.Projection) string { return strconv.Itoa(len(p.Partitions)) }},
		{"workers", func(p admin.Projection) string { return strconv.Itoa(p.Workers) }},
		{"parked", func(p admin.Projection) string { return strconv.Itoa(p.Parked.Aggregates) }},
		{"letters", func(p admin.Projection) string {
			return strconv.FormatInt(p.Parked.Events+p.Letters.Retrying+p.Letters.Stopped+p.Letters.Skipped, 10)
		}},
	}
}

// projectionState is what a person must know first.
func projectionState(p admin.Projection) string {
	switch {
	case p.ReplacedBy != "":
		return "replaced"
	case p.Stopped:
		return "stopped"
	case p.Paused:
		return "paused"
	case p.Workers == 0:
		return "not run"
	case p.Letters.Retrying > 0:
		return "retrying"
	case p.Replay:
		return "replaying"
	default:
		return "running"
	}
}

// target is the projection that is named, or all.
func target(c *urfave.Command) (admin.Target, error) {
	name := c.Args().First()
	switch {
	case c.Args().Len() > 1:
		return admin.Target{}, usage(c, fmt.Errorf("one projection is to be named, got %d arguments", c.Args().Len()))
	case c.Bool("all") && name != "":
		return admin.Target{}, usage(c, errors.New("--all and a projection exclude each other"))
	case !c.Bool("all") && name == "":
		return admin.Target{}, usage(c, errors.New("name the projection, or give --all"))
	}
	return admin.Target{Projection: name}, nil
}

func (a *app) pause(ctx context.Context, c *urfave.Command) error {
	t, err := target(c)
	if err != nil {
		return err
	}
	until := c.Timestamp("until")
	switch {
	case c.Duration("for") < 0:
		return usage(c, fmt.Errorf("--for must not be negative, got %s", c.Duration("for")))
	case c.Duration("for") > 0 && !until.IsZero():
		return usage(c, errors.New("--for and --until exclude each other"))
	case !until.IsZero() && !until.After(time.Now()):
		return usage(c, fmt.Errorf("--until must be in the future, got %s", moment(until)))
	case c.Duration("patience") <= 0:
		return usage(c, fmt.Errorf("--patience must be above 0, got %s", c.Duration("patience")))
	case c.Duration("for") > 0:
		until = time.Now().Add(c.Duration("for"))
	}
	what := fmt.Sprintf("pause %s", t)
	if !until.IsZero() {
		what += " until " + moment(until)
	}
	adm, err := a.admin(ctx, c)
	if err != nil {
		return err
	}
	if what, err = a.preview(ctx, c, adm, t, what); err != nil {
		return err
	}
	if ahead, err := a.goAhead(c, outcome{Projection: t.Projection}, what); !ahead {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Duration("patience"), fmt.Errorf("--patience (%s) has passed", c.Duration("patience")))
	defer cancel()
	if err := adm.Pause(ctx, t, c.String("reason"), until); err != nil {
		return known(ctx, adm, t.Projection, err)
	}
	did, ends := outcome{Action: "pause", Projection: t.Projection}, "until it is resumed"
	if !until.IsZero() {
		did.Until, ends = &until, "until "+moment(until)
	}
	return a.changed(c, did, "Paused %s %s. Nothing that is paused can commit any more.", t, ends)
}

func (a *app) resume(ctx context.Context, c *urfave.Command) error {
	t, err := target(c)
	if err != nil {
		return err
	}
	adm, err := a.admin(ctx, c)
	if err != nil {
		return err
	}
	did := outcome{Action: "resume", Projection: t.Projection}
	what, err := a.preview(ctx, c, adm, t, fmt.Sprintf("resume %s", t))
	if err != nil {
		return err
	}
	if ahead, err := a.goAhead(c, did, what); !ahead {
		return err
	}
	if s, err := adm.Snapshot(ctx); err == nil && nothingToResume(s, t) {
		return a.done(c, did, "Nothing was changed: %s is neither paused nor stopped.", t)
	}
	if err := adm.Resume(ctx, t, c.String("reason")); err != nil { // also where the role may not look
		return known(ctx, adm, t.Projection, err)
	}
	return a.changed(c, did, "Resumed %s.", t)
}

// nothingToResume says whether nothing of the target is held back. A cut-over that goes on holds projections further on, and what was replaced is refused.
func nothingToResume(s admin.Snapshot, t admin.Target) bool {
	list, err := targeted(s, t)
	return err == nil && !slices.ContainsFunc(list, func(p admin.Projection) bool { return p.Paused || p.Stopped || p.ReplacedBy != "" }) &&
		!slices.ContainsFunc(s.Operations, func(o admin.Operation) bool { return o.Kind == "cut-over" })
}

func (a *app) move(ctx context.Context, c *urfave.Command) error {
	name, err := projectionArgument(c)
	if err != nil {
		return err
	}
	to := c.String("to")
	if to == "" {
		return usage(c, errors.New("--to must name the replica set that gets the projection"))
	}
	adm, err := a.admin(ctx, c)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("move projection %q to replica set %q", name, to)
	what, err = a.previewed(ctx, c, adm, what, func() error { return adm.PreviewMove(ctx, name, to) }, name)
	if err != nil {
		return err
	}
	if yes, err := a.confirmed(ctx, c, outcome{Projection: name, ReplicaSet: to}, what); !yes {
		return err
	}
	if err := adm.Move(ctx, name, to, c.String("reason")); err != nil {
		return known(ctx, adm, name, err)
	}
	return a.changed(c, outcome{Action: "move", Projection: name, ReplicaSet: to}, "Projection %q belongs to replica set %q now.", name, to)
}

// completeProjections prints the names that an argument may have.
func (a *app) completeProjections(ctx context.Context, c *urfave.Command) {
	for _, p := range a.config.Projections {
		if p != nil {
			_, _ = fmt.Fprintln(c.Root().Writer, p.Name())
		}
	}
	urfave.DefaultCompleteWithFlags(ctx, c)
}
