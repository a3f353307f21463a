package orchestrator

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// Option changes a default of an Orchestrator. New returns an error that wraps ErrInvalidOption for a value that breaks
// the option's rule. No duration may be longer than 24h.
type Option func(*config)

// config is every setting of an Orchestrator.
type config struct {
	heartbeatInterval   time.Duration
	staleWorkerTimeout  time.Duration
	coordinationTimeout time.Duration
	pollInterval        time.Duration
	shutdownTimeout     time.Duration
	batchSize           int
	partitions          int
	retryFirst          time.Duration
	retryMax            time.Duration
	synchronousCommit   bool
	pollOnly            bool
	schema              string
	workerName          string
	history             int
	logger              *slog.Logger
	metricsEnabled      bool
	earlierMetricNames  bool
	tracerProvider      trace.TracerProvider // nil without
	registerer          prometheus.Registerer
	errorPolicy         *projection.ErrorPolicy // nil if there is none
	failureHook         func(context.Context, projection.Failure)
	progress            func(context.Context, Report)
	errorPolicies       map[string]projection.ErrorPolicy // by projection
}

func defaults() config {
	hostname, _ := os.Hostname()
	return config{
		heartbeatInterval:   5 * time.Second,
		staleWorkerTimeout:  30 * time.Second,
		coordinationTimeout: 60 * time.Second,
		pollInterval:        250 * time.Millisecond,
		shutdownTimeout:     15 * time.Second,
		batchSize:           4000,
		partitions:          1,
		retryFirst:          100 * time.Millisecond,
		retryMax:            30 * time.Second,
		history:             100,
		workerName:          cmp.Or(hostname, "worker"),
		logger:              slog.Default(),
		metricsEnabled:      true,
	}
}

// WithHeartbeatInterval sets how often the worker writes its heartbeat. Defaults to 5s. It must be at least 50ms, and at
// most a third of the stale worker timeout, so that one lost heartbeat does not make a worker count as dead.
func WithHeartbeatInterval(d time.Duration) Option {
	return func(c *config) { c.heartbeatInterval = d }
}

// WithStaleWorkerTimeout sets the heartbeat age at which a worker is declared dead. Defaults to 30s. If a host freezes
// or vanishes, its partitions stand still for at most about this long. A killed process does not wait for it, since the
// others notice at once. It must be at least three times the heartbeat interval. Give all workers of a replica set the
// same. Where they differ, as during a deployment, the longer of a worker's own and the leader's applies to the worker.
func WithStaleWorkerTimeout(d time.Duration) Option {
	return func(c *config) { c.staleWorkerTimeout = d }
}

// WithCoordinationTimeout sets how long a generation change waits for a worker to stop handling events. After that, the
// change continues without the worker. Defaults to 60s. It must be at least 100ms.
//
// When a generation changes, a handler may finish its current event, or its current HandleBatch. It has half of this
// timeout to do so, but at most 5s, and at most half of the shutdown timeout.
func WithCoordinationTimeout(d time.Duration) Option {
	return func(c *config) { c.coordinationTimeout = d }
}

// WithPollInterval sets the longest interval between polls for new events while nothing else tells the worker of
// appends. Defaults to 250ms. It must be at least 1ms. The worker polls every few milliseconds while events arrive, and
// backs off to this interval while idle.
//
// After five idle intervals, it polls only every 5s, or every interval if that is longer, provided that something else
// tells it of appends. This may be the wake-up trigger (eventstore.Store.InstallWakeUp). It may also be the worker's
// look at the replica set, every 250ms, which shows appends if the replica set has several workers or the worker is
// poll-only. The look does not count if the interval is below 250ms.
func WithPollInterval(d time.Duration) Option {
	return func(c *config) { c.pollInterval = d }
}

