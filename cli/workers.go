package cli

import (
	"context"
	"strconv"
	"strings"

	urfave "github.com/urfave/cli/v3"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// workers is the commands for workers.
func (a *app) workers() *urfave.Command {
	return &urfave.Command{
		Name:  "workers",
		Usage: "look at workers",
		Commands: []*urfave.Command{
			{Name: "list", Usage: "list the workers that are there, and the last that have left", Action: a.listWorkers},
		},
	}
}

func (a *app) listWorkers(ctx context.Context, c *urfave.Command) error {
	s, err := a.snapshot(ctx, c)
	if err != nil {
		return err
	}
	return printList(a, c, s.Workers, workerColumns()...)
}

func workerColumns() []column[admin.Worker] {
	return []column[admin.Worker]{
		{"worker", func(w admin.Worker) string { return w.Name }},
		{"state", func(w admin.Worker) string {
			if w.Leading {
				return w.State + ", leads"
			}
			return w.State
		}},
		{"generation", func(w admin.Worker) string { return strconv.FormatInt(w.Generation, 10) }},
		{"partitions", func(w admin.Worker) string { return orDash(strings.Join(held(w), " ")) }},
		{"host", func(w admin.Worker) string { return w.Hostname + ":" + strconv.Itoa(w.ProcessID) }},
		{"version", func(w admin.Worker) string { return w.LibraryVersion }},
		{"started", func(w admin.Worker) string { return momentOf(w.StartedAt) }},
		{"heartbeat", func(w admin.Worker) string { return momentOf(w.LastHeartbeat) }},
		{"detail", func(w admin.Worker) string { return orDash(shortened(w.Detail, 60)) }},
	}
}

// held are the partitions that a worker has, of all projections.
func held(w admin.Worker) (names []string) {
	for _, p := range w.Partitions {
		names = append(names, p.Projection+"["+p.Partition+"]")
	}
	return names
}
