package face

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// traces is a tracer provider whose spans are kept.
type traces struct {
	*sdktrace.TracerProvider
	spans *tracetest.InMemoryExporter
}

func newTraces(t *testing.T) traces {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	return traces{provider, spans}
}

// handled is the spans of batches that have ended, in order.
func (s traces) handled() (spans tracetest.SpanStubs) {
	for _, span := range s.spans.GetSpans() {
		if span.SpanKind == trace.SpanKindConsumer {
			spans = append(spans, span)
		}
	}
	return spans
}

// await waits until so many batches have ended.
func (s traces) await(t *testing.T, n int) tracetest.SpanStubs {
	t.Helper()
	eventually(t, func() bool { return len(s.handled()) >= n }, func() string { return fmt.Sprintf("%d spans of batches", n) })
	return s.handled()
}

// attributes are a span's attributes, as text.
func attributes(span tracetest.SpanStub) map[string]string {
	all := map[string]string{}
	for _, a := range span.Attributes {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

// appendTraced appends an event of each aggregate, all in one transaction, within the context.
func (w *world) appendTraced(ctx context.Context, store *eventstore.Store, metadata string, aggregates ...string) {
	w.t.Helper()
	require.NoError(w.t, w.inTx(func(tx pgx.Tx) error {
		for _, id := range aggregates {
			event := es.Event{BoundedContext: "Identity", AggregateType: "User", AggregateID: id, EventType: "Something", Payload: []byte("{}"), Metadata: []byte(metadata)}
			if _, err := store.Append(ctx, tx, es.Any(), []es.Event{event}); err != nil {
				return err
			}
		}
		return nil
	}))
}

// From the request that appends an event to the handler that handles it.
func TestAnAppendIsFollowedToItsHandling(t *testing.T) {
	w := newWorld(t)
	seen := newTraces(t)
	tracer := seen.Tracer("the application")
	store := eventstore.New(eventstore.WithTraceContext())
	ctx, request := tracer.Start(t.Context(), "a request")
	w.appendTraced(ctx, store, `{"user": "ada"}`, "ada", "grace")
	request.End()
	w.append("barbara", 1) // without a trace

	users := recorder{name: "users", before: func(ctx context.Context, _ es.PersistedEvent) error {
		_, own := tracer.Start(ctx, "the handler's own")
		own.End()
		return nil
	}}
	start(t, w.orchestrator("set", orchestrator.WithTracerProvider(seen)), inBatches{users}) // such a batch is not cut if it takes long
	w.awaitHandled("users", 3)
	batch := seen.await(t, 1)[0]
	assert.Equal(t, "process events", batch.Name)
	require.Len(t, batch.Links, 1, "both events are of one span")
	assert.Equal(t, request.SpanContext().TraceID(), batch.Links[0].SpanContext.TraceID())
	assert.Equal(t, request.SpanContext().SpanID(), batch.Links[0].SpanContext.SpanID())
	got := attributes(batch)
	want := map[string]string{
		"messaging.system": "pupsourcing", "messaging.operation.type": "process", "messaging.operation.name": "process", "messaging.destination.name": "events",
		"messaging.destination.subscription.name": "users", "messaging.consumer.group.name": "set", "messaging.destination.partition.id": "0/1",
		"messaging.batch.message_count": "3", "messaging.client.id": w.value("SELECT worker_id::text FROM orchestrator_workers"),
		"pupsourcing.generation": "1", "pupsourcing.position.first": "1", "pupsourcing.position.last": "3", "pupsourcing.committed": "3",
	}
	assert.Equal(t, want, got)
	children := 0
	for _, span := range seen.spans.GetSpans() {
		if span.Name == "the handler's own" && span.Parent.SpanID() == batch.SpanContext.SpanID() {
			children++
		}
	}
	assert.Equal(t, 3, children)
	assert.Equal(t, "ada", w.value("SELECT metadata->>'user' FROM events WHERE aggregate_id = 'ada'"), "the caller's metadata stays")
}

// A batch of many appends has few links, and says how many it leaves out. What was not sampled is not linked to.
func TestLinksAreFew(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	seen := newTraces(t)
	store := eventstore.New(eventstore.WithTraceContext())
	for i := range 70 {
		ctx, span := seen.Tracer("the application").Start(t.Context(), "a request")
		w.appendTraced(ctx, store, "", fmt.Sprint(i), "ada")
		span.End()
	}
	unsampled := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}})
	w.appendTraced(trace.ContextWithSpanContext(t.Context(), unsampled), store, "", "unsampled")
	processor := projection.NewPostgresProcessor(projection.ProcessorConfig{
		DB: w.db, EventStore: w.store, Projection: recorder{name: "users"}, BatchSize: 1000, Logger: w.logs.Logger(), TracerProvider: seen,
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- processor.Run(ctx) }()
	w.awaitHandled("users", 141)
	batch := seen.await(t, 1)[0]
	cancel()
	_ = await(t, ended, "the processor to end")
	assert.Len(t, batch.Links, 64)
	assert.Equal(t, "6", attributes(batch)["pupsourcing.appends_not_linked"])
	assert.Equal(t, "141", attributes(batch)["pupsourcing.committed"])
}