// WithShutdownTimeout sets how long Run may take to return after its context has ended. Defaults to 15s. It must be at
// least 10ms.
//
// A handler may finish its current event, or its current HandleBatch. It has half of this timeout to do so, but at most
// 5s, and at most half of the coordination timeout. Then its context is cancelled, and it has the rest of the timeout to
// return.
func WithShutdownTimeout(d time.Duration) Option {
	return func(c *config) { c.shutdownTimeout = d }
}

// WithBatchSize sets the maximum number of events that are handled in one transaction. Defaults to 4000. Batches are
// smaller if handlers are slow, so that a stop never waits long. It must be between 1 and 100000.
func WithBatchSize(events int) Option {
	return func(c *config) { c.batchSize = events }
}

// WithPartitionsPerWorker sets how many partitions of each projection this worker handles at the same time. Defaults to
// 1. Set more for handlers that wait for something other than the CPU. It must be between 1 and 1024.
//
// Each batch takes a connection. Over all projections, a worker therefore handles at most as many partitions at once as
// its pool allows connections, minus 2. Orchestrators in one process that use the same pool share these places. The
// other partitions take turns; Run logs a warning about this if n is above 1. A handler may take one connection at a
// time from the pool, in addition to its transaction. A pgx pool allows 4 connections or one per processor, whichever is
// more, unless pool_max_conns in the connection string, or MaxConns, says otherwise.
func WithPartitionsPerWorker(n int) Option {
	return func(c *config) { c.partitions = n }
}

// WithRetryBackoff sets the delay before an event on which a handler failed is handled again. The delay is first after
// the first failure, and doubles up to maximum. Each delay is shortened by a random part of up to a half, so that
// partitions do not retry together. Events are retried forever, unless an error policy says otherwise (see
// WithErrorPolicy). Defaults to 100ms and 30s. first must be at least 1ms and not above maximum.
func WithRetryBackoff(first, maximum time.Duration) Option {
	return func(c *config) { c.retryFirst, c.retryMax = first, maximum }
}

// WithErrorPolicy sets what happens to events that handlers fail on. It applies to projections that have no policy of
// their own (see projection.ErrorPolicied) and that WithErrorPolicyFor does not name. Defaults to the zero value, which
// retries forever. Run returns an error that wraps ErrInvalidOption if a field breaks its rule, or if the policy would
// park an unpartitioned projection.
func WithErrorPolicy(p projection.ErrorPolicy) Option {
	return func(c *config) { c.errorPolicy = &p }
}

// WithErrorPolicyFor sets what happens to events that the handler of one projection fails on. It takes precedence over
// the projection's own policy. If it is given several times for one projection, the last one applies. Run returns an
// error that wraps ErrInvalidOption if no projection has that name, if a field breaks its rule, or if the policy would
// park an unpartitioned projection.
func WithErrorPolicyFor(projectionName string, p projection.ErrorPolicy) Option {
	return func(c *config) {
		if c.errorPolicies == nil {
			c.errorPolicies = map[string]projection.ErrorPolicy{}
		}
		c.errorPolicies[projectionName] = p
	}
}

// WithFailureHook sets a function that is called for each failed attempt at an event, for example to report it to
// Sentry. Defaults to nil, which calls nothing. The worker calls it outside the transaction, one call at a time. It
// never delays handling: at most 128 failures wait for it, and the metric failure_hook_dropped_total counts failures
// beyond that, which are dropped.
//
// Conflicts, lost connections and stops are not failures of an event, so the hook is not called for them. If a failure
// leads to an outcome, the hook is called after the outcome was committed; after a crash it may be called twice for it.
//
// A panic of the hook is logged. Its context ends one second after the worker has ended, or after an eighth of the
// shutdown timeout if that is less. The worker does not wait for a call that takes longer.
func WithFailureHook(hook func(context.Context, projection.Failure)) Option {
	return func(c *config) { c.failureHook = hook }
}

