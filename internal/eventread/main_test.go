package eventread

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.MainTwice(m) }

// deadline bounds every wait for something that happens in another goroutine.
const deadline = 20 * time.Second

// store is an event store and the statements that read it.
type store struct {
	*eventstore.Store
	statements *statements
}

// of is the store with its statements.
func of(s *eventstore.Store) *store {
	return &store{Store: s, statements: newStatements(s.EventsTable(), 0)}
}

// quiet is a store that logs nothing.
func quiet() *store { return of(eventstore.New(eventstore.WithLogger(nil))) }

// reader is a reader of the store that logs nothing.
func (s *store) reader() *Reader { return New(s.Store, slog.New(slog.DiscardHandler)) }

// stream reads by one statement.
func (s *store) stream(ctx context.Context, db DB, q Query, size int, take func(Part)) error {
	return s.statements.stream(ctx, db, q, size, take)
}

// page reads by one statement that hands on all in one part.
func (s *store) page(ctx context.Context, db DB, q Query) (page Page, err error) {
	err = s.stream(ctx, db, q, q.Limit, func(p Part) { page = p.page() })
	if err != nil {
		return Page{}, err
	}
	return page, nil
}

// newStore is a store with its tables in a database of its own.
func newStore(t testing.TB) (*store, *pgxpool.Pool) {
	t.Helper()
	return quiet(), pgtest.NewDatabaseFrom(t, "events", func(pool *pgxpool.Pool) error {
		return eventstore.RunMigrations(pool, eventstore.WithLogger(nil))
	})
}

// resolved is the store with the schemas of its tables.
func resolved(t testing.TB, s *store, db DB) *store {
	t.Helper()
	found, err := s.Resolve(t.Context(), db)
	require.NoError(t, err)
	return of(found)
}

// newResolved is newStore with a resolved store.
func newResolved(t testing.TB) (*store, *pgxpool.Pool) {
	t.Helper()
	s, pool := newStore(t)
	return resolved(t, s, pool), pool
}

// mustAppend appends in a transaction of its own.
func mustAppend(t testing.TB, s *store, pool *pgxpool.Pool, expected es.ExpectedVersion, events ...es.Event) (result es.AppendResult) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
		result, err = s.Append(t.Context(), tx, expected, events)
		return err
	}))
	return result
}

func exec(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}
