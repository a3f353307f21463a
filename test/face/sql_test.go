package face

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// handlersVariable has all recorders use database/sql if it is "sql".
const handlersVariable = "HANDLERS"

// asConfigured is the projections as the environment has them handle events.
func asConfigured(projections []projection.Projection) []projection.Projection {
	if os.Getenv(handlersVariable) != "sql" {
		return projections
	}
	list := make([]projection.Projection, len(projections))
	for i, p := range projections {
		if list[i] = p; p != nil {
			if r, is := p.(recorder); is {
				list[i] = sqlRecorder{of: r}
			}
		}
	}
	return list
}

// sqlRecorder is a recorder that uses database/sql.
type sqlRecorder struct {
	projection.SQLOnly
	of    recorder
	after func(ctx context.Context, tx *sql.Tx) error // what it does behind each event; may be nil
}

func (r sqlRecorder) Name() string { return r.of.name }

func (r sqlRecorder) HandleSQL(ctx context.Context, tx *sql.Tx, event es.PersistedEvent) error {
	if r.of.before != nil {
		if err := r.of.before(ctx, event); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO handled (projection, position, aggregate_id, aggregate_version) VALUES ($1, $2, $3, $4)",
		r.of.name, event.GlobalPosition, event.AggregateID, event.AggregateVersion)
	if err != nil || r.after == nil {
		return err
	}
	return r.after(ctx, tx)
}

// sqlBatches enters events in batches, through database/sql.
type sqlBatches struct{ sqlRecorder }

func (b sqlBatches) HandleSQLBatch(ctx context.Context, tx *sql.Tx, events []es.PersistedEvent) error {
	for _, event := range events {
		if err := b.HandleSQL(ctx, tx, event); err != nil {
			return err
		}
	}
	return nil
}

// Two workers divide what two projections handle through database/sql, one by one and in batches. Events that fail once are handled again.
func TestProjectionsThatUseDatabaseSQL(t *testing.T) {
	w := newWorld(t)
	failing := func() func(context.Context, es.PersistedEvent) error {
		var failed atomic.Bool
		return func(_ context.Context, event es.PersistedEvent) error {
			if event.AggregateVersion == 2 && failed.CompareAndSwap(false, true) {
				return errBad
			}
			return nil
		}
	}
	projections := []projection.Projection{
		sqlRecorder{of: recorder{name: "one by one", before: failing()}},
		sqlBatches{sqlRecorder{of: recorder{name: "batches", before: failing()}}},
	}
	for range 2 {
		start(t, w.orchestrator("set"), projections...)
	}
	w.awaitRunning("set", 2)
	for _, aggregate := range []string{"ada", "grace", "edsger", "barbara"} {
		w.append(aggregate, 3)
	}
	for _, name := range []string{"one by one", "batches"} {
		w.awaitHandled(name, 12)
		w.requireOrder(name)
	}
}

// What a handler does to its *sql.Tx ends no batch. What it does by SQL, and a failure that it hides, is the failure of its event.
func TestHandlersOfDatabaseSQLCannotEndTheBatch(t *testing.T) {
	for name, tt := range map[string]struct {
		does  func(ctx context.Context, tx *sql.Tx) error
		error string // of the event; empty if it is handled
	}{
		"commits":           {func(_ context.Context, tx *sql.Tx) error { _ = tx.Commit(); return nil }, ""},
		"returns that":      {func(_ context.Context, tx *sql.Tx) error { return tx.Commit() }, "the library ends it itself"},
		"rolls back":        {func(_ context.Context, tx *sql.Tx) error { _ = tx.Rollback(); return nil }, ""},
		"rolls back by SQL": {func(ctx context.Context, tx *sql.Tx) error { _, err := tx.ExecContext(ctx, "ROLLBACK"); return err }, "ended it by SQL"},
		"hides a failure":   {func(ctx context.Context, tx *sql.Tx) error { _, _ = tx.ExecContext(ctx, "SELECT 1/0"); return nil }, "aborted"},
		"leaves results open": {func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.QueryContext(ctx, "SELECT generate_series(1, 99)") //nolint:rowserrcheck,sqlclosecheck // that is the fault
			return err
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var mended atomic.Bool
			w.append("ada", 2)
			start(t, w.orchestrator("set"), sqlRecorder{of: recorder{name: "users"}, after: func(ctx context.Context, tx *sql.Tx) error {
				if mended.Load() {
					return nil
				}
				return tt.does(ctx, tx)
			}})
			if tt.error != "" {
				w.await("1 retrying", "SELECT global_position, state FROM orchestrator_dead_letters")
				assert.Contains(t, w.value("SELECT last_error FROM orchestrator_dead_letters"), tt.error)
				mended.Store(true)
			}
			w.awaitHandled("users", 2)
			w.await("2", "SELECT position FROM orchestrator_checkpoints")
		})
	}
}

