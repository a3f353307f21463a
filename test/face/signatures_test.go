package face

import (
	"context"
	"io"
	"iter"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/cli"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/orchestratortest"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/statuspage"
)

// These are the signatures that programs outside are written against. Another one does not compile.
var (
	_ = projection.ErrorPolicy{
		Attempts: 0, First: time.Second, Max: time.Second, Timeout: time.Second, Then: projection.Stop, MaxParked: 0, MaxParkedEvents: 0,
		Classify: func(error) projection.Class { return projection.DefaultClass(nil) },
	}
	_                                       = [...]projection.Outcome{projection.Stop, projection.Skip, projection.Park}
	_ func(error) error                     = projection.Permanent
	_ func(time.Duration, error) error      = projection.RetryAfter
	_ func() bool                           = func() bool { return projection.Delivery{}.Replay }
	_ func(projection.Resettable) resetting = func(r projection.Resettable) resetting { return r.Reset }
	_ func(projection.Successor) string     = projection.Successor.Replaces

	_ func(projection.ErrorPolicy) orchestrator.Option                                 = orchestrator.WithErrorPolicy
	_ func(string, projection.ErrorPolicy) orchestrator.Option                         = orchestrator.WithErrorPolicyFor
	_ func(func(context.Context, projection.Failure)) orchestrator.Option              = orchestrator.WithFailureHook
	_ func(trace.TracerProvider) orchestrator.Option                                   = orchestrator.WithTracerProvider
	_ func(*orchestrator.Orchestrator, context.Context, string, int64) error           = (*orchestrator.Orchestrator).WaitFor
	_ func(*orchestrator.Orchestrator, context.Context, string, es.AppendResult) error = (*orchestrator.Orchestrator).WaitForAppend
	_ func(*orchestrator.Orchestrator) http.Handler                                    = (*orchestrator.Orchestrator).LiveHandler
	_ func(*orchestrator.Orchestrator) http.Handler                                    = (*orchestrator.Orchestrator).ReadyHandler
	_ func(*orchestrator.Orchestrator) orchestrator.Health                             = (*orchestrator.Orchestrator).Health
	_ catchingUp                                                                       = (*orchestrator.Orchestrator).RunUntilCaughtUp
	_                                                                                  = []error{orchestrator.ErrNotRunning, orchestrator.ErrProjectionPaused, orchestrator.ErrProjectionStopped, orchestrator.ErrAggregateParked}

	_ func(*pgxpool.Pool, *eventstore.Store, string, ...admin.Option) (*admin.Admin, error)            = admin.New
	_ func(*admin.Admin, context.Context) (admin.Snapshot, error)                                      = (*admin.Admin).Snapshot
	_ func(*admin.Admin, context.Context, admin.Target, string, time.Time) error                       = (*admin.Admin).Pause
	_ func(*admin.Admin, context.Context, admin.Target, string) error                                  = (*admin.Admin).Resume
	_                                                                                                  = admin.Target{Projection: ""}
	_                                                                                                  = admin.Filter{Projection: "", BoundedContext: "", AggregateType: "", AggregateID: "", Group: ""}
	_ func(*admin.Admin, context.Context, admin.Filter) iter.Seq2[admin.DeadLetter, error]             = (*admin.Admin).DeadLetters
	_ func(*admin.Admin, context.Context, admin.Filter) ([]admin.FailureGroup, error)                  = (*admin.Admin).FailureGroups
	_ func(*admin.Admin, context.Context, admin.Filter) ([]admin.Trial, error)                         = (*admin.Admin).Try
	_ func(*admin.Admin, context.Context, admin.Filter, string) (admin.Result, error)                  = (*admin.Admin).Retry
	_ func(*admin.Admin, context.Context, admin.Filter, string) (admin.Result, error)                  = (*admin.Admin).Discard
	_ func(*admin.Admin, context.Context, string, admin.Point, string) error                           = (*admin.Admin).Reset
	_                                                                                                  = []admin.Point{admin.Start(), admin.Position(1), admin.Time(time.Time{})}
	_ func(*admin.Admin, context.Context, string, string, string) (admin.CutOver, error)               = (*admin.Admin).CutOver
	_ func(*admin.Admin, context.Context, string, string) error                                        = (*admin.Admin).Drain
	_ func(*admin.Admin, context.Context, string, string) error                                        = (*admin.Admin).Undrain
	_ func(*admin.Admin, context.Context, int64) ([]admin.Explanation, error)                          = (*admin.Admin).Explain
	_ func(*admin.Admin, context.Context, time.Time) ([]admin.Entry, error)                            = (*admin.Admin).Timeline
	_ func(*admin.Admin, context.Context) ([]admin.Finding, error)                                     = (*admin.Admin).Verify
	_ func(*admin.Admin, context.Context, string, string) (admin.Import, error)                        = (*admin.Admin).ImportCheckpoints
	_                                                                                                  = []admin.Option{admin.WithSchema(""), admin.WithActor("")}
	_ func(context.Context, []string, cli.Config) int                                                  = cli.Run
	_                                                                                                  = cli.Config{Stdin: nil, Stdout: nil, Stderr: nil, Getenv: nil, Connect: func(context.Context) (*pgxpool.Pool, error) { return nil, nil }, EventStore: nil, Projections: nil}
	_ func(*admin.Admin, ...statuspage.Option) http.Handler                                            = statuspage.New
	_ func(func(*http.Request) statuspage.Access) statuspage.Option                                    = statuspage.WithAccess
	_ func(testing.TB, pgx.Tx, projection.Projection, ...es.Event) []es.PersistedEvent                 = orchestratortest.Handle
	_ func(testing.TB, *pgxpool.Pool, *eventstore.Store, ...projection.Projection) orchestrator.Report = orchestratortest.CatchUp
	_ func(testing.TB, *pgxpool.Pool, projection.Projection, []es.Event, func(pgx.Tx) (any, error))    = orchestratortest.CheckLaws
	_ func(projection.Projection, func(es.PersistedEvent) error) projection.Projection                 = orchestratortest.Failing
	_ func(io.Writer, migrations.ExportOptions) error                                                  = migrations.Export
	_                                                                                                  = migrations.ExportOptions{Schema: "", From: 0, To: 0, Down: false, Format: ""}
)

type (
	resetting  = func(context.Context, pgx.Tx) error
	catchingUp = func(*orchestrator.Orchestrator, context.Context, []projection.Projection) (orchestrator.Report, error)
)