// WithProgress sets a function that RunUntilCaughtUp calls with its progress. Defaults to nil, which calls nothing. Run
// does not call it. RunUntilCaughtUp calls it once a second, one call at a time, and never after it has returned. If a
// call is still running when the projections have caught up, RunUntilCaughtUp waits for it. A panic of the function is
// logged.
//
// The report describes the current moment. Took is the time so far. Position and CaughtUp of each projection are read
// from the tables. If the tables cannot be read, Position keeps its last value.
func WithProgress(progress func(context.Context, Report)) Option {
	return func(c *config) { c.progress = progress }
}

// WithSynchronousCommit sets whether the commit of a batch waits for the disk. Defaults to false, which is safe for
// everything that a handler writes through its transaction. After a crash of the server, the last batches may be
// missing, read model and checkpoint together, and their events are handled again. Set it if handlers have effects
// elsewhere that should be repeated as rarely as possible.
func WithSynchronousCommit(on bool) Option {
	return func(c *config) { c.synchronousCommit = on }
}

// WithPollOnly makes the worker work without a session of its own, and so without notifications and session locks. Use
// it for connections through PgBouncer in transaction mode. The worker finds everything by polling, and finds dead
// workers by their heartbeats only, so it notices changes later.
func WithPollOnly() Option {
	return func(c *config) { c.pollOnly = true }
}

// WithSchema sets the schema of the coordination tables. Defaults to the connection's, which is the first of its
// search_path, also if schema is empty. It must be the schema that was given to RunMigrations.
func WithSchema(schema string) Option {
	return func(c *config) { c.schema = schema }
}

// WithHistory sets how many superseded generations, departed workers, and failed events that were handled later stay in
// the tables. The number applies to each kind separately. Older rows are deleted. Defaults to 100. It must be between 1
// and 100000.
func WithHistory(rows int) Option {
	return func(c *config) { c.history = rows }
}

// WithWorkerName sets the name under which people see this worker in tables and logs. Defaults to the host's name. It
// must have between 1 and 255 bytes of valid UTF-8 without NUL. A worker that comes back under the same name, as the
// pods of a StatefulSet do, gets its previous partitions back.
//
// In Kubernetes the host's name is the pod's name, unless the pod uses hostNetwork or its specification sets a hostname.
// In these cases pass metadata.name, through an environment variable of the downward API. Containers that share a host's
// name appear as several workers with one name.
//
// Names need not be unique, since workers are told apart by their ids. The log and the reasons of generations show the
// end of the id beside the name. If two workers have the same name, either may get the other's partitions back.
func WithWorkerName(name string) Option {
	return func(c *config) { c.workerName = name }
}

// WithLogger sets the logger. Defaults to the default logger of slog, at the time of New. It must not be nil. To discard everything,
// use a logger with slog.DiscardHandler.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) { c.logger = l }
}

// WithMetricsEnabled sets whether metrics are collected. Defaults to true.
func WithMetricsEnabled(enabled bool) Option {
	return func(c *config) { c.metricsEnabled = enabled }
}

// WithMetricsRegisterer sets where the metrics are registered. Orchestrators in one process may share it. Defaults to a
// registry of the Orchestrator's own, also if r is nil. MetricsHandler serves that registry. The library never uses
// Prometheus' default registerer by itself.
func WithMetricsRegisterer(r prometheus.Registerer) Option {
	return func(c *config) { c.registerer = r }
}

// WithEarlierMetricNames also shows the metrics under the names of the earlier orchestrator, such as
// pupsourcing_orchestrator_events_processed_total. Dashboards and alerts keep working while you change them. By default
// only the current names are shown. docs/metrics.md lists both.
func WithEarlierMetricNames() Option {
	return func(c *config) { c.earlierMetricNames = true }
}

// WithTracerProvider makes the worker create a span for each batch of a projection. The span's kind is consumer, and the
// contexts of the handlers carry it. Defaults to nil, which creates no spans and costs nothing.
//
// If a store with eventstore.WithTraceContext appended the batch's events, the span links to the sampled spans of those
// appends. It has at most 64 links, each to a different span, and counts the rest. docs/tracing.md lists the attributes.
// The application shuts the provider down.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(c *config) { c.tracerProvider = p }
}