// A batch that is rolled back is an error, with its class.
func TestAFailedBatchIsAnErrorOfItsSpan(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	seen := newTraces(t)
	w.append("ada", 1)
	start(t, w.orchestrator("set", orchestrator.WithTracerProvider(seen)), recorder{name: "users", before: func(context.Context, es.PersistedEvent) error {
		return projection.Permanent(errors.New("as the test wants it"))
	}})
	batch := seen.await(t, 1)[0]
	assert.Equal(t, codes.Error, batch.Status.Code)
	assert.Equal(t, "permanent", attributes(batch)["error.type"])
	assert.Equal(t, "0", attributes(batch)["pupsourcing.committed"])
	require.Len(t, batch.Events, 1)
	assert.Contains(t, batch.Events[0].Attributes, attribute.String("exception.message", "as the test wants it"))
}

// Whatever a caller's metadata are, an append with a trace context stores them as one without.
func TestTraceContextsLeaveMetadataAsTheyAre(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	seen := newTraces(t)
	ctx, span := seen.Tracer("the application").Start(t.Context(), "a request")
	defer span.End()
	plain, traced := eventstore.New(), eventstore.New(eventstore.WithTraceContext())
	for _, metadata := range []string{`null`, `[1, 2]`, `"text"`, `7`, `{}`, `{"a": {"b": null}}`, ""} {
		w.appendTraced(ctx, plain, metadata, "plain")
		w.appendTraced(ctx, traced, metadata, "traced")
	}
	w.await("7", `SELECT count(*) FROM events AS p JOIN events AS t USING (aggregate_version) WHERE p.aggregate_id = 'plain' AND t.aggregate_id = 'traced'
		AND (CASE WHEN jsonb_typeof(t.metadata) = 'object' THEN nullif(t.metadata - 'traceparent', '{}') ELSE t.metadata END)
			IS NOT DISTINCT FROM CASE WHEN p.metadata = '{}' THEN NULL ELSE p.metadata END`)
	w.await("3", `SELECT count(*) FROM events WHERE aggregate_id = 'traced' AND metadata ? 'traceparent'`)
	var members map[string]string
	require.NoError(t, json.Unmarshal([]byte(w.value(`SELECT metadata::text FROM events WHERE aggregate_id = 'traced' AND aggregate_version = 7`)), &members))
	assert.Equal(t, "00-"+span.SpanContext().TraceID().String()+"-"+span.SpanContext().SpanID().String()+"-01", members["traceparent"])
	assert.Equal(t, "0", w.value(`SELECT count(*) FROM events WHERE metadata IS NULL AND aggregate_id = 'traced'`))
}

// From the slow batch of a dashboard to its trace.
func TestBatchesThatAreTracedAreExemplars(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	seen := newTraces(t)
	w.append("ada", 1)
	orch := w.orchestrator("set", orchestrator.WithTracerProvider(seen))
	start(t, orch, recorder{name: "users"})
	w.awaitHandled("users", 1)
	batch := seen.await(t, 1)[0]
	exemplar := fmt.Sprintf(`# {trace_id="%s"}`, batch.SpanContext.TraceID())
	eventually(t, func() bool {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
		request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
		answer := httptest.NewRecorder()
		orch.MetricsHandler().ServeHTTP(answer, request)
		return strings.Contains(answer.Body.String(), exemplar)
	}, func() string { return exemplar })
}
