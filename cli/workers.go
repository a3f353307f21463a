package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v3"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// workers is the commands for workers.
func (a *app) workers() *urfave.Command {
	return &urfave.Command{
		Name:  "workers",
		Usage: "look at workers, and take their partitions away for a while",
		Commands: []*urfave.Command{
			{
				Name: "list", Usage: "list the workers that are there, and those that ended or died within a day", Action: a.listWorkers,
				Flags: []urfave.Flag{allWorkers()},
			},
			{
				Name: "drain", Usage: "give the partitions of a worker to the others", ArgsUsage: "WORKER",
				Description: "WORKER is a name, which outlasts restarts, or an id. The worker goes on running. The command\nends when it has no partitions any more.",
				Flags:       changing(&urfave.DurationFlag{Name: "patience", Value: time.Minute, Usage: "wait at most this `duration` until it has none"}),
				Action:      a.drain,
			},
			{Name: "undrain", Usage: "let a worker have partitions again", ArgsUsage: "WORKER", Flags: changing(), Action: a.undrain},
		},
	}
}

// workerArgument is the only argument.
func workerArgument(c *urfave.Command) (string, error) {
	if c.Args().Len() != 1 || c.Args().First() == "" {
		return "", usage(c, fmt.Errorf("%s takes one argument, the worker's name or id, got %d", c.Name, c.Args().Len()))
	}
	return c.Args().First(), nil
}

func (a *app) drain(ctx context.Context, c *urfave.Command) error {
	worker, err := workerArgument(c)
	if err != nil {
		return err
	}
	patience := c.Duration("patience")
	if patience <= 0 {
		return usage(c, fmt.Errorf("--patience must be above 0, got %s", patience))
	}
	adm, err := a.admin(ctx, c)
	if err != nil {
		return err
	}
	if ahead, err := a.goAhead(c, outcome{Worker: worker}, fmt.Sprintf("drain worker %q", worker)); !ahead {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("--patience (%s) has passed", patience))
	defer cancel()
	if err := adm.Drain(ctx, worker, c.String("reason")); err != nil {
		return err
	}
	return a.changed(c, outcome{Action: "drain", Worker: worker}, "Worker %q has no partitions.", worker)
}

func (a *app) undrain(ctx context.Context, c *urfave.Command) error {
	worker, err := workerArgument(c)
	if err != nil {
		return err
	}
	adm, err := a.admin(ctx, c)
	if err != nil {
		return err
	}
	if ahead, err := a.goAhead(c, outcome{Worker: worker}, fmt.Sprintf("undrain worker %q", worker)); !ahead {
		return err
	}
	if err := adm.Undrain(ctx, worker, c.String("reason")); err != nil {
		return err
	}
	return a.changed(c, outcome{Action: "undrain", Worker: worker}, "Worker %q gets partitions again.", worker)
}

func (a *app) listWorkers(ctx context.Context, c *urfave.Command) error {
	s, err := a.snapshot(ctx, c)
	if err != nil {
		return err
	}
	s = recent(c, s)
	return printList(a, c, s.Workers, workerColumns(s.At)...)
}

// allWorkers is the flag for workers that have gone long ago too.
func allWorkers() urfave.Flag {
	return &urfave.BoolFlag{Name: "all", Usage: "also those of the last ten that ended or died more than a day ago"}
}

// goneFor is how long workers are listed that have ended or died.
const goneFor = 24 * time.Hour

// recent is the snapshot without the workers that have gone long ago, unless the command line asks for all.
func recent(c *urfave.Command, s admin.Snapshot) admin.Snapshot {
	if !c.Bool("all") {
		s.Workers = slices.DeleteFunc(slices.Clone(s.Workers), func(w admin.Worker) bool {
			return (w.State == "stopped" || w.State == "dead") && w.StateChangedAt != nil && s.At.Sub(*w.StateChangedAt) > goneFor
		})
	}
	return s
}

func workerColumns(at time.Time) []column[admin.Worker] {
	return []column[admin.Worker]{
		{"worker", func(w admin.Worker) string { return w.Name }},
		{"state", func(w admin.Worker) string { return workerState(w, at) }},
		{"generation", func(w admin.Worker) string { return strconv.FormatInt(w.Generation, 10) }},
		{"partitions", func(w admin.Worker) string { return orDash(strings.Join(held(w), " ")) }},
		{"host", func(w admin.Worker) string { return w.Hostname + ":" + strconv.Itoa(w.ProcessID) }},
		{"version", func(w admin.Worker) string { return w.LibraryVersion }},
		{"started", func(w admin.Worker) string { return momentOf(w.StartedAt) }},
		{"heartbeat", func(w admin.Worker) string { return momentOf(w.LastHeartbeat) }},
		{"detail", func(w admin.Worker) string { return orDash(shortened(w.Detail, 60)) }},
	}
}

func workerState(w admin.Worker, at time.Time) string {
	state := w.State
	if silent := w.SilentFor(at); silent > 0 {
		state = fmt.Sprintf("silent for %s", silent.Round(time.Second))
	}
	if w.Leading {
		state += ", leads"
	}
	if w.Drained {
		state += ", drained"
	}
	return state
}

// held are the partitions that a worker has, of all projections.
func held(w admin.Worker) (names []string) {
	for _, p := range w.Partitions {
		names = append(names, p.Projection+"["+p.Partition+"]")
	}
	return names
}
