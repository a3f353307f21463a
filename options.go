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

// Option changes an Orchestrator from its defaults. New returns an error that
// wraps ErrInvalidOption for a value that breaks the option's rule. No duration may
// be longer than 24h.
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

// WithHeartbeatInterval sets how often the worker writes its heartbeat.
// Defaults to 5s. It must be at least 50ms and at most a third of the stale
// worker timeout, so that one lost heartbeat kills nobody.
func WithHeartbeatInterval(d time.Duration) Option {
	return func(c *config) { c.heartbeatInterval = d }
}

// WithStaleWorkerTimeout sets the age of a heartbeat from which on its worker
// is held for dead. Defaults to 30s. It bounds how long the partitions of a
// frozen or vanished host stand still; a killed process is noticed at once,
// without it. It must be at least three times the heartbeat interval, and the same
// for all workers of a replica set.
func WithStaleWorkerTimeout(d time.Duration) Option {
	return func(c *config) { c.staleWorkerTimeout = d }
}

// WithCoordinationTimeout sets how long a generation change waits for a worker
// to stop handling events before it goes on without it. Defaults to 60s. Handlers
// have half of it to finish the event, or the HandleBatch, that they are at, but no
// more than 5s, and no more than half of the shutdown timeout. It must be at least
// 100ms.
func WithCoordinationTimeout(d time.Duration) Option {
	return func(c *config) { c.coordinationTimeout = d }
}

// WithPollInterval sets the longest interval between two looks for new events
// where nothing tells the worker of appends. Defaults to 250ms. While events come
// the worker looks every few milliseconds, and the longer there were none the more
// seldom. When there were none for five times the interval, it looks every 5s only,
// or every interval if that is longer, as long as it is told: by the wake-up trigger
// (eventstore.Store.InstallWakeUp), or by looks at the replica set, every 250ms, which
// show appends where it has several workers, or polls only, and the interval is not
// below 250ms. It must be at least 1ms.
func WithPollInterval(d time.Duration) Option {
	return func(c *config) { c.pollInterval = d }
}

// WithShutdownTimeout sets how long Run may take to return after its context
// ended. Defaults to 15s. Handlers have half of it to finish the event, or the
// HandleBatch, that they are at, but no more than 5s, and no more than half of the
// coordination timeout. Then their context is cancelled, and they have the rest to
// return. It must be at least 10ms.
func WithShutdownTimeout(d time.Duration) Option {
	return func(c *config) { c.shutdownTimeout = d }
}

// WithBatchSize sets the most events that are handled in one transaction.
// Defaults to 4000. Batches are cut earlier where handlers are slow, so that a
// stop never waits long. It must be between 1 and 100000.
func WithBatchSize(events int) Option {
	return func(c *config) { c.batchSize = events }
}

// WithPartitionsPerWorker sets how many partitions of each projection this
// worker handles at the same time. Defaults to 1. More make sense for handlers
// that wait for something other than the CPU. It must be between 1 and 1024.
//
// Each batch takes a connection, so a worker handles as many at once as its pool
// allows connections, less 2, over all projections. Orchestrators of the process that
// use the same pool share these places. A handler may take one connection at a time from
// the pool, besides its transaction. Partitions beyond that take
// turns, of which Run warns where n is above 1. The limit of a pgx pool is the
// greater of 4 and the number of processors, unless pool_max_conns in the connection
// string, or MaxConns, says otherwise.
func WithPartitionsPerWorker(n int) Option {
	return func(c *config) { c.partitions = n }
}

// WithRetryBackoff sets the delay before an event is handled again on which a
// handler failed: first after the first failure, doubling up to maximum. Of each
// delay a random part of up to a half is left out, so that partitions do not retry
// together. Events are retried for ever, unless an error policy says otherwise (see WithErrorPolicy). Defaults to 100ms and 30s. first must be at
// least 1ms and not above maximum.
func WithRetryBackoff(first, maximum time.Duration) Option {
	return func(c *config) { c.retryFirst, c.retryMax = first, maximum }
}

// WithErrorPolicy sets what becomes of events that handlers fail on, for projections that have no policy of their own (see
// projection.ErrorPolicied) and that WithErrorPolicyFor does not name. Defaults to the zero value, which retries for ever. Run returns an
// error wrapping ErrInvalidOption for a field that breaks its rule, and for a policy that would park an unpartitioned projection.
func WithErrorPolicy(p projection.ErrorPolicy) Option {
	return func(c *config) { c.errorPolicy = &p }
}

// WithErrorPolicyFor sets what becomes of events that the handler of one projection fails on, whatever policy the projection has of its
// own. Of several for one projection the last counts. Run returns an error wrapping ErrInvalidOption if it is given no projection with that
// name, for a field that breaks its rule, and for a policy that would park an unpartitioned projection.
func WithErrorPolicyFor(projectionName string, p projection.ErrorPolicy) Option {
	return func(c *config) {
		if c.errorPolicies == nil {
			c.errorPolicies = map[string]projection.ErrorPolicy{}
		}
		c.errorPolicies[projectionName] = p
	}
}

