package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v3"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// looking are the commands that look at the replica set as it is.
func (a *app) looking() []*urfave.Command {
	return []*urfave.Command{
		{
			Name: "status", Usage: "show workers, projections, and what holds them up",
			Flags: []urfave.Flag{
				&urfave.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "show it again and again: at a terminal it is redrawn, elsewhere each time is a line"},
				&urfave.DurationFlag{Name: "interval", Value: 2 * time.Second, Usage: "`time` between two looks of --watch"},
				allWorkers(),
			},
			Action: a.status,
		},
		{
			Name: "lag", Usage: "say how many events projections have yet to handle", ArgsUsage: "[PROJECTION...]",
			Description: "Events out of a projection's scope count too. Beyond 2,000 events the lag is an estimate,\nmarked with ~.",
			Flags:       []urfave.Flag{&urfave.Int64Flag{Name: "fail-above", Value: -1, Usage: "exit with 3 if a lag is above this `number` of events"}},
			Action:      a.lag, ShellComplete: a.completeProjections,
		},
		{Name: "generations", Usage: "list the latest generations, and why they were made", Action: a.generations},
	}
}

// snapshot is the replica set as it is, for a command without arguments.
func (a *app) snapshot(ctx context.Context, c *urfave.Command) (admin.Snapshot, error) {
	adm, err := a.withoutArguments(ctx, c)
	if err != nil {
		return admin.Snapshot{}, err
	}
	return adm.Snapshot(ctx)
}

func (a *app) status(ctx context.Context, c *urfave.Command) error {
	if interval := c.Duration("interval"); interval < leastInterval {
		return usage(c, fmt.Errorf("--interval must be at least %s, got %s", leastInterval, interval))
	}
	adm, err := a.withoutArguments(ctx, c)
	if err != nil {
		return err
	}
	if c.Bool("watch") {
		return a.watch(ctx, c, adm)
	}
	s, err := adm.Snapshot(ctx)
	if err != nil {
		return err
	}
	return a.printStatus(c, recent(c, s))
}

// leastInterval is the least between two looks.
const leastInterval = 100 * time.Millisecond

