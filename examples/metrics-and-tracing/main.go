// Command metrics-and-tracing uses a registry and a tracer provider of its own. It counts something of its own beside the library's metrics, and its handler's spans are below that of the
// batch, which links to the request that appended the event.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/examples/internal/setup"
	"github.com/getpup/pupsourcing-orchestrator/v2/metrics"
)

func main() { setup.Main("example_metrics_and_tracing", "", run) }

func run(ctx context.Context, db *pgxpool.Pool) error {
	spans := &printer{batch: make(chan struct{}, 1)}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)) // with OTLP: sdktrace.WithBatcher(exporter)
	defer func() { _ = provider.Shutdown(context.WithoutCancel(ctx)) }()
	tracer := provider.Tracer("shop")
	registry := prometheus.NewRegistry()

	// A request: Append stores the trace context of ctx in the events' metadata.
	store := eventstore.New(eventstore.WithTraceContext())
	request, span := tracer.Start(ctx, "POST /orders")
	_, err := setup.Append(request, db, store, setup.Event("Order", "1", "OrderPlaced", "12"), setup.Event("Order", "1", "OrderPaid", "12"))
	span.End()
	if err != nil {
		return err
	}

	orch, err := orchestrator.New(
		db, store, "example", orchestrator.WithLogger(setup.Logger()),
		orchestrator.WithMetricsRegisterer(registry), orchestrator.WithTracerProvider(provider),
	)
	if err != nil {
		return err
	}
	worker, err := setup.Start(ctx, orch, NewOrders(registry, tracer))
	if err != nil {
		return err
	}
	select {
	case <-spans.batch:
		fmt.Println("GET /metrics:")
		show(metrics.Handler(registry), "shop_orders_total", metrics.Prefix+"events_handled_total")
	case <-ctx.Done():
	}
	return worker.Stop()
}

// Orders counts orders.
type Orders struct {
	orders *prometheus.CounterVec
	tracer trace.Tracer
}

// NewOrders registers the projection's own metric.
func NewOrders(registerer prometheus.Registerer, tracer trace.Tracer) *Orders {
	orders := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "shop_orders_total", Help: "Events of orders that were handled, repetitions included."}, []string{"event"})
	registerer.MustRegister(orders)
	return &Orders{orders: orders, tracer: tracer}
}

// Name is the name of the projection.
func (*Orders) Name() string { return "orders" }

// Handle counts. A counter is not rolled back with the batch: it says how often handlers did something. What must be exact belongs into a table.
func (o *Orders) Handle(ctx context.Context, _ pgx.Tx, event es.PersistedEvent) error {
	_, span := o.tracer.Start(ctx, "count "+event.EventType) // below the span of the batch
	defer span.End()
	o.orders.WithLabelValues(event.EventType).Inc()
	return nil
}

// printer prints spans. It stands for an exporter.
type printer struct{ batch chan struct{} }

// ExportSpans implements sdktrace.SpanExporter.
func (p *printer) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	for _, span := range spans {
		fmt.Printf("span %q: parent: %t, links: %d\n", span.Name(), span.Parent().IsValid(), len(span.Links()))
		if span.SpanKind() == trace.SpanKindConsumer { // a batch
			select {
			case p.batch <- struct{}{}:
			default: // it was told before
			}
		}
	}
	return nil
}

// Shutdown implements sdktrace.SpanExporter.
func (*printer) Shutdown(context.Context) error { return nil }

// show prints the series of some metrics, as Prometheus gets them.
func show(handler http.Handler, names ...string) {
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		for _, name := range names {
			if strings.HasPrefix(lines.Text(), name) {
				fmt.Println(lines.Text())
			}
		}
	}
}
