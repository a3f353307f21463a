package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// chaos is one run: a server, workers, writers, and what is done to them.
type chaos struct {
	options options
	say     func(format string, args ...any)
	dir     string // everything of the run: logs, journals, marks of failures

	cluster    *pgtest.Cluster
	standby    *pgtest.Cluster // nil if no connection leads to one
	bouncer    *pgtest.Bouncer // nil if the workers do without
	pool       *pgxpool.Pool   // without a wire
	fleet      *fleet
	store      *eventstore.Store
	writers    *workload.Writers
	troubles   *troublemakers
	began      time.Time
	injections injections
	home       home           // of the projection that is moved
	lasting    sync.WaitGroup // faults that go on while the next ones come
}

// applicationName is that of this program's own sessions.
const applicationName = "chaos"

// The server writes a log that SQL can read: which sessions ended, when, and how.
const logFile = "log/chaos.csv" // in the data directory

var serverSettings = map[string]string{
	"logging_collector":         "on",
	"log_destination":           "csvlog",
	"log_directory":             "log",
	"log_filename":              "chaos.log",
	"log_rotation_age":          "0",
	"log_rotation_size":         "0",
	"log_disconnections":        "on",
	"deadlock_timeout":          "300ms",
	"max_locks_per_transaction": "256",
	"recovery_min_apply_delay":  "2s", // a standby's
}

// A pooler that has found no server asks again soon, and has room for every worker.
var poolerSettings = map[string]string{"server_login_retry": "1", "default_pool_size": "120"}

// databaseName is the run's database.
const databaseName = "chaos"

// connections is enough for the writers, the troublemakers, and looking.
const connections = 12

// prepare sets everything up; close takes it down, also if prepare failed.
func (c *chaos) prepare(ctx context.Context) (err error) {
	if c.dir, err = os.MkdirTemp("", "chaos-"); err != nil {
		return fmt.Errorf("making a directory for the run: %w", err)
	}
	if c.cluster, err = pgtest.Start(ctx, pgtest.Options{Durable: true, Settings: serverSettings}); err != nil {
		return fmt.Errorf("starting a PostgreSQL server: %w", err)
	}
	dsn, err := c.cluster.CreateDatabase(ctx, databaseName)
	if err != nil {
		return err
	}
	target := workload.Target{DSN: dsn + "&application_name=" + applicationName}
	if c.pool, err = target.Pool(ctx, connections); err != nil {
		return err
	}
	if err := workload.Migrate(ctx, c.pool, c.scopes()); err != nil {
		return err
	}
	if _, err := c.pool.Exec(ctx, sqlTables+";"+sqlEnvironment+";"+sqlVersions); err != nil {
		return fmt.Errorf("creating the tables and roles of the run: %w", err)
	}
	c.store = eventstore.New(eventstore.WithLogger(nil))
	rng := rand.New(rand.NewPCG(c.options.Seed, 4))
	if rng.IntN(2) == 0 {
		if err := c.store.InstallWakeUp(ctx, c.pool); err != nil {
			return err
		}
	}
	marks := filepath.Join(c.dir, "failures")
	if err := os.Mkdir(marks, 0o700); err != nil {
		return fmt.Errorf("making a directory for the run: %w", err)
	}
	standby := ""
	if has(c.options.Faults, faultStandby) && !c.options.Pooler {
		if c.standby, err = c.startStandby(ctx); err != nil {
			return fmt.Errorf("starting a standby: %w", err)
		}
		standby = c.standby.DSN(databaseName)
	}
	settings, err := json.Marshal(workerSettings{
		Schema:   c.options.schema(),
		Plan:     failurePlan{Seed: c.options.Seed, Dir: marks, Faults: c.options.Faults},
		Journals: c.dir, Synchronous: rng.IntN(3) == 0, Standby: standby, Policed: c.options.policed(), Versions: has(c.options.Faults, faultCutOver),
	})
	if err != nil {
		return fmt.Errorf("encoding the workers' settings: %w", err)
	}
	if err := os.Setenv(workerVariable, string(settings)); err != nil {
		return fmt.Errorf("handing the workers their settings: %w", err)
	}
	c.fleet = &fleet{dsn: dsn, dir: c.dir, pollOnly: rng.IntN(5) == 0, variety: rng, unplanned: make(chan struct{}, 1)}
	if c.options.Pooler {
		if c.bouncer, err = pgtest.StartBouncer(ctx, dsn, pgtest.TransactionMode, poolerSettings); err != nil {
			return fmt.Errorf("starting PgBouncer: %w", err)
		}
		c.fleet.dsn, c.fleet.pollOnly = c.bouncer.DSN(databaseName), true
	}
	c.say("seed %d: wake-ups, synchronous commits, poll-only and the like are drawn from it; logs are in %s", c.options.Seed, c.dir)
	return nil
}

// schema is what the workers are told of where the tables are.
func (o options) schema() string {
	if o.Pooler {
		return "public"
	}
	return ""
}

// scopes are the projections whose events are counted.
func (c *chaos) scopes() []workload.ProjectionSpec {
	if has(c.options.Faults, faultMove) {
		return append(slices.Clone(projections), movingProjection)
	}
	return projections
}

// close ends everything. With keep, the run's directory stays.
func (c *chaos) close(keep bool) error {
	var err error
	if c.fleet != nil {
		err = c.fleet.close()
	}
	if c.troubles != nil {
		c.troubles.stop()
		c.troubles.group.Wait()
	}
	if c.writers != nil {
		c.writers.Stop()
	}
	if c.pool != nil {
		c.pool.Close()
	}
	if c.bouncer != nil {
		err = errors.Join(err, c.bouncer.Close())
	}
	if c.standby != nil {
		err = errors.Join(err, c.standby.Close())
	}
	if c.cluster != nil {
		err = errors.Join(err, c.cluster.Close())
	}
	if c.dir != "" && !keep {
		err = errors.Join(err, os.RemoveAll(c.dir))
	}
	return err
}

// injection is a fault that was done.
type injection struct {
	Fault        fault
	Detail       string
	Worker       string // empty if it was to all
	Began, Ended time.Time
}

// injections is what was done. Its methods may be called by several goroutines.
type injections struct {
	mu   sync.Mutex
	list []*injection
}

// begin notes a fault, and end its end.
func (d *injections) begin(f fault, worker, detail string) (end func()) {
	entry := &injection{Fault: f, Worker: worker, Detail: detail, Began: time.Now()}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, entry)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		entry.Ended = time.Now()
	}
}

// count is how many there were of some sorts.
func (d *injections) count(faults ...fault) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, entry := range d.list {
		if has(faults, entry.Fault) {
			n++
		}
	}
	return n
}
