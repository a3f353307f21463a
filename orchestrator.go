package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/contained"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/metrics"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// Orchestrator runs projections as one worker of a replica set.
type Orchestrator struct {
	db         *pgxpool.Pool
	eventStore *eventstore.Store
	replicaSet string
	config     config
	metrics    *measure.Metrics                   // nil if disabled
	recorder   atomic.Pointer[measure.ReplicaSet] // nil unless Run is running
	gatherer   prometheus.Gatherer                // nil if there is none to serve
	running    atomic.Bool
	health     healthState
	guarded    dbguard.Transactions // the pool, for WaitFor

	waits       atomic.Pointer[pgcoord.Store] // of WaitFor; nil until the tables were found
	waitsLogged atomic.Int64                  // when a failure of WaitFor was logged last
	hintsLogged atomic.Int64                  // when a failure to look who waits elsewhere was
}

// New makes a worker of the named replica set. Workers that share a name and a database share the work. Each replica set
// scales by itself. The name must have between 1 and 255 bytes. New does not touch the database.
//
// The worker uses the pool for reading, for batches and for generation changes. The pool must allow at least 3
// connections. The worker also opens one connection of its own for coordination (see WithPollOnly).
func New(db *pgxpool.Pool, eventStore *eventstore.Store, replicaSet string, options ...Option) (*Orchestrator, error) {
	switch {
	case db == nil:
		return nil, errors.New("making an orchestrator: the pool must not be nil")
	case eventStore == nil:
		return nil, errors.New("making an orchestrator: the event store must not be nil")
	case !validName(replicaSet):
		return nil, fmt.Errorf("making an orchestrator: the replica set's name must have between 1 and %d bytes of valid UTF-8 without NUL, got %q", maxNameLength, abridged(replicaSet))
	}
	if err := eventStore.Validate(); err != nil {
		return nil, fmt.Errorf("making an orchestrator for replica set %q: %w", replicaSet, err)
	}
	o := &Orchestrator{db: db, eventStore: eventStore, replicaSet: replicaSet, config: defaults(), guarded: dbguard.New(db).InTransactions()}
	for i, option := range options {
		if option == nil {
			return nil, fmt.Errorf("making an orchestrator for replica set %q: %w: the option at index %d is nil", replicaSet, ErrInvalidOption, i)
		}
		option(&o.config)
	}
	if err := o.config.validate(); err != nil {
		return nil, fmt.Errorf("making an orchestrator for replica set %q: %w", replicaSet, err)
	}
	if most := db.Config().MaxConns; most < minimumConnections {
		return nil, fmt.Errorf("making an orchestrator for replica set %q: the pool's MaxConns is %d, a worker needs at least %d", replicaSet, most, minimumConnections)
	}
	o.config.logger = contained.Logger(o.config.logger)
	if err := o.registerMetrics(); err != nil {
		return nil, fmt.Errorf("making an orchestrator for replica set %q: %w", replicaSet, err)
	}
	return o, nil
}

// RunMigrations creates the coordination tables, or updates them to the library's version. Any number of processes may
// call it at once, and it can be repeated. It uses two options. WithSchema names the schema, which RunMigrations creates
// if it does not exist. WithLogger sets the logger, which gets a line at Info for each migration.
//
// It waits indefinitely for locks that other sessions hold, on the tables or for their own migrations. While it waits
// for a table, it lets other sessions go first, and tries again. To bound the wait, use RunMigrationsContext, or set
// lock_timeout on the pool's connections, as in postgres://…?lock_timeout=10s. A statement_timeout has no effect on it.
func RunMigrations(db *pgxpool.Pool, options ...Option) error {
	return RunMigrationsContext(context.Background(), db, options...)
}

// RunMigrationsContext is RunMigrations with a context. If ctx ends first, it returns an error that wraps ctx.Err().
// Each migration is applied completely or not at all, and a later call continues from there. ctx must not be nil.
func RunMigrationsContext(ctx context.Context, db *pgxpool.Pool, options ...Option) error {
	switch {
	case ctx == nil:
		return errors.New("running the migrations: ctx must not be nil")
	case db == nil:
		return errors.New("running the migrations: the pool must not be nil")
	}
	c := defaults()
	for i, option := range options {
		if option == nil {
			return fmt.Errorf("running the migrations: %w: the option at index %d is nil", ErrInvalidOption, i)
		}
		option(&c)
	}
	if err := migrations.Run(ctx, db, c.schema, migrations.WithLogger(c.logger)); err != nil {
		return fmt.Errorf("running the migrations: %w", err)
	}
	return nil
}

