package face

import (
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// unconnected is a pool that connects to nothing: New does not touch the database.
func unconnected(t *testing.T, connections int32) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig("postgres://127.0.0.1:1/none")
	require.NoError(t, err)
	config.MaxConns = connections
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func TestNewRefuses(t *testing.T) {
	pool, store := unconnected(t, 10), eventstore.New()
	for name, test := range map[string]struct {
		make func() (*orchestrator.Orchestrator, error)
		text string
	}{
		"no pool": {
			func() (*orchestrator.Orchestrator, error) { return orchestrator.New(nil, store, "set") },
			"the pool must not be nil",
		},
		"no event store": {
			func() (*orchestrator.Orchestrator, error) { return orchestrator.New(pool, nil, "set") },
			"the event store must not be nil",
		},
		"an event store that cannot work": {
			func() (*orchestrator.Orchestrator, error) {
				return orchestrator.New(pool, eventstore.New(eventstore.WithEventsTable("")), "set")
			},
			`replica set "set"`,
		},
		"an event store that New has not made": {
			func() (*orchestrator.Orchestrator, error) { return orchestrator.New(pool, &eventstore.Store{}, "set") },
			"must be made by eventstore.New",
		},
		"no name": {
			func() (*orchestrator.Orchestrator, error) { return orchestrator.New(pool, store, "") },
			"between 1 and 255 bytes",
		},
		"a name that is too long": {
			func() (*orchestrator.Orchestrator, error) {
				return orchestrator.New(pool, store, strings.Repeat("x", 256))
			},
			"between 1 and 255 bytes",
		},
		"a name with NUL": {
			func() (*orchestrator.Orchestrator, error) { return orchestrator.New(pool, store, "a\x00b") },
			"without NUL",
		},
		"a name that is not UTF-8": {
			func() (*orchestrator.Orchestrator, error) { return orchestrator.New(pool, store, "a\xff") },
			"valid UTF-8",
		},
		"a pool that is too small": {
			func() (*orchestrator.Orchestrator, error) { return orchestrator.New(unconnected(t, 2), store, "set") },
			"MaxConns is 2, a worker needs at least 3",
		},
	} {
		t.Run(name, func(t *testing.T) {
			orch, err := test.make()
			require.ErrorContains(t, err, test.text)
			require.ErrorContains(t, err, "making an orchestrator")
			assert.Nil(t, orch)
			assert.Less(t, len(err.Error()), 300, "long names are abridged")
		})
	}
}

func TestNewAcceptsTheLeast(t *testing.T) {
	for _, name := range []string{"s", strings.Repeat("x", 255), "Größe 名"} {
		orch, err := orchestrator.New(unconnected(t, 3), eventstore.New(), name)
		require.NoError(t, err)
		assert.NotNil(t, orch)
	}
}

func TestRunMigrationsRefuses(t *testing.T) {
	require.ErrorContains(t, orchestrator.RunMigrations(nil), "the pool must not be nil")
}

func TestOptionsRules(t *testing.T) {
	type values map[string]orchestrator.Option
	long := strings.Repeat("x", 64)
	rules := map[string]struct{ good, bad values }{
		"WithHeartbeatInterval": {
			good: values{"least": orchestrator.WithHeartbeatInterval(50 * time.Millisecond), "a third of the stale worker timeout": orchestrator.WithHeartbeatInterval(10 * time.Second)},
			bad:  values{"zero": orchestrator.WithHeartbeatInterval(0), "negative": orchestrator.WithHeartbeatInterval(-time.Second), "below the least": orchestrator.WithHeartbeatInterval(49 * time.Millisecond), "over a third of the stale worker timeout": orchestrator.WithHeartbeatInterval(10*time.Second + 1)},
		},
		"WithStaleWorkerTimeout": {
			good: values{"three heartbeats": orchestrator.WithStaleWorkerTimeout(15 * time.Second)},
			bad:  values{"zero": orchestrator.WithStaleWorkerTimeout(0), "under three heartbeats": orchestrator.WithStaleWorkerTimeout(15*time.Second - 1)},
		},
		"WithCoordinationTimeout": {
			good: values{"least": orchestrator.WithCoordinationTimeout(100 * time.Millisecond)},
			bad:  values{"zero": orchestrator.WithCoordinationTimeout(0), "below the least": orchestrator.WithCoordinationTimeout(100*time.Millisecond - 1)},
		},
		"WithPollInterval": {
			good: values{"least": orchestrator.WithPollInterval(time.Millisecond)},
			bad:  values{"zero": orchestrator.WithPollInterval(0), "below the least": orchestrator.WithPollInterval(time.Millisecond - 1)},
		},
		"WithShutdownTimeout": {
			good: values{"least": orchestrator.WithShutdownTimeout(10 * time.Millisecond)},
			bad:  values{"zero": orchestrator.WithShutdownTimeout(0), "below the least": orchestrator.WithShutdownTimeout(10*time.Millisecond - 1)},
		},
		"WithBatchSize": {
			good: values{"least": orchestrator.WithBatchSize(1), "most": orchestrator.WithBatchSize(100_000)},
			bad:  values{"zero": orchestrator.WithBatchSize(0), "negative": orchestrator.WithBatchSize(-1), "over the most": orchestrator.WithBatchSize(100_001), "far over the most": orchestrator.WithBatchSize(math.MaxInt)},
		},
		"WithPartitionsPerWorker": {
			good: values{"least": orchestrator.WithPartitionsPerWorker(1), "most": orchestrator.WithPartitionsPerWorker(1024)},
			bad:  values{"zero": orchestrator.WithPartitionsPerWorker(0), "over the most": orchestrator.WithPartitionsPerWorker(1025)},
		},
		"WithRetryBackoff": {
			good: values{"least": orchestrator.WithRetryBackoff(time.Millisecond, time.Millisecond), "constant": orchestrator.WithRetryBackoff(time.Hour, time.Hour)},
			bad:  values{"zero": orchestrator.WithRetryBackoff(0, time.Second), "below the least": orchestrator.WithRetryBackoff(time.Millisecond-1, time.Second), "first over the longest": orchestrator.WithRetryBackoff(time.Second, time.Second-1)},
		},
		"WithSynchronousCommit": {good: values{"on": orchestrator.WithSynchronousCommit(true), "off": orchestrator.WithSynchronousCommit(false)}},
		"WithPollOnly":          {good: values{"on": orchestrator.WithPollOnly()}},
		"WithSchema": {
			good: values{"none": orchestrator.WithSchema(""), "longest": orchestrator.WithSchema(long[:63])},
			bad:  values{"too long": orchestrator.WithSchema(long)},
		},
		"WithHistory": {
			good: values{"least": orchestrator.WithHistory(1), "most": orchestrator.WithHistory(100_000)},
			bad:  values{"none": orchestrator.WithHistory(0), "too many": orchestrator.WithHistory(100_001)},
		},
		"WithWorkerName": {
			good: values{"longest": orchestrator.WithWorkerName(strings.Repeat("x", 255))},
			bad:  values{"empty": orchestrator.WithWorkerName(""), "too long": orchestrator.WithWorkerName(strings.Repeat("x", 256)), "with NUL": orchestrator.WithWorkerName("\x00"), "not UTF-8": orchestrator.WithWorkerName("\xff")},
		},
		"WithErrorPolicy":    {good: values{"zero": orchestrator.WithErrorPolicy(projection.ErrorPolicy{})}},             // Run refuses what cannot work
		"WithErrorPolicyFor": {good: values{"any name": orchestrator.WithErrorPolicyFor("x", projection.ErrorPolicy{})}}, // the same
		"WithFailureHook":    {good: values{"none": orchestrator.WithFailureHook(nil)}},
		"WithProgress":       {good: values{"none": orchestrator.WithProgress(nil)}},
		"WithTracerProvider": {good: values{"none": orchestrator.WithTracerProvider(nil)}},
		"WithLogger": {
			good: values{"one": orchestrator.WithLogger(slog.New(slog.DiscardHandler))},
			bad:  values{"nil": orchestrator.WithLogger(nil)},
		},
		"WithMetricsEnabled":     {good: values{"on": orchestrator.WithMetricsEnabled(true), "off": orchestrator.WithMetricsEnabled(false)}},
		"WithEarlierMetricNames": {good: values{"on": orchestrator.WithEarlierMetricNames()}},
		"WithMetricsRegisterer":  {good: values{"one": orchestrator.WithMetricsRegisterer(prometheus.NewRegistry()), "none": orchestrator.WithMetricsRegisterer(nil)}},
	}
	pool, store := unconnected(t, 2000), eventstore.New()
	for option, rule := range rules {
		t.Run(option, func(t *testing.T) {
			for name, value := range rule.good {
				_, err := orchestrator.New(pool, store, "set", value)
				assert.NoError(t, err, name)
			}
			for name, value := range rule.bad {
				orch, err := orchestrator.New(pool, store, "set", value)
				require.ErrorIs(t, err, orchestrator.ErrInvalidOption, name)
				require.ErrorContains(t, err, option, "%s: the text names the option", name)
				require.ErrorContains(t, err, `replica set "set"`, name)
				assert.Nil(t, orch, name)
			}
		})
	}
	assert.ElementsMatch(t, exportedOptions(t), slices.Collect(maps.Keys(rules)), "each option has its rules here")
}

// No duration may be longer than a day; the error names whose is, beside others that would do.
func TestOptionsThatTakeTooLong(t *testing.T) {
	pool, store := unconnected(t, 10), eventstore.New()
	day := 24 * time.Hour
	for option, set := range map[string]func(time.Duration) orchestrator.Option{
		"WithHeartbeatInterval":   orchestrator.WithHeartbeatInterval,
		"WithStaleWorkerTimeout":  orchestrator.WithStaleWorkerTimeout,
		"WithCoordinationTimeout": orchestrator.WithCoordinationTimeout,
		"WithPollInterval":        orchestrator.WithPollInterval,
		"WithShutdownTimeout":     orchestrator.WithShutdownTimeout,
		"WithRetryBackoff":        func(d time.Duration) orchestrator.Option { return orchestrator.WithRetryBackoff(time.Second, d) },
	} {
		long := []orchestrator.Option{orchestrator.WithStaleWorkerTimeout(day), orchestrator.WithShutdownTimeout(day)}
		_, err := orchestrator.New(pool, store, "set", append(long, set(day+1))...)
		require.ErrorIs(t, err, orchestrator.ErrInvalidOption, option)
		require.ErrorContains(t, err, option+" must be at most 24h, got 24h0m0.000000001s")
		if option != "WithHeartbeatInterval" { // which has a tighter bound
			_, err = orchestrator.New(pool, store, "set", append(long, set(day))...)
			require.NoError(t, err, option)
		}
	}
}

// Rules on two options look at both, whatever their order.
func TestOptionsTogether(t *testing.T) {
	pool, store := unconnected(t, 10), eventstore.New()
	slow := []orchestrator.Option{orchestrator.WithHeartbeatInterval(20 * time.Second), orchestrator.WithStaleWorkerTimeout(time.Minute)}
	_, err := orchestrator.New(pool, store, "set", slow...)
	require.NoError(t, err)
	_, err = orchestrator.New(pool, store, "set", slow[1], slow[0])
	require.NoError(t, err)
	_, err = orchestrator.New(pool, store, "set", slow[0])
	require.ErrorIs(t, err, orchestrator.ErrInvalidOption)
	require.ErrorContains(t, err, "WithStaleWorkerTimeout (30s) must be at least three times WithHeartbeatInterval (20s)")
}

// A name that somebody else has given to another metric is an error of New.
func TestMetricsThatCollide(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "pupsourcing_orchestrator_events_handled_total", Help: "another"}))
	_, err := orchestrator.New(unconnected(t, 10), eventstore.New(), "set", orchestrator.WithMetricsRegisterer(registry))
	require.ErrorContains(t, err, "registering the metrics")
	_, err = orchestrator.New(unconnected(t, 10), eventstore.New(), "set", orchestrator.WithMetricsRegisterer(registry), orchestrator.WithMetricsEnabled(false))
	require.NoError(t, err, "disabled metrics register nothing")
}