// watch shows the status until ctx ends. What a terminal shows is redrawn.
func (a *app) watch(ctx context.Context, c *urfave.Command, adm *admin.Admin) error {
	interval := c.Duration("interval")
	redraw := isTerminal(a.config.Stdout) && c.String("output") == "table"
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		s, err := adm.Snapshot(ctx)
		s = recent(c, s)
		switch {
		case ctx.Err() != nil:
			return nil // that is how it ends
		case err != nil:
			return err
		case redraw:
			_, _ = io.WriteString(a.config.Stdout, "\x1b[H\x1b[2J")
			err = a.printStatus(c, s)
		case c.String("output") == "json":
			err = a.printJSON(s)
		default:
			_, err = fmt.Fprintln(a.config.Stdout, summary(s))
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// summary is a snapshot in a line.
func summary(s admin.Snapshot) string {
	running, lags := 0, make([]string, 0, len(s.Projections))
	for _, w := range s.Workers {
		if w.State == "running" && w.SilentFor(s.At) == 0 {
			running++
		}
	}
	for _, p := range s.Projections {
		lags = append(lags, fmt.Sprintf("%s=%s", oneLine(p.Name), lagText(p.Lag, p.LagExact)))
	}
	return fmt.Sprintf("%s workers=%d generation=%s horizon=%d lag: %s", moment(s.At), running, generationText(s), s.Horizon.Position, orDash(strings.Join(lags, " ")))
}

func generationText(s admin.Snapshot) string {
	if s.Generation == nil {
		return "-"
	}
	return strconv.FormatInt(s.Generation.Number, 10)
}

// lagText is a lag; ~ says that it is an estimate.
func lagText(lag int64, exact bool) string {
	if exact {
		return strconv.FormatInt(lag, 10)
	}
	return "~" + strconv.FormatInt(lag, 10)
}

func (a *app) printStatus(c *urfave.Command, s admin.Snapshot) error {
	if c.String("output") == "json" {
		return a.printJSON(s)
	}
	fields := [][2]string{{"replica set", s.ReplicaSet}, {"generation", generationOf(s)}, {"horizon", horizonOf(s)}}
	if err := printOne(a, c, s, append(fields, troubles(s)...)...); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(a.config.Stdout)
	if err := printList(a, c, s.Workers, workerColumns(s.At)...); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(a.config.Stdout)
	return printList(a, c, s.Projections, projectionColumns()...)
}

func generationOf(s admin.Snapshot) string {
	if s.Generation == nil {
		return "none: no worker has run yet"
	}
	g := s.Generation
	return fmt.Sprintf("%d, %s, since %s: %s", g.Number, g.State, momentOf(g.ActivatedAt), orDash(g.Reason))
}

func horizonOf(s admin.Snapshot) string {
	text := strconv.FormatInt(s.Horizon.Position, 10)
	if last := s.Horizon.LastAllocated; last != nil && *last > s.Horizon.Position {
		text += fmt.Sprintf(" of %d", *last)
	}
	return text
}

// troubles are what a person may have to see to.
func troubles(s admin.Snapshot) (found [][2]string) {
	for _, t := range s.Horizon.HeldBackBy {
		who := fmt.Sprintf("pid %d", t.PID)
		if t.Prepared != "" {
			who = "prepared transaction " + t.Prepared
		}
		if t.Application != "" {
			who += " (" + t.Application + ")"
		}
		found = append(found, [2]string{"held back by", fmt.Sprintf("%s, since %s", who, momentOf(t.Since))})
	}
	for _, r := range s.Regressions {
		if r.SettledAt == nil {
			found = append(found, [2]string{"regression", fmt.Sprintf("the sequence went back to %d, below the checkpoint %d: nothing is handled until a person decides", r.LastPosition, r.Checkpoint)})
		}
	}
	for _, h := range s.Holds {
		found = append(found, [2]string{"paused", fmt.Sprintf("%s by %s since %s until %s: %s", h.Projection, orDash(h.Actor), momentOf(h.Since), untilOf(h.Until), orDash(h.Reason))})
	}
	for _, d := range s.Drains {
		found = append(found, [2]string{"drained", fmt.Sprintf("%s by %s since %s: %s", d.Worker, orDash(d.Actor), momentOf(d.Since), orDash(d.Reason))})
	}
	for _, o := range s.Operations {
		if o.Kind == "cut-over" {
			found = append(found, [2]string{"operation", fmt.Sprintf("%d, %s to %s by %s at %s holds both projections: %s", o.ID, o.Kind, o.Projection, o.Actor, momentOf(o.RequestedAt), o.Arguments)})
			continue
		}
		found = append(found, [2]string{"operation", fmt.Sprintf("%d, %s %s by %s at %s: %d of %d wait", o.ID, o.Kind, orDash(o.Projection), o.Actor, momentOf(o.RequestedAt), o.Waiting, o.Waiting+o.Succeeded+o.Failed)})
	}
	for _, w := range s.Workers {
		for _, h := range w.Abandoned {
			found = append(found, [2]string{"abandoned", fmt.Sprintf("worker %s: the handler of %s in partition %s has not returned from position %d since %s", w.Name, h.Projection, h.Partition, h.Position, momentOf(h.AbandonedAt))})
		}
	}
	if s.Versions.Schema != s.Versions.LatestSchema {
		found = append(found, [2]string{"tables", fmt.Sprintf("at version %d, this program knows %d", s.Versions.Schema, s.Versions.LatestSchema)})
	}
	return found
}

// untilOf is when a pause ends.
func untilOf(t *time.Time) string {
	if t == nil {
		return "it is resumed"
	}
	return moment(*t)
}

// momentOf is a time that may not be there.
func momentOf(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return moment(*t)
}

func (a *app) lag(ctx context.Context, c *urfave.Command) error {
	most := c.Int64("fail-above")
	if c.IsSet("fail-above") && most < 0 {
		return usage(c, fmt.Errorf("--fail-above must not be negative, got %d", most))
	}
	adm, err := a.admin(ctx, c)
	if err != nil {
		return err
	}
	s, err := adm.Snapshot(ctx)
	if err != nil {
		return err
	}
	list := s.Projections
	if wanted := c.Args().Slice(); len(wanted) > 0 {
		list = slices.DeleteFunc(slices.Clone(list), func(p admin.Projection) bool { return !slices.Contains(wanted, p.Name) })
		for _, name := range wanted {
			if !slices.ContainsFunc(list, func(p admin.Projection) bool { return p.Name == name }) {
				return fmt.Errorf("replica set %q has no projection %q%s", s.ReplicaSet, name, others(s.Projections))
			}
		}
	}
	type one struct {
		Projection string `json:"projection"`
		Lag        int64  `json:"lag_events"`
		Exact      bool   `json:"lag_is_exact"`
	}
	lags, above := make([]one, len(list)), false
	for i, p := range list {
		lags[i] = one{p.Name, p.Lag, p.LagExact}
		above = above || most >= 0 && p.Lag > most
	}
	if err := printList(a, c, lags,
		column[one]{"projection", func(l one) string { return l.Projection }},
		column[one]{"lag", func(l one) string { return lagText(l.Lag, l.Exact) }}); err != nil {
		return err
	}
	if above {
		return errFalse
	}
	return nil
}

func (a *app) generations(ctx context.Context, c *urfave.Command) error {
	s, err := a.snapshot(ctx, c)
	if err != nil {
		return err
	}
	return printList(a, c, s.Generations,
		column[admin.Generation]{"number", func(g admin.Generation) string { return strconv.FormatInt(g.Number, 10) }},
		column[admin.Generation]{"state", func(g admin.Generation) string { return g.State }},
		column[admin.Generation]{"members", func(g admin.Generation) string { return strconv.Itoa(len(g.Members)) }},
		column[admin.Generation]{"created", func(g admin.Generation) string { return momentOf(g.CreatedAt) }},
		column[admin.Generation]{"took", func(g admin.Generation) string { return between(g.CreatedAt, g.ActivatedAt) }},
		column[admin.Generation]{"cause", func(g admin.Generation) string { return g.Cause }},
		column[admin.Generation]{"reason", func(g admin.Generation) string { return orDash(g.Reason) }})
}

// between is the time from one moment to another.
func between(from, to *time.Time) string {
	if from == nil || to == nil {
		return "-"
	}
	return to.Sub(*from).Round(time.Millisecond).String()
}
