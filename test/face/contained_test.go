package face

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// A function of the application that only helps must not keep events from being handled, whatever it does: see package contained.

// misdeeds is what such a function may do. What hangs returns when the test ends.
func misdeeds(t *testing.T) map[string]func() {
	t.Helper()
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	return map[string]func(){"panics": func() { panic("oh no") }, "exits": runtime.Goexit, "hangs": func() { <-ended }}
}

// The event has an outcome, and the worker still takes part in changes of the generation.
func TestAClassifierThatHangsHoldsUpNobody(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 3)
	hang := misdeeds(t)["hangs"]
	policy := projection.ErrorPolicy{Attempts: 1, Then: projection.Skip, Classify: func(error) projection.Class {
		hang()
		return projection.ClassError
	}}
	fail := func(_ context.Context, event es.PersistedEvent) error {
		if event.GlobalPosition == 2 {
			return errBad
		}
		return nil
	}
	first := start(t, w.orchestrator("set", orchestrator.WithErrorPolicy(policy)), recorder{name: "p", before: fail})
	w.awaitHandled("p", 2)
	assert.Contains(t, w.value("SELECT last_error FROM orchestrator_dead_letters WHERE state = 'skipped'"), "Classify could not be used")
	second := start(t, w.orchestrator("set"), recorder{name: "p"})
	w.awaitRunning("set", 2)
	require.NoError(t, errors.Join(first.stop(), second.stop()))
}

// unreliable is a logger that does something else than to log.
type unreliable struct {
	slog.Handler
	misdeed func()
}

func (u unreliable) Handle(context.Context, slog.Record) error { u.misdeed(); return nil }

func (u unreliable) WithAttrs([]slog.Attr) slog.Handler { return u }

// Failed attempts and changes of the generation are logged.
func TestALoggerThatFailsHoldsUpNobody(t *testing.T) {
	directOnly(t)
	for _, name := range []string{"panics", "exits"} {
		t.Run(name, func(t *testing.T) { handleWithLogger(t, misdeeds(t)[name]) })
	}
}

func TestALoggerThatHangsHoldsUpNobody(t *testing.T) {
	directOnly(t)
	handleWithLogger(t, misdeeds(t)["hangs"])
}

func handleWithLogger(t *testing.T, misdeed func()) {
	t.Helper()
	w := newWorld(t)
	w.append("ada", 3)
	var failed atomic.Int32
	fail := func(_ context.Context, event es.PersistedEvent) error {
		if event.GlobalPosition == 2 && failed.Add(1) < 4 {
			return errBad
		}
		return nil
	}
	log := orchestrator.WithLogger(slog.New(unreliable{w.logs.Logger().Handler(), misdeed}))
	first := start(t, w.orchestrator("set", log), recorder{name: "p", before: fail})
	w.awaitHandled("p", 3)
	second := start(t, w.orchestrator("set", log), recorder{name: "p", before: fail})
	w.awaitRunning("set", 2)
	require.NoError(t, errors.Join(first.stop(), second.stop()))
}

// untraced is a tracer provider whose tracers fail when a span begins or ends.
type untraced struct {
	noop.TracerProvider
	begin, end func()
}

func (u untraced) Tracer(string, ...trace.TracerOption) trace.Tracer { return untracing{of: u} }

type untracing struct {
	noop.Tracer
	of untraced
}

func (u untracing) Start(ctx context.Context, _ string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	u.of.begin()
	return ctx, unspanned{of: u.of}
}

type unspanned struct {
	noop.Span
	of untraced
}

func (u unspanned) End(...trace.SpanEndOption) { u.of.end() }

func TestATracerThatFailsHoldsUpNobody(t *testing.T) {
	directOnly(t)
	nothing := func() {}
	for name, misdeed := range misdeeds(t) {
		for when, provider := range map[string]untraced{"at the beginning": {begin: misdeed, end: nothing}, "at the end": {begin: nothing, end: misdeed}} {
			t.Run(name+" "+when, func(t *testing.T) {
				w := newWorld(t)
				w.append("ada", 3)
				first := start(t, w.orchestrator("set", orchestrator.WithTracerProvider(provider), orchestrator.WithBatchSize(1)), recorder{name: "p"})
				w.awaitHandled("p", 3)
				w.logs.AwaitLine(t, "the tracer failed, so batches have no spans")
				require.NoError(t, first.stop())

				processor := projection.NewPostgresProcessor(projection.ProcessorConfig{
					DB: w.application(), EventStore: w.store, Projection: recorder{name: "by hand"}, Logger: w.logs.Logger(), TracerProvider: provider,
					PollInterval: 20 * time.Millisecond,
				})
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- processor.Run(ctx) }()
				w.awaitHandled("by hand", 3)
				cancel()
				require.NoError(t, await(t, ended, "the processor to return"))
			})
		}
	}
}