// validate returns an error for an impossible option, or for two that contradict each other.
func (c *config) validate() error {
	longest, option := c.longest()
	for _, check := range []struct {
		ok   bool
		text string
		args []any
	}{
		{longest <= longestDuration, "%s must be at most 24h, got %s", []any{option, longest}},
		{c.heartbeatInterval >= 50*time.Millisecond, "WithHeartbeatInterval must be at least 50ms, got %s", []any{c.heartbeatInterval}},
		{c.staleWorkerTimeout >= 3*c.heartbeatInterval, "WithStaleWorkerTimeout (%s) must be at least three times WithHeartbeatInterval (%s)", []any{c.staleWorkerTimeout, c.heartbeatInterval}},
		{c.coordinationTimeout >= 100*time.Millisecond, "WithCoordinationTimeout must be at least 100ms, got %s", []any{c.coordinationTimeout}},
		{c.pollInterval >= time.Millisecond, "WithPollInterval must be at least 1ms, got %s", []any{c.pollInterval}},
		{c.shutdownTimeout >= 10*time.Millisecond, "WithShutdownTimeout must be at least 10ms, got %s", []any{c.shutdownTimeout}},
		{c.batchSize >= 1 && c.batchSize <= 100_000, "WithBatchSize must be between 1 and 100000, got %d", []any{c.batchSize}},
		{c.partitions >= 1 && c.partitions <= 1024, "WithPartitionsPerWorker must be between 1 and 1024, got %d", []any{c.partitions}},
		{c.retryFirst >= time.Millisecond, "WithRetryBackoff: the first delay must be at least 1ms, got %s", []any{c.retryFirst}},
		{c.retryMax >= c.retryFirst, "WithRetryBackoff: the longest delay (%s) must not be below the first (%s)", []any{c.retryMax, c.retryFirst}},
		{c.history >= 1 && c.history <= 100_000, "WithHistory must be between 1 and 100000, got %d", []any{c.history}},
		{validName(c.workerName), "WithWorkerName must have between 1 and 255 bytes of valid UTF-8 without NUL, got %q", []any{c.workerName}},
		{c.logger != nil, "WithLogger must not be nil; slog.New(slog.DiscardHandler) logs nothing", nil},
	} {
		if !check.ok {
			return fmt.Errorf("%w: %s", ErrInvalidOption, fmt.Sprintf(check.text, check.args...))
		}
	}
	if err := migrations.ValidateSchema("WithSchema", c.schema); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidOption, err)
	}
	return nil
}

// longestDuration bounds every duration. A longer one is a mistake, and might be too long for the server.
const longestDuration = 24 * time.Hour

// longest returns the longest duration and the option that sets it.
func (c *config) longest() (longest time.Duration, option string) {
	for _, set := range []struct {
		option string
		d      time.Duration
	}{
		{"WithHeartbeatInterval", c.heartbeatInterval},
		{"WithStaleWorkerTimeout", c.staleWorkerTimeout},
		{"WithCoordinationTimeout", c.coordinationTimeout},
		{"WithPollInterval", c.pollInterval},
		{"WithShutdownTimeout", c.shutdownTimeout},
		{"WithRetryBackoff", max(c.retryFirst, c.retryMax)},
	} {
		if set.d > longest {
			longest, option = set.d, set.option
		}
	}
	return longest, option
}

// maxNameLength bounds names, in bytes.
const maxNameLength = 255

// validName reports whether a name can be stored and shown.
func validName(name string) bool {
	if name == "" || len(name) > maxNameLength || !utf8.ValidString(name) {
		return false
	}
	for _, r := range name {
		if r == 0 {
			return false
		}
	}
	return true
}

// minimumConnections is how many connections a worker needs from its pool: one for a batch, one for reading, and one for
// the horizon, a generation change, or a handler that uses the pool.
const minimumConnections = 3