// The manual runner hands events over in the same way.
func TestTheManualProcessorUsesDatabaseSQL(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 3)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- projection.NewPostgresProcessor(projection.ProcessorConfig{
			DB: w.application(), EventStore: w.store, Logger: w.logs.Logger(), Projection: sqlRecorder{of: recorder{name: "manual"}},
		}).Run(ctx)
	}()
	w.awaitHandled("manual", 3)
	cancel()
	require.NoError(t, await(t, ended, "the processor to end"))
}

// Events are appended within the application's *sql.Tx and *sql.Conn, and within the tx of a handler.
func TestEventsAreAppendedThroughDatabaseSQL(t *testing.T) {
	skipHostile(t, "a transaction that does not say that it writes cannot append with default_transaction_read_only")
	w := newWorld(t)
	ctx := t.Context()
	db := stdlib.OpenDBFromPool(w.application())
	defer func() { require.NoError(t, db.Close()) }()
	event := func(aggregate string) []es.Event {
		return []es.Event{{BoundedContext: "Identity", AggregateType: "User", AggregateID: aggregate, EventType: "Something", Payload: []byte("{}")}}
	}
	tx, err := db.BeginTx(ctx, nil)
	require.NoError(t, err)
	result, err := w.store.AppendSQL(ctx, tx, es.NoStream(), event("ada"))
	require.NoError(t, err)
	require.Len(t, result.GlobalPositions, 1)
	_, err = w.store.AppendSQL(ctx, tx, es.NoStream(), event("ada"))
	require.ErrorIs(t, err, eventstore.ErrOptimisticConcurrency)
	assert.Equal(t, "0", w.value("SELECT count(*) FROM events"))
	require.NoError(t, tx.Commit())
	assert.Equal(t, "1", w.value("SELECT count(*) FROM events"))
	_, err = w.store.AppendSQL(ctx, tx, es.Any(), event("ada"))
	require.ErrorIs(t, err, sql.ErrTxDone)
	_, err = w.store.AppendSQL(ctx, (*sql.Tx)(nil), es.Any(), event("ada"))
	require.ErrorContains(t, err, "tx must not be nil")

	if !pgtest.BehindPooler() {
		conn, err := db.Conn(ctx)
		require.NoError(t, err)
		_, err = w.store.AppendSQL(ctx, conn, es.Any(), event("ada"))
		require.ErrorIs(t, err, eventstore.ErrNoTransaction)
		_, err = conn.ExecContext(ctx, "BEGIN")
		require.NoError(t, err)
		_, err = w.store.AppendSQL(ctx, conn, es.Any(), event("ada"))
		require.NoError(t, err)
		_, err = conn.ExecContext(ctx, "ROLLBACK")
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	start(t, w.orchestrator("set"), sqlRecorder{of: recorder{name: "users"}, after: func(ctx context.Context, tx *sql.Tx) error {
		_, err := w.store.AppendSQL(ctx, tx, es.NoStream(), event("grace"))
		if errors.Is(err, eventstore.ErrOptimisticConcurrency) {
			return nil // it was appended before
		}
		return err
	}})
	w.awaitHandled("users", 2)
	assert.Equal(t, "ada, grace", w.value("SELECT string_agg(aggregate_id, ', ' ORDER BY global_position) FROM events"))
}

// A conflict within AppendSQL is none of the event's failures, also where the handler drops the error.
func TestAConflictWithinAppendSQLIsNoFailure(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.troubled = true
	w.append("ada", 1)
	tx, err := w.db.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE events IN SHARE MODE")
	require.NoError(t, err)
	event := []es.Event{{BoundedContext: "Identity", AggregateType: "Other", AggregateID: "x", EventType: "Something", Payload: []byte("{}")}}
	tried := make(chan struct{}, 100)
	orch := w.orchestrator("set", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: projection.Skip}))
	start(t, orch, scoped{recorder: recorder{name: "p"}, types: []string{"None"}}, sqlRecorder{of: recorder{name: "users"}, after: func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "SET LOCAL lock_timeout = '20ms'"); err != nil {
			return err
		}
		if _, err := w.store.AppendSQL(ctx, tx, es.NoStream(), event); err != nil && !errors.Is(err, eventstore.ErrOptimisticConcurrency) {
			select {
			case tried <- struct{}{}:
			default:
			}
			return errBad
		}
		return nil
	}})
	for range 3 {
		await(t, tried, "a conflict")
	}
	assert.Empty(t, w.value("SELECT state FROM orchestrator_dead_letters"))
	require.NoError(t, tx.Rollback(t.Context()))
	w.awaitHandled("users", 2)
}
