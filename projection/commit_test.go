package projection_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// failsLate makes a table whose rows have statements of PL/pgSQL run at COMMIT, and returns a projection that inserts one at a position.
func failsLate(t *testing.T, pool *pgxpool.Pool, position int64, statements string) projection.Projection {
	t.Helper()
	execute(t, pool, `CREATE TABLE late (a int);
		CREATE SEQUENCE attempts;
		CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN `+statements+` RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION at_commit()`)
	return atEvent(func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
		if e.GlobalPosition != position {
			return nil
		}
		_, err := tx.Exec(ctx, `INSERT INTO late VALUES (1)`)
		return err
	})["one by one"]
}

func TestProcessorNamesTheEventThatFailsAtCommit(t *testing.T) {
	for _, kind := range []string{"one by one", "in batches"} {
		t.Run(kind, func(t *testing.T) {
			pool, store := newStore(t)
			positions := appendEvents(t, pool, store, "Order", 10)
			execute(t, pool, `CREATE TABLE once (a int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO once VALUES (1)`)
			p := atEvent(func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
				if e.GlobalPosition != positions[7] {
					return nil
				}
				_, err := tx.Exec(ctx, `INSERT INTO once VALUES (1)`)
				return err
			})[kind]
			err := untilError(t, configFor(pool, store, p))
			var answer *pgconn.PgError
			require.ErrorAs(t, err, &answer)
			assert.Equal(t, "23505", answer.Code)
			stopsAt(t, pool, positions, 7, err)
		})
	}
}

// A trigger that is deferred may do what is not allowed, or break its own connection.
func TestProcessorNamesTheEventWhateverFailsAtCommit(t *testing.T) {
	for name, tt := range map[string]struct{ statements, says string }{
		"not allowed":     {`RAISE EXCEPTION 'no' USING ERRCODE = '42501';`, "no (SQLSTATE 42501)"},
		"no such table":   {`DELETE FROM nowhere;`, "(SQLSTATE 42P01)"},
		"breaks":          {`PERFORM pg_terminate_backend(pg_backend_pid());`, "the connection was lost 3 times"},
		"internal errors": {`RAISE EXCEPTION 'no' USING ERRCODE = 'XX000';`, "no (SQLSTATE XX000)"},
	} {
		t.Run(name, func(t *testing.T) {
			pool, store := newStore(t)
			positions := appendEvents(t, pool, store, "Order", 3)
			err := untilError(t, configFor(pool, store, failsLate(t, pool, positions[1], tt.statements)))
			stopsAt(t, pool, positions, 1, err)
			assert.ErrorContains(t, err, tt.says)
		})
	}
}

func TestProcessorTriesAgainAfterConflictsAtCommit(t *testing.T) {
	for _, code := range []string{"40P01", "40001", "55P03"} {
		t.Run(code, func(t *testing.T) {
			pool, store := newStore(t)
			positions := appendEvents(t, pool, store, "Order", 3)
			p := failsLate(t, pool, positions[1], `IF nextval('attempts') < 6 THEN RAISE EXCEPTION 'no' USING ERRCODE = '`+code+`'; END IF;`)
			stop := start(t, configFor(pool, store, p))
			assert.Equal(t, positions, eventually(t, pool, 3))
			require.NoError(t, stop())
		})
	}
}

// It is the role's failure, not that of an event.
func TestProcessorEndsWhereItsRoleLosesARight(t *testing.T) {
	pool, store := newStore(t)
	app := newRole(t, pool)
	stop := start(t, configFor(app, store, recorder("orders")))
	positions := appendEvents(t, pool, store, "Order", 3)
	assert.Equal(t, positions, eventually(t, pool, 3))
	require.NoError(t, stop())
	execute(t, pool, `REVOKE UPDATE ON projection_checkpoints FROM `+app.Config().ConnConfig.User)
	appendEvents(t, pool, store, "Order", 3)
	err := untilError(t, configFor(app, store, recorder("orders")))
	require.ErrorContains(t, err, "42501")
	require.NotErrorIs(t, err, projection.ErrProjectionStopped)
	assert.Equal(t, positions, handledPositions(t, pool))
}

