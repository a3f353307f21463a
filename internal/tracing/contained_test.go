package tracing_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/tracing"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/awaiting"
)

// hanging is a tracer that hangs when a span begins, or when it ends.
type hanging struct {
	noop.TracerProvider
	begin, end <-chan struct{}
}

func (h hanging) Tracer(string, ...trace.TracerOption) trace.Tracer { return tracer{of: h} }

type tracer struct {
	noop.Tracer
	of hanging
}

func (t tracer) Start(ctx context.Context, _ string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	<-t.of.begin
	return ctx, span{of: t.of}
}

type span struct {
	noop.Span
	of hanging
}

func (s span) End(...trace.SpanEndOption) { <-s.of.end }

// A tracer that hangs is waited for once, and holds up no batch after that.
func TestATracerThatHangs(t *testing.T) {
	t.Parallel()
	open, ended := make(chan struct{}), make(chan struct{})
	close(open)
	t.Cleanup(func() { close(ended) })
	for name, provider := range map[string]hanging{"begin": {begin: ended, end: open}, "end": {begin: open, end: ended}} {
		var text strings.Builder
		traces := tracing.New(provider, slog.New(slog.NewTextHandler(&text, nil)))
		done := make(chan struct{}, 1)
		go func() {
			for range 3 {
				_, span := traces.Start(context.WithoutCancel(t.Context()), tracing.Batch{}, handling.List{es.PersistedEvent{}})
				span.End(1, nil)
			}
			done <- struct{}{}
		}()
		awaiting.Value(t, 30*time.Second, done, name+" to be given up")
		assert.Equal(t, 1, strings.Count(text.String(), "the tracer failed"), name)
	}
}