// WithFailureHook sets a function that is told of each failed attempt at an event, as for Sentry. It is called outside the transaction, one
// call at a time, and never delays handling: at most 128 failures wait for it, and others are not told to it, which the metric
// failure_hook_dropped_total counts. A panic of it is logged. The context ends when the worker has ended and a second has passed, or an eighth of the shutdown timeout if that
// is less; a call that does not return then is not waited for. Conflicts, lost connections and stops are no failures of an event, and are not told. A failure that
// leads to an outcome is told after that was committed, and may be told twice after a crash. Defaults to nil, which tells nobody.
func WithFailureHook(hook func(context.Context, projection.Failure)) Option {
	return func(c *config) { c.failureHook = hook }
}

// WithProgress sets a function that RunUntilCaughtUp tells how far it is: once a second while it runs, one call at a time, and never after it has returned. The report is
// that of this moment: Took is the time until now, and Position and CaughtUp of each projection are as the tables say. Where they cannot be read, Position stays as it was. A call that
// has not returned when the projections have caught up delays RunUntilCaughtUp. A panic of it is logged. Run does not call it. Defaults to nil, which tells nobody.
func WithProgress(progress func(context.Context, Report)) Option {
	return func(c *config) { c.progress = progress }
}

// WithSynchronousCommit sets whether the commit of a batch waits for the disk.
// Defaults to false, which is safe for what a handler writes through its
// transaction: after a crash of the server the last batches may be missing,
// read model and checkpoint together, and their events are handled again. Set
// it where handlers have effects elsewhere that should be repeated as seldom
// as possible.
func WithSynchronousCommit(on bool) Option {
	return func(c *config) { c.synchronousCommit = on }
}

// WithPollOnly makes the worker do without what needs a session of its own:
// notifications and session locks. It is for connections through PgBouncer in
// transaction mode. Everything is found by looking, and the dead by their
// heartbeats, so changes take longer to notice.
func WithPollOnly() Option {
	return func(c *config) { c.pollOnly = true }
}

// WithSchema sets the schema of the coordination tables. Defaults to the
// connection's, which is the first of its search_path; so does an empty schema. It
// must be the one that RunMigrations was given.
func WithSchema(schema string) Option {
	return func(c *config) { c.schema = schema }
}

// WithHistory sets how many superseded generations, workers that are gone, and
// failed events that were handled later are kept in the tables, of each; older
// ones are deleted. Defaults to 100. It must be between 1 and 100000.
func WithHistory(rows int) Option {
	return func(c *config) { c.history = rows }
}

// WithWorkerName sets the name under which people see this worker, in tables
// and logs. A worker that comes back under its name, as the pods of a StatefulSet
// do, gets the partitions back that it had. Defaults to the host's name. In
// Kubernetes that is the pod's name, except with hostNetwork or a hostname in the
// pod's specification: then set it to metadata.name, by an environment variable of the
// downward API. Containers that share a host's name show as several workers of one
// name.
//
// Names need not be unique: ids tell workers apart, and the log and the reasons of
// generations show the end of the id beside the name. If two workers have the same
// name, either may get the other's partitions back. It must have between 1 and 255
// bytes of valid UTF-8 without NUL.
func WithWorkerName(name string) Option {
	return func(c *config) { c.workerName = name }
}

// WithLogger sets the logger. Defaults to the default logger of slog, as it is when New is called. It must
// not be nil; a logger with slog.DiscardHandler discards everything.
func WithLogger(l *slog.Logger) Option {
	return func(c *config) { c.logger = l }
}

// WithMetricsEnabled sets whether metrics are collected. Defaults to true.
func WithMetricsEnabled(enabled bool) Option {
	return func(c *config) { c.metricsEnabled = enabled }
}

// WithMetricsRegisterer sets where the metrics are registered. Orchestrators of
// one process may share it. Defaults to a registry of the Orchestrator's own,
// which MetricsHandler serves; so does nil. The library never uses the default
// registerer by itself.
func WithMetricsRegisterer(r prometheus.Registerer) Option {
	return func(c *config) { c.registerer = r }
}

// WithEarlierMetricNames has the metrics shown under the names of the earlier orchestrator too, such as
// pupsourcing_orchestrator_events_processed_total, so that dashboards and alerts go on working while they are changed. By default only today's names are
// shown. docs/metrics.md has both.
func WithEarlierMetricNames() Option {
	return func(c *config) { c.earlierMetricNames = true }
}

// WithTracerProvider has the worker make a span of each batch of a projection, of the kind consumer, which the handlers' contexts carry. It links to the sampled
// spans that have appended the batch's events, if these were appended by a store with eventstore.WithTraceContext: to 64 at most, each once, and it counts the rest. docs/tracing.md
// lists its attributes. Defaults to nil, which makes none and costs nothing. The application shuts the provider down.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(c *config) { c.tracerProvider = p }
}

// validate says which option is impossible, or which two are together.
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

// longestDuration bounds every duration: what is longer is a mistake, and some
// would be too long for the server.
const longestDuration = 24 * time.Hour

// longest is the longest of the durations, and the option that sets it.
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

// validName says whether a name can be stored and shown.
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

// minimumConnections is what a worker needs of its pool: one for a batch, one
// for reading, one for the horizon, a generation change, or a handler that uses
// the pool.
const minimumConnections = 3
