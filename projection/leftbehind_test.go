package projection_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// A handler that has ended the batch's transaction may have set a role for the session. Nobody gets its connection, whatever it began afterwards.
func TestProcessorClosesAConnectionWhoseTransactionAHandlerEnded(t *testing.T) {
	pgtest.SkipBehindPooler(t, "a client cannot close the pooler's connection")
	pool, store := newStore(t)
	positions := appendEvents(t, pool, store, "Order", 1)
	for name, statements := range map[string][]string{
		"and begins another":                   {`SET ROLE pg_monitor`, `COMMIT`, `BEGIN`},
		"and another that fails":               {`SET ROLE pg_monitor`, `COMMIT`, `BEGIN`, `SELECT 1/0`},
		"and another, having rolled this back": {`ROLLBACK`, `SET ROLE pg_monitor`, `BEGIN`, `SELECT 1/0`},
	} {
		t.Run(name, func(t *testing.T) {
			one := sameDatabase(t, pool, func(c *pgxpool.Config) { c.MaxConns = 1 })
			p := &each{"orders", func(ctx context.Context, tx pgx.Tx, _ es.PersistedEvent) error {
				for _, sql := range statements {
					_, _ = tx.Exec(ctx, sql)
				}
				return errBad
			}}
			var stopped *projection.StoppedError
			require.ErrorAs(t, untilError(t, configFor(one, store, p)), &stopped)
			assert.Equal(t, positions[0], stopped.Position)
			var role string
			require.NoError(t, one.QueryRow(t.Context(), `SELECT current_setting('role')`).Scan(&role))
			assert.Equal(t, "none", role)
		})
	}
}

// What a handler says after it has dealt with a conflict is its event's failure.
func TestProcessorForgetsAConflictThatAHandlerDealtWith(t *testing.T) {
	pool, store := newStore(t)
	positions := appendEvents(t, pool, store, "Order", 10)
	p := atEvent(func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
		if e.GlobalPosition != positions[5] {
			return nil
		}
		_ = pgx.BeginFunc(ctx, tx, func(own pgx.Tx) error {
			_, err := own.Exec(ctx, `DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40P01'; END $$`)
			return err
		})
		return errBad
	})["one by one"]
	stopsAt(t, pool, positions, 5, untilError(t, configFor(pool, store, p)))
}
