package handling_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// bySQL uses database/sql.
type bySQL struct {
	projection.SQLOnly
	calls *[]string
}

func (bySQL) Name() string             { return "bySQL" }
func (bySQL) AggregateTypes() []string { return []string{"Order"} }
func (b bySQL) HandleSQL(context.Context, *sql.Tx, es.PersistedEvent) error {
	*b.calls = append(*b.calls, "HandleSQL")
	return nil
}

// bySQLBatch does so with batches.
type bySQLBatch struct {
	projection.SQLOnly
	calls *[]string
}

func (bySQLBatch) Name() string { return "bySQLBatch" }
func (b bySQLBatch) HandleSQLBatch(context.Context, *sql.Tx, []es.PersistedEvent) error {
	*b.calls = append(*b.calls, "HandleSQLBatch")
	return nil
}

// bySQLBoth has both ways.
type bySQLBoth struct{ bySQL }

func (b bySQLBoth) HandleSQLBatch(context.Context, *sql.Tx, []es.PersistedEvent) error {
	*b.calls = append(*b.calls, "HandleSQLBatch")
	return nil
}

// sqlAround uses database/sql, unlike what it wraps.
type sqlAround struct {
	unwrapped
	of bySQL
}

func (s sqlAround) HandleSQL(ctx context.Context, tx *sql.Tx, event es.PersistedEvent) error {
	return s.of.HandleSQL(ctx, tx, event)
}

// Events go to the methods for database/sql, through wrappers too, and batches before single events.
func TestHandlersForDatabaseSQLAreCalled(t *testing.T) {
	db := pgtest.NewDatabase(t)
	events := make(handling.List, 2)
	for name, tt := range map[string]struct {
		of           func(calls *[]string) projection.Projection
		whole, alone []string
	}{
		"one by one": {
			func(calls *[]string) projection.Projection { return bySQL{calls: calls} },
			[]string{"HandleSQL", "HandleSQL"},
			[]string{"HandleSQL"},
		},
		"in batches": {func(calls *[]string) projection.Projection { return bySQLBatch{calls: calls} }, []string{"HandleSQLBatch"}, nil},
		"both":       {func(calls *[]string) projection.Projection { return bySQLBoth{bySQL{calls: calls}} }, []string{"HandleSQLBatch"}, []string{"HandleSQL"}},
		"one by one, wrapped": {
			func(calls *[]string) projection.Projection { return unwrapped{unwrapped{bySQL{calls: calls}}} },
			[]string{"HandleSQL", "HandleSQL"},
			[]string{"HandleSQL"},
		},
		"in batches, wrapped": {func(calls *[]string) projection.Projection { return unwrapped{bySQLBatch{calls: calls}} }, []string{"HandleSQLBatch"}, nil},
		"around batches of pgx": {
			func(calls *[]string) projection.Projection { return sqlAround{unwrapped{rich{}}, bySQL{calls: calls}} },
			[]string{"HandleSQL", "HandleSQL"},
			[]string{"HandleSQL"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var calls []string
			d, err := describe(tt.of(&calls))
			require.NoError(t, err)
			require.NoError(t, pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
				handled, err := handling.Handle(t.Context(), d.Projection, tx, events, nil)
				assert.Equal(t, 2, handled)
				return err
			}))
			assert.Equal(t, tt.whole, calls)
			calls = nil
			require.NoError(t, pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
				err := d.Projection.Handle(t.Context(), tx, es.PersistedEvent{})
				if tt.alone == nil {
					require.ErrorIs(t, err, projection.ErrSQLOnly)
					return nil
				}
				return err
			}))
			assert.Equal(t, tt.alone, calls)
		})
	}
}

// What else a projection says of itself is kept.
func TestAProjectionForDatabaseSQLKeepsItsScope(t *testing.T) {
	var calls []string
	d, err := describe(bySQL{calls: &calls})
	require.NoError(t, err)
	assert.Equal(t, "bySQL", d.Name)
	assert.Equal(t, []string{"Order"}, d.Scope.AggregateTypes)
	assert.False(t, d.Resettable)
}

type (
	bothBatches  struct{ bySQLBatch }
	batchAndSQL  struct{ bySQL }
	pgxForSQL    struct{ plain }
	pointerToSQL struct{ plain }
)

func (bothBatches) HandleBatch(context.Context, pgx.Tx, []es.PersistedEvent) error { return nil }

func (batchAndSQL) HandleBatch(context.Context, pgx.Tx, []es.PersistedEvent) error { return nil }

func (pgxForSQL) HandleSQL(context.Context, pgx.Tx, es.PersistedEvent) error { return nil }

func (*pointerToSQL) HandleSQLBatch(context.Context, *sql.Tx, []es.PersistedEvent) error { return nil }

// A method that would never be called is an error.
func TestHandlersThatWouldNotBeCalled(t *testing.T) {
	for want, p := range map[string]projection.Projection{
		"has both HandleBatch and HandleSQLBatch":                                              bothBatches{},
		"has both HandleBatch and HandleSQL, ":                                                 batchAndSQL{},
		"HandleSQL of handling_test.pgxForSQL has the signature":                               pgxForSQL{},
		"handling_test.pointerToSQL has HandleSQLBatch with a pointer receiver":                pointerToSQL{},
		"handling_test.logged hides the method HandleSQLBatch of the handling_test.bySQLBatch": logged{bySQLBatch{}},
	} {
		_, err := describe(p)
		require.ErrorContains(t, err, want)
	}
}
