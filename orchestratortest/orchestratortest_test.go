package orchestratortest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.MainTwice(m) }

// users keeps a row for each user, and how often it was told of it.
type users struct{}

func (users) Name() string             { return "users" }
func (users) AggregateTypes() []string { return []string{"User"} }

func (users) Handle(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
	_, err := tx.Exec(ctx, "INSERT INTO users (id, told) VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET told = users.told + 1", e.AggregateID)
	return err
}

// batches is users in whole batches.
type batches struct {
	projection.BatchOnly
	users
}

func (batches) Handle(context.Context, pgx.Tx, es.PersistedEvent) error {
	return projection.ErrBatchOnly
}

func (b batches) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	for _, e := range events {
		if err := b.users.Handle(ctx, tx, e); err != nil {
			return err
		}
	}
	return nil
}

var both = map[string]projection.Projection{"one by one": users{}, "batches": batches{}, "database/sql": sqlUsers{}, "database/sql, batches": sqlBatches{}}

// sqlUsers is users with database/sql.
type sqlUsers struct{ projection.SQLOnly }

func (sqlUsers) Name() string             { return "users" }
func (sqlUsers) AggregateTypes() []string { return []string{"User"} }

func (sqlUsers) HandleSQL(ctx context.Context, tx *sql.Tx, e es.PersistedEvent) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO users AS u (id, told) VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET told = u.told + 1", e.AggregateID)
	return err
}

// sqlBatches is the same in batches.
type sqlBatches struct{ sqlUsers }

func (b sqlBatches) HandleSQLBatch(ctx context.Context, tx *sql.Tx, events []es.PersistedEvent) error {
	for _, e := range events {
		if err := b.HandleSQL(ctx, tx, e); err != nil {
			return err
		}
	}
	return nil
}

func event(aggregateType, id string) es.Event {
	return es.Event{BoundedContext: "Identity", AggregateType: aggregateType, AggregateID: id, EventType: "Something", Payload: []byte("{}")}
}

// newDatabase has all tables.
func newDatabase(t *testing.T) *pgxpool.Pool {
	t.Helper()
	db := pgtest.NewDatabaseFrom(t, "all tables", func(db *pgxpool.Pool) error {
		return errors.Join(eventstore.RunMigrations(db, eventstore.WithLogger(nil)), orchestrator.RunMigrations(db, orchestrator.WithLogger(slog.New(slog.DiscardHandler))))
	})
	_, err := db.Exec(t.Context(), "CREATE TABLE users (id text PRIMARY KEY, told int)")
	require.NoError(t, err)
	return db
}

// told is the read model.
func told(t *testing.T, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
},
) (text string) {
	t.Helper()
	require.NoError(t, db.QueryRow(t.Context(), "SELECT coalesce(string_agg(id || ' ' || told, ', ' ORDER BY id), '') FROM users").Scan(&text))
	return text
}

// failure runs a part of a test that must fail, and returns what it says.
func failure(t *testing.T, part func(testing.TB)) string {
	t.Helper()
	f := &failed{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		part(f)
	}()
	<-done
	require.NotEmpty(t, f.text, "it did not fail")
	return f.text
}

// failed is a test that notes its failure.
type failed struct {
	testing.TB
	text string
}

func (f *failed) Fatalf(format string, args ...any) {
	f.text = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestHandle(t *testing.T) {
	for kind, p := range both {
		t.Run(kind, func(t *testing.T) {
			db := newDatabase(t)
			tx, err := db.Begin(t.Context())
			require.NoError(t, err)
			defer func() { require.NoError(t, tx.Rollback(context.WithoutCancel(t.Context()))) }()
			stored := Handle(t, tx, p, event("User", "ada"), event("Order", "7"), event("User", "ada"))
			stored = append(stored, Handle(t, tx, p, event("User", "ada"), event("User", "grace"))...)
			assert.Equal(t, "ada 3, grace 1", told(t, tx))
			for i, version := range []int64{1, 1, 2, 3, 1} {
				assert.Equal(t, int64(i+1), stored[i].GlobalPosition)
				assert.Equal(t, version, stored[i].AggregateVersion)
				assert.NotZero(t, stored[i].EventID)
				assert.NotZero(t, stored[i].CreatedAt)
				assert.Equal(t, 1, stored[i].EventVersion)
			}
			assert.Empty(t, Handle(t, tx, p))
		})
	}
}

// What a handler must not do fails the test, as it would fail the event.
func TestHandleFails(t *testing.T) {
	db := newDatabase(t)
	for name, c := range map[string]struct {
		p    projection.Projection
		text string
	}{
		"an error":   {Failing(users{}, func(es.PersistedEvent) error { return errBad }), `projection "users" failed on event Something at position 1, of aggregate "ada" of type "User": it is bad`},
		"a batch":    {Failing(batches{}, func(es.PersistedEvent) error { return errBad }), `projection "users" failed on 1 events: it is bad`},
		"a panic":    {Failing(users{}, func(es.PersistedEvent) error { panic("oh") }), "the handler panicked: oh"},
		"a commit":   {ending{}, "at position 1"},
		"no pointer": {(*ending)(nil), "the projection cannot be run: it is a nil"},
	} {
		tx, err := db.Begin(t.Context())
		require.NoError(t, err)
		assert.Contains(t, failure(t, func(tb testing.TB) { Handle(tb, tx, c.p, event("User", "ada")) }), c.text, name)
		require.NoError(t, tx.Rollback(context.WithoutCancel(t.Context())))
	}
	assert.Contains(t, failure(t, func(tb testing.TB) { Handle(tb, nil, users{}, event("", "ada")) }), "the event at index 0: AggregateType must not be empty")
}

var errBad = errors.New("it is bad")

// ending commits the transaction.
type ending struct{}

func (ending) Name() string { return "ending" }

func (ending) Handle(ctx context.Context, tx pgx.Tx, _ es.PersistedEvent) error {
	return tx.Commit(ctx)
}

func TestCatchUp(t *testing.T) {
	for kind, p := range both {
		t.Run(kind, func(t *testing.T) {
			db, store := newDatabase(t), eventstore.New()
			for _, e := range []es.Event{event("User", "ada"), event("Order", "7"), event("User", "ada"), event("User", "grace")} {
				require.NoError(t, pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
					_, err := store.Append(t.Context(), tx, es.Any(), []es.Event{e})
					return err
				}))
			}
			var open atomic.Bool
			failing := Failing(p, func(e es.PersistedEvent) error {
				assert.Equal(t, "User", e.AggregateType, "it has the scope of what it wraps")
				if e.GlobalPosition == 3 && !open.Load() {
					return errBad
				}
				return nil
			})
			text := failure(t, func(tb testing.TB) { CatchUp(tb, db, store, failing) })
			assert.Contains(t, text, "at position 3")
			assert.Contains(t, text, errBad.Error())
			open.Store(true)
			report := CatchUp(t, db, store, failing)
			assert.Equal(t, int64(4), report.Projections[0].Position)
			assert.Equal(t, "ada 2, grace 1", told(t, db))
			assert.Zero(t, CatchUp(t, db, store, p).Projections[0].Events)
		})
	}
	assert.Contains(t, failure(t, func(tb testing.TB) { CatchUp(tb, newDatabase(t), eventstore.New()) }), "there must be at least one")
}