// What bounds a processor that is frozen is no failure of a handler that takes longer, until it was given much more time.
func TestProcessorGivesIdleHandlersMoreTime(t *testing.T) {
	pgtest.SkipBehindPooler(t, "when a server ends a session, PgBouncer may close connections that the test itself uses")
	for name, afterwards := range map[string]func(ctx context.Context, tx pgx.Tx) error{
		"found out at COMMIT": func(context.Context, pgx.Tx) error { return nil },
		"found out by the handler": func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `SELECT`)
			return err
		},
		"hidden by the handler": func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT`); err != nil {
				return errBad
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			pool, store := newStore(t)
			positions := appendEvents(t, pool, store, "Order", 1)
			p := atEvent(func(ctx context.Context, tx pgx.Tx, _ es.PersistedEvent) error {
				<-time.After(300 * time.Millisecond) // longer than the server waits
				return afterwards(ctx, tx)
			})["one by one"]
			processor := projection.NewPostgresProcessor(configFor(pool, store, p))
			processor.SetIdle(10 * time.Millisecond) // so it must be too short more often than a connection may be lost
			ctx, cancel := context.WithCancel(t.Context())
			result := make(chan error, 1)
			go func() { result <- processor.Run(ctx) }()
			assert.Equal(t, positions, eventually(t, pool, 1))
			cancel()
			require.NoError(t, <-result)
		})
	}
}

func TestRunReturnsThoughAHandlerDoesNot(t *testing.T) {
	pool, store := newStore(t)
	positions := appendEvents(t, pool, store, "Order", 3)
	handling, release := make(chan struct{}), make(chan struct{})
	p := atEvent(func(_ context.Context, _ pgx.Tx, e es.PersistedEvent) error {
		if e.GlobalPosition == positions[1] {
			close(handling)
			<-release
		}
		return nil
	})["one by one"]
	own := sameDatabase(t, pool, func(*pgxpool.Config) {})
	err := abandon(t, configFor(own, store, p), handling)
	assert.ErrorContains(t, err, fmt.Sprint("position ", positions[1]))
	own.Close() // waits for no connection

	stop := start(t, configFor(pool, store, recorder("orders")))
	assert.Equal(t, positions, eventually(t, pool, 3), "the row is not locked any more")
	require.NoError(t, stop())
	close(release)
}

func TestRunEndsAStatementThatHangs(t *testing.T) {
	pgtest.SkipBehindPooler(t, "PgBouncer hides which backend it is")
	pool, store := newStore(t)
	positions := appendEvents(t, pool, store, "Order", 3)
	handling, returned := make(chan struct{}), make(chan error, 1)
	p := atEvent(func(_ context.Context, tx pgx.Tx, _ es.PersistedEvent) error {
		close(handling)
		_, err := tx.Exec(context.Background(), `DO $$ BEGIN LOOP
			BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END; -- a cancel request is not enough
		END LOOP; END $$`)
		returned <- err
		return err
	})["one by one"]
	err := abandon(t, configFor(pool, store, p), handling)
	assert.ErrorContains(t, err, fmt.Sprint("position ", positions[0]))
	require.Error(t, <-returned)

	stop := start(t, configFor(pool, store, recorder("orders")))
	assert.Equal(t, positions, eventually(t, pool, 3), "the statement goes on")
	require.NoError(t, stop())
}

// abandon ends a processor's context while a handler does not return, and returns what Run then returns.
func abandon(t *testing.T, config projection.ProcessorConfig, handling <-chan struct{}) error {
	t.Helper()
	processor := projection.NewPostgresProcessor(config)
	processor.SetGrace(50 * time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- processor.Run(ctx) }()
	<-handling
	cancel()
	select {
	case err := <-result:
		require.ErrorIs(t, err, projection.ErrHandlerRunning)
		return err
	case <-time.After(patience):
		require.Fail(t, "Run does not return")
		return errors.New("unreachable")
	}
}
