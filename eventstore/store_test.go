package eventstore

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// operation is a function that takes a database, by its name.
type operation struct {
	name string
	call func(t *testing.T, s *Store, db Execer) error
}

// operations are those that can be called with whatever executes statements.
func operations() []operation {
	return []operation{
		{"InstallWakeUp", func(t *testing.T, s *Store, db Execer) error { return s.InstallWakeUp(t.Context(), db) }},
		{"RemoveWakeUp", func(t *testing.T, s *Store, db Execer) error { return s.RemoveWakeUp(t.Context(), db) }},
		{"HasWakeUp", func(t *testing.T, s *Store, db Execer) error { _, err := s.HasWakeUp(t.Context(), db); return err }},
		{"InstallScopeIndex", func(t *testing.T, s *Store, db Execer) error { return s.InstallScopeIndex(t.Context(), db) }},
		{"RemoveScopeIndex", func(t *testing.T, s *Store, db Execer) error { return s.RemoveScopeIndex(t.Context(), db) }},
		{"InstallSlotIndex", func(t *testing.T, s *Store, db Execer) error { return s.InstallSlotIndex(t.Context(), db) }},
		{"RemoveSlotIndex", func(t *testing.T, s *Store, db Execer) error { return s.RemoveSlotIndex(t.Context(), db) }},
		{"HasSlotIndex", func(t *testing.T, s *Store, db Execer) error { _, err := s.HasSlotIndex(t.Context(), db); return err }},
		{"HasScopeIndex", func(t *testing.T, s *Store, db Execer) error { _, err := s.HasScopeIndex(t.Context(), db); return err }},
		{"ReadEvents", func(t *testing.T, s *Store, db Execer) error {
			_, err := s.ReadEvents(t.Context(), db, 0, 1)
			return err
		}},
		{"ReadAggregateStream", func(t *testing.T, s *Store, db Execer) error {
			_, err := s.ReadAggregateStream(t.Context(), db, "Identity", "User", "ada", nil, nil)
			return err
		}},
		{"LatestPosition", func(t *testing.T, s *Store, db Execer) error { _, err := s.LatestPosition(t.Context(), db); return err }},
	}
}

func TestNoDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	for _, op := range operations() {
		for kind, db := range map[string]Execer{"nil": nil, "a nil pool": (*pgxpool.Pool)(nil), "a nil connection": (*pgx.Conn)(nil), "a nil connection of a pool": (*pgxpool.Conn)(nil), "a nil transaction of a pool": (*pgxpool.Tx)(nil)} {
			assert.ErrorContains(t, op.call(t, New(), db), ": db must not be nil", "%s with %s", op.name, kind)
		}
	}
	_, err := New().Append(t.Context(), nil, es.Any(), eventsOf("ada", 1))
	require.EqualError(t, err, "appending events: tx must not be nil")
	require.EqualError(t, RunMigrations(nil), "creating the event store's tables: db must not be nil")
}

// Its faults would show as a table without a name, much later.
func TestTheZeroStoreIsRefused(t *testing.T) {
	t.Parallel()
	const text = "the event store must be made by eventstore.New"
	require.ErrorContains(t, (&Store{}).Validate(), text)
	for _, op := range operations() {
		require.ErrorContains(t, op.call(t, &Store{}, nil), text, op.name)
	}
	_, err := (&Store{}).Append(t.Context(), nil, es.Any(), eventsOf("ada", 1))
	require.ErrorContains(t, err, text)
}