// Run joins the replica set and handles events until ctx ends. Then this worker leaves: batches in flight are finished
// or cancelled, checkpoints are kept, and the other workers are told. Run then returns nil. It returns an error that
// wraps ErrNotStopped if leaving took longer than the shutdown timeout, and one that wraps ErrNeverReached if it was
// still trying to reach the database when ctx ended. ctx must not be nil.
//
// While ctx lasts, Run returns only if the configuration is impossible, for example because a projection cannot work or
// belongs to another replica set, because tables are missing or outdated, or because the pool is closed. Run logs and
// retries all other failures, such as a lost database or a handler that fails or panics.
//
// Run may be called again after it has returned. Each call makes a new worker.
func (o *Orchestrator) Run(ctx context.Context, projections []projection.Projection) error {
	return o.run(ctx, projections, nil)
}

// run implements Run, and RunUntilCaughtUp if c is not nil.
func (o *Orchestrator) run(ctx context.Context, projections []projection.Projection, c *catchUp) (err error) {
	if ctx == nil {
		return fmt.Errorf("running replica set %q: ctx must not be nil", o.replicaSet)
	}
	if !o.running.CompareAndSwap(false, true) {
		return fmt.Errorf("running replica set %q: %w", o.replicaSet, ErrAlreadyRunning)
	}
	defer o.running.Store(false)
	waits := o.joinWaits()
	defer waits.Leave()
	o.health.begin(waits)
	defer func() { o.health.end(err) }()
	d, err := describe(projections)
	if err == nil {
		err = o.config.setPolicies(&d)
	}
	if err != nil {
		return fmt.Errorf("running replica set %q: %w", o.replicaSet, err)
	}
	present := newPresence(waits, d.names)
	defer present.end()
	recorder := o.metrics.ReplicaSet(o.replicaSet)
	defer recorder.Forget()
	o.recorder.Store(recorder)
	defer o.recorder.Store(nil)
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("running replica set %q: drawing the worker's id: %w", o.replicaSet, err)
	}
	o.warnOfStandbys(ctx)
	checked, err := o.check(ctx, d)
	switch {
	case errors.Is(err, ErrNeverReached):
		return fmt.Errorf("running replica set %q: %w", o.replicaSet, err)
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("running replica set %q: %w", o.replicaSet, err)
	}
	cfg := o.configure(id, checked, d, recorder)
	cfg.Waits, cfg.Drained = waits, present.drained
	o.health.run(&cfg)
	o.showWorker(cfg)
	if c != nil {
		if err := c.start(ctx, &cfg, d, waits); err != nil {
			return fmt.Errorf("running replica set %q: %w", o.replicaSet, err)
		}
	}
	return o.work(ctx, cfg, d)
}

// MetricsHandler serves the metrics in Prometheus' text format. They come from the Orchestrator's own registry, or from
// the registerer of WithMetricsRegisterer if it is a prometheus.Gatherer, as a *prometheus.Registry is. If it is not, or
// if metrics are disabled, the handler answers 404.
func (o *Orchestrator) MetricsHandler() http.Handler {
	if o.gatherer == nil {
		return http.NotFoundHandler()
	}
	return metrics.Handler(o.gatherer)
}

// registerMetrics registers the metrics with the registerer from the options.
func (o *Orchestrator) registerMetrics() error {
	if !o.config.metricsEnabled {
		return nil
	}
	registerer := o.config.registerer
	if registerer == nil {
		registerer = prometheus.NewRegistry()
	}
	o.gatherer, _ = registerer.(prometheus.Gatherer)
	m, err := measure.New(registerer)
	if err != nil {
		return fmt.Errorf("registering the metrics: %w", err)
	}
	o.metrics = m
	return nil
}

// abridged shortens a text for a message.
func abridged(text string) string {
	const most = 40
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}
