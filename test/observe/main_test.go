package observe

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

func TestMain(m *testing.M) {
	workload.ServeCustomIfAsked(serve)
	pgtest.Main(m)
}

// serve is a worker's process. It shows its metrics at the address that it enters into the table addresses.
func serve(ctx context.Context, spec workload.WorkerSpec, log *slog.Logger) error {
	log = slog.New(fullLog{Handler: log.Handler(), file: os.Getenv(logFullVariable)})
	pool, err := spec.Target.Pool(ctx, 8)
	if err != nil {
		return err
	}
	defer pool.Close()
	orch, err := orchestrator.New(pool, eventstore.New(eventstore.WithLogger(log)), spec.ReplicaSet, spec.Options(log)...)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: orch.MetricsHandler(), ReadHeaderTimeout: time.Second}
	defer server.Close()
	go func() { _ = server.Serve(listener) }()
	if _, err := pool.Exec(ctx, "INSERT INTO addresses VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET address = excluded.address", spec.Name, listener.Addr().String()); err != nil {
		return err
	}
	var projections []projection.Projection
	for _, p := range spec.Projections {
		projections = append(projections, handler(p.Name))
	}
	return orch.Run(ctx, projections)
}

// logFullVariable names the file that [fullLog] looks for.
const logFullVariable = "OBSERVE_LOG_FULL"

// fullLog takes no line while a file exists, as a log whose reader has stopped.
type fullLog struct {
	slog.Handler
	file string
}

func (l fullLog) Handle(ctx context.Context, r slog.Record) error {
	for {
		if _, err := os.Stat(l.file); err != nil {
			return l.Handler.Handle(ctx, r)
		}
		<-time.After(50 * time.Millisecond)
	}
}

func (l fullLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	l.Handler = l.Handler.WithAttrs(attrs)
	return l
}

func (l fullLog) WithGroup(name string) slog.Handler { l.Handler = l.Handler.WithGroup(name); return l }

// handler is a projection that fails on the aggregates that the table faults names, and waits as long as the table says.
type handler string

func (h handler) Name() string { return string(h) }

// ErrorPolicy parks. Invoices stop, and emails are retried without end.
func (h handler) ErrorPolicy() projection.ErrorPolicy {
	switch h {
	case "invoices":
		return projection.ErrorPolicy{Attempts: 1, Then: projection.Stop}
	case "emails":
		return projection.ErrorPolicy{}
	}
	return projection.ErrorPolicy{Attempts: 1, Then: projection.Park}
}

func (h handler) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	var text string
	var seconds float64
	err := tx.QueryRow(ctx, "SELECT error, seconds FROM faults WHERE projection = $1 AND aggregate_id IN ('', $2)", h.Name(), event.AggregateID).Scan(&text, &seconds)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil && seconds > 0 {
		_, err = tx.Exec(ctx, "SELECT pg_sleep($1)", seconds)
	}
	if text == "hang" {
		h.hang(tx)
	}
	if err == nil && text != "" {
		err = errors.New(text)
	}
	return err
}

// hang does not return, whatever becomes of its context, while the table faults says so.
func (h handler) hang(tx pgx.Tx) {
	own := tx.Conn().Config().Copy()
	for {
		<-time.After(200 * time.Millisecond)
		conn, err := pgx.ConnectConfig(context.Background(), own)
		if err != nil {
			continue
		}
		var hangs bool
		err = conn.QueryRow(context.Background(), "SELECT EXISTS (SELECT FROM faults WHERE projection = $1 AND error = 'hang')", h.Name()).Scan(&hangs)
		_ = conn.Close(context.Background())
		if err == nil && !hangs {
			return
		}
	}
}
