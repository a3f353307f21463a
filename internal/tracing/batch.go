package tracing

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/contained"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
)

// MostLinks is how many appends a span links to at most.
const MostLinks = 64

// scope names the instrumentation.
const scope = "github.com/getpup/pupsourcing-orchestrator/v2"

// Tracer makes spans. Its methods do nothing on nil, and neither do those of the Span that it returns then. Spans are an aid: if the application's tracer
// fails, batches have none.
type Tracer struct {
	tracer trace.Tracer
	log    *slog.Logger
	calls  *contained.Calls
	logged atomic.Int64 // when a failure was logged last, in nanoseconds of Unix time
}

const (
	// patience is how long the application's tracer may take to begin a span, or to end one.
	patience = time.Second
	// logEvery is how often a failure of it is logged.
	logEvery = time.Minute
)

// New makes a Tracer. Without a provider it returns nil.
func New(provider trace.TracerProvider, log *slog.Logger) *Tracer {
	if provider == nil {
		return nil
	}
	version := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == scope {
				version = dep.Version
			}
		}
	}
	return &Tracer{tracer: provider.Tracer(scope, trace.WithInstrumentationVersion(version)), log: log, calls: contained.NewCalls(patience, 1)}
}

// Batch is what a span says of a batch.
type Batch struct {
	// EventsTable is where the events come from: the destination of OpenTelemetry's conventions.
	EventsTable string
	// Projection is the subscription, and ReplicaSet the consumer group.
	Projection, ReplicaSet string
	// Partition is k/N, Worker the worker's id, and Generation the fencing token. They may be empty.
	Partition, Worker string
	Generation        int64
}

// Events is the events of a batch.
type Events interface {
	Len() int
	At(i int) es.PersistedEvent
}

// Span is one batch, being handled.
type Span struct {
	span   trace.Span
	tracer *Tracer
}

// Start begins the span of a batch of events, of which there is at least one. The handlers get the context.
//
// The names are those of OpenTelemetry's semantic conventions for messaging spans: https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/.
func (t *Tracer) Start(ctx context.Context, b Batch, events Events) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	links, rest := appends(events)
	attributes := []attribute.KeyValue{
		attribute.String("messaging.system", "pupsourcing"),
		attribute.String("messaging.operation.type", "process"),
		attribute.String("messaging.operation.name", "process"),
		attribute.String("messaging.destination.name", b.EventsTable),
		attribute.String("messaging.destination.subscription.name", b.Projection),
		attribute.Int("messaging.batch.message_count", events.Len()),
		attribute.Int64("pupsourcing.position.first", events.At(0).GlobalPosition),
		attribute.Int64("pupsourcing.position.last", events.At(events.Len()-1).GlobalPosition),
	}
	if b.ReplicaSet != "" {
		attributes = append(attributes, attribute.String("messaging.consumer.group.name", b.ReplicaSet), attribute.Int64("pupsourcing.generation", b.Generation))
	}
	if b.Partition != "" {
		attributes = append(attributes, attribute.String("messaging.destination.partition.id", b.Partition))
	}
	if b.Worker != "" {
		attributes = append(attributes, attribute.String("messaging.client.id", b.Worker))
	}
	if rest > 0 {
		attributes = append(attributes, attribute.Int("pupsourcing.appends_not_linked", rest))
	}
	type begun struct {
		within context.Context
		span   trace.Span
	}
	began, fault := contained.Call(t.calls, func() begun {
		within, span := t.tracer.Start(ctx, "process "+b.EventsTable, trace.WithSpanKind(trace.SpanKindConsumer),
			trace.WithLinks(links...), trace.WithAttributes(attributes...))
		return begun{within, span}
	})
	if t.failed(fault) {
		return ctx, nil
	}
	return began.within, &Span{span: began.span, tracer: t}
}

// failed says whether the application's tracer has failed, and logs it now and then.
func (t *Tracer) failed(fault error) bool {
	if fault == nil {
		return false
	}
	now, last := time.Now().UnixNano(), t.logged.Load()
	if (last == 0 || now-last >= int64(logEvery)) && t.logged.CompareAndSwap(last, now) {
		t.log.Warn("the tracer failed, so batches have no spans; handling goes on", "error", fault)
	}
	return true
}

// appends is links to the sampled appends of the events, each once, and how many there are besides.
func appends(events Events) (links []trace.Link, rest int) {
	type id struct {
		trace trace.TraceID
		span  trace.SpanID
	}
	seen := map[id]struct{}{}
	for i := range events.Len() {
		of := Append(events.At(i).Metadata)
		key := id{of.TraceID(), of.SpanID()}
		if _, known := seen[key]; known || !of.IsValid() || !of.IsSampled() {
			continue
		}
		seen[key] = struct{}{}
		if len(links) == MostLinks {
			rest++
			continue
		}
		links = append(links, trace.Link{SpanContext: of})
	}
	return links, rest
}

// ErrAbandoned is the error of a batch whose handler did not return.
var ErrAbandoned = errors.New("the handler does not return, and was abandoned")

// End ends the span, when so many events were handled and committed, or an error has taken them back.
func (s *Span) End(committed int, err error) {
	if s == nil {
		return
	}
	_, fault := contained.Call(s.tracer.calls, func() struct{} {
		s.span.SetAttributes(attribute.Int("pupsourcing.committed", committed))
		if err != nil {
			s.span.SetAttributes(attribute.String("error.type", handling.DefaultClass(err).String()))
			s.span.RecordError(err)
			s.span.SetStatus(codes.Error, "the batch was rolled back")
		}
		s.span.End()
		return struct{}{}
	})
	s.tracer.failed(fault)
}
