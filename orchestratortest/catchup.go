package orchestratortest

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

const (
	// replicaSet is the one that tests run projections in.
	replicaSet = "orchestratortest"
	// catchUpTimeout bounds a call of CatchUp.
	catchUpTimeout = time.Minute
)

// CatchUp runs a worker that handles everything that has been appended, and returns its report (see
// orchestrator.Orchestrator.RunUntilCaughtUp). The tables must exist. The test fails and ends if an event cannot be
// handled, or if this takes longer than a minute. Warnings go to the test's log.
//
// The worker runs in the replica set "orchestratortest". In the test's database, no other replica set may have the
// projections.
func CatchUp(tb testing.TB, db *pgxpool.Pool, store *eventstore.Store, projections ...projection.Projection) orchestrator.Report {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), catchUpTimeout)
	defer cancel()
	options := []orchestrator.Option{
		orchestrator.WithPollInterval(10 * time.Millisecond), orchestrator.WithMetricsEnabled(false),
		orchestrator.WithLogger(slog.New(slog.NewTextHandler(log{tb}, &slog.HandlerOptions{Level: slog.LevelWarn}))),
	}
	report, err := catchUp(ctx, db, store, projections, options...)
	if errors.Is(err, orchestrator.ErrNoSession) { // behind a pooler
		report, err = catchUp(ctx, db, store, projections, append(options, orchestrator.WithPollOnly())...)
	}
	if err != nil {
		tb.Fatalf("%v", err)
	}
	return report
}

func catchUp(ctx context.Context, db *pgxpool.Pool, store *eventstore.Store, projections []projection.Projection, options ...orchestrator.Option) (orchestrator.Report, error) {
	orch, err := orchestrator.New(db, store, replicaSet, options...)
	if err != nil {
		return orchestrator.Report{}, err
	}
	return orch.RunUntilCaughtUp(ctx, projections)
}

// log writes to the test's log.
type log struct{ tb testing.TB }

// Write takes a line.
func (l log) Write(line []byte) (int, error) {
	l.tb.Log(strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}
