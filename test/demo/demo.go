package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

const (
	replicaSet = "demo"
	refresh    = 400 * time.Millisecond

	// The library's timings, shortened so that a worker can freeze and be missed within a demonstration.
	heartbeatInterval   = 500 * time.Millisecond
	staleTimeout        = 2500 * time.Millisecond
	coordinationTimeout = 5 * time.Second

	freezePatience = 3 * time.Second  // for the worker to be in a batch
	settlePatience = 15 * time.Second // for all workers to handle events after the script
	drainPatience  = 15 * time.Second // for no lag after the writers
	leavePatience  = 10 * time.Second // for the workers to leave
	killPatience   = 5 * time.Second
)

// projections are what each worker runs: one wants everything and handles events one by one, one wants some types and handles
// batches.
var projections = []workload.ProjectionSpec{
	{Name: "everything"},
	{Name: "deliveries", AggregateTypes: []string{"order", "shipment"}, Batch: true},
}

var writing = workload.WriterOptions{
	Writers:        6,
	AggregateTypes: []string{"account", "order", "shipment"},
	RollbackShare:  0.1,
}

// demo is one run. Only main's goroutine uses it.
type demo struct {
	screen  *screen
	started time.Time
	began   time.Time // the script's zero
	dir     string    // of logs
	news    *watcher
	speed   rate
	showSQL bool // of the checks
	goOn    bool // after the script, until a person interrupts it

	database  *workload.Database
	pool      *pgxpool.Pool // to observe with
	writePool *pgxpool.Pool
	pagePool  *pgxpool.Pool
	metrics   sync.Map     // the addresses of workers' metrics, by their names
	page      *http.Server // nil before it is served
	writers   *workload.Writers

	processes []*workload.Process
	expected  map[string]action // why a process may end
	reported  map[string]bool   // whose end has been told
}

func newDemo(s *screen, started time.Time) *demo {
	return &demo{screen: s, started: started, began: started, news: newWatcher(), expected: map[string]action{}, reported: map[string]bool{}}
}

// run is the whole demonstration, its teardown aside. The figures are as complete as it came.
func (d *demo) run(ctx context.Context) (figures, error) {
	steps, err := parse(script)
	if err != nil {
		return figures{}, err
	}
	if err := d.prepare(ctx); err != nil {
		return figures{}, err
	}
	if err := d.play(ctx, steps); err != nil {
		return figures{}, err
	}
	if d.goOn {
		return figures{}, d.keep(ctx)
	}
	if err := d.drain(ctx); err != nil {
		return figures{}, err
	}
	if err := d.leave(ctx); err != nil {
		return figures{}, err
	}
	return d.prove(ctx, touched(steps, freeze))
}

// glossary explains the words that the table and the changes use.
var glossary = []string{
	"", "  projection  what handles events: \"everything\" wants all of them, \"deliveries\" those of two types of aggregates in three",
	"  position    the number of an event in the stream; a projection's position is the last one that it has handled",
	"  slot        a hash of an aggregate's id, one of 65,536; partition k/N is the k-th part of them, so an aggregate's events stay together",
	"  lag         how far a projection's position is behind the stream; it counts numbers of events that were rolled back too",
	"  generation  one division of the partitions among the workers; each join, departure or death makes the next one",
	"",
}

// prepare makes the database and begins to write.
func (d *demo) prepare(ctx context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "orchestrator-demo-"); err != nil {
		return fmt.Errorf("making a directory for logs: %w", err)
	}
	if d.database, err = workload.NewDatabase(ctx); err != nil {
		return err
	}
	if d.pool, err = d.database.Target.Pool(ctx, 2); err != nil {
		return err
	}
	if err := workload.Migrate(ctx, d.pool, projections); err != nil {
		return err
	}
	if d.writePool, err = d.database.Target.Pool(ctx, writing.Writers); err != nil {
		return err
	}
	d.writers = workload.StartWriters(ctx, d.writePool, eventstore.New(eventstore.WithLogger(nil)), writing)
	d.screen.say(fmt.Sprintf("Using %s, ready after %.1f s. %d connections append events, in transactions that overlap; %.0f %% are rolled back.",
		d.database.Server, time.Since(d.started).Seconds(), writing.Writers, 100*writing.RollbackShare))
	if err := d.showPage(ctx); err != nil {
		return err
	}
	d.screen.say(glossary...)
	return nil
}

// play performs the script, and waits until the remaining workers handle events again.
func (d *demo) play(ctx context.Context, steps []step) error {
	d.began = time.Now()
	for _, s := range steps {
		due := func(workload.Snapshot) bool { return time.Since(d.began) >= s.At }
		if err := d.until(ctx, limit, "it is time for the next step: "+string(s.Action), due); err != nil {
			return err
		}
		for _, name := range s.Workers {
			if err := d.perform(ctx, s.Action, name); err != nil {
				return err
			}
		}
	}
	return d.until(ctx, settlePatience, "every worker that is left handles events", func(s workload.Snapshot) bool {
		for _, p := range d.processes {
			if w, found := s.Worker(p.Name); d.expected[p.Name] == "" && (!found || !busy(w)) {
				return false
			}
		}
		return true
	})
}

// busy says whether the worker runs and handles events.
func busy(w workload.WorkerStatus) bool {
	for _, a := range w.Assignments {
		if w.State == "running" && a.Rate > 0 {
			return true
		}
	}
	return false
}

// drain stops the writers and waits until every checkpoint has reached the last event.
func (d *demo) drain(ctx context.Context) error {
	stats := d.writers.Stop()
	d.tell("the writers have stopped after %d events in %d transactions; %d more were rolled back", stats.Events, stats.Committed, stats.RolledBack)
	if stats.Failed > 0 {
		return fmt.Errorf("%d transactions of the writers failed, the last one: %w", stats.Failed, stats.Err)
	}
	var failed error
	err := d.until(ctx, drainPatience, "every checkpoint has reached the last event", func(workload.Snapshot) bool {
		var drained bool
		drained, failed = workload.Drained(ctx, d.pool, replicaSet)
		return drained || failed != nil
	})
	if err = errors.Join(err, failed); err == nil {
		d.tell("no lag is left")
	}
	return err
}

// leave has all workers leave gracefully.
func (d *demo) leave(ctx context.Context) error {
	for _, p := range d.processes {
		if d.expected[p.Name] == "" {
			if err := d.perform(ctx, terminate, p.Name); err != nil {
				return err
			}
		}
	}
	return d.until(ctx, leavePatience, "the workers' processes have ended", func(workload.Snapshot) bool {
		return len(d.reported) == len(d.processes)
	})
}

// close ends and removes everything. With keep it leaves the logs, and returns where they are.
func (d *demo) close(keep bool) (kept string, err error) {
	err = workload.KillAll(d.processes, killPatience)
	if d.writers != nil {
		d.writers.Stop()
	}
	if d.page != nil {
		err = errors.Join(err, d.page.Close())
	}
	for _, pool := range []*pgxpool.Pool{d.pool, d.writePool, d.pagePool} {
		if pool != nil {
			pool.Close()
		}
	}
	if d.database != nil {
		if log := d.database.Log(); keep && log != "" {
			err = errors.Join(err, os.WriteFile(filepath.Join(d.dir, "postgresql.log"), []byte(log), 0o600))
		}
		err = errors.Join(err, d.database.Close())
	}
	if keep || d.dir == "" {
		return d.dir, err
	}
	return "", errors.Join(err, os.RemoveAll(d.dir))
}
