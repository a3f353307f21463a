package projection_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/horizon"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/pooler"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// tick is how often something is looked for.
const tick = 5 * time.Millisecond

func execute(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// sameDatabase is another pool for the database, with a changed configuration.
func sameDatabase(t *testing.T, pool *pgxpool.Pool, change func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	config := pool.Config()
	change(config)
	other, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(other.Close)
	return other
}

func TestProcessorRefusesAPoolerThatLosesStatements(t *testing.T) {
	pgtest.SkipBehindPooler(t, "it has a PgBouncer of its own")
	pool, store := newStore(t)
	appendEvents(t, pool, store, "Order", 5)
	b := pgtest.OwnBouncer(t, pool.Config().ConnString(), pgtest.TransactionMode, nil)
	config, err := pgxpool.ParseConfig(b.DSN(pool.Config().ConnConfig.Database))
	require.NoError(t, err)
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
	bounced, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(bounced.Close)
	require.ErrorIs(t, untilError(t, configFor(bounced, store, recorder("orders"))), pooler.ErrNoPreparedStatements)
	assert.Empty(t, handledPositions(t, pool))
}

// stopsAt checks that a projection stops at the event, and that those before it are committed once.
func stopsAt(t *testing.T, pool *pgxpool.Pool, positions []int64, bad int, err error) {
	t.Helper()
	var stopped *projection.StoppedError
	require.ErrorAs(t, err, &stopped)
	assert.Equal(t, positions[bad], stopped.Position)
	assert.Equal(t, positions[:bad], handledPositions(t, pool))
	assert.Equal(t, positions[bad-1], checkpointOf(t, pool, "orders"))
}

// atEvent is a projection that does something else at one event, one by one or in batches.
func atEvent(do func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error) map[string]projection.Projection {
	one := func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
		if err := record(ctx, tx, e, "orders"); err != nil {
			return err
		}
		return do(ctx, tx, e)
	}
	return map[string]projection.Projection{
		"one by one": &each{"orders", one},
		"in batches": &whole{each{name: "orders"}, func(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
			for _, e := range events {
				if err := one(ctx, tx, e); err != nil {
					return err
				}
			}
			return nil
		}},
	}
}

func TestProcessorNamesTheEventWhateverItsHandlerDoes(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(ctx context.Context, tx pgx.Tx) error
		want error
	}{
		"an error with a result open": {func(ctx context.Context, tx pgx.Tx) error {
			_, _ = tx.Query(ctx, `SELECT generate_series(1, 100000)`) //nolint:rowserrcheck,sqlclosecheck // that is the fault
			return errBad
		}, errBad},
		"an error with a batch open": {func(ctx context.Context, tx pgx.Tx) error {
			var b pgx.Batch
			b.Queue(`SELECT 1`)
			b.Queue(`SELECT 2`)
			_ = tx.SendBatch(ctx, &b)
			return errBad
		}, errBad},
		"another transaction": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Conn().PgConn().Exec(ctx, `ROLLBACK; BEGIN`).ReadAll()
			return err
		}, projection.ErrBatchTransaction},
		"a chained transaction": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `ROLLBACK AND CHAIN`)
			return err
		}, projection.ErrBatchTransaction},
	} {
		for _, kind := range []string{"one by one", "in batches"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				pool, store := newStore(t)
				positions := appendEvents(t, pool, store, "Order", 10)
				p := atEvent(func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
					if e.GlobalPosition != positions[5] {
						return nil
					}
					return tt.do(ctx, tx)
				})[kind]
				err := untilError(t, configFor(pool, store, p))
				require.ErrorIs(t, err, tt.want)
				require.NotContains(t, err.Error(), "the connection was lost")
				stopsAt(t, pool, positions, 5, err)
			})
		}
	}
}

func TestProcessorTriesAgainAfterConflictsAndLosses(t *testing.T) {
	for _, code := range []string{"40P01", "40001", "55P03", "57P01"} {
		t.Run(code, func(t *testing.T) {
			pool, store := newStore(t)
			positions := appendEvents(t, pool, store, "Order", 10)
			var failures atomic.Int32
			p := atEvent(func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
				if e.GlobalPosition != positions[5] || failures.Add(1) > 2 {
					return nil
				}
				sql := fmt.Sprintf(`DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '%s'; END $$`, code)
				if code == "57P01" {
					sql = `SELECT pg_terminate_backend(pg_backend_pid())`
				}
				_, err := tx.Exec(ctx, sql)
				return errors.Join(errBad, err)
			})["one by one"]
			stop := start(t, configFor(pool, store, p))
			assert.Equal(t, positions, eventually(t, pool, 10))
			require.NoError(t, stop())
		})
	}
}

func TestProcessorEndsAtAnEventThatAlwaysBreaksItsConnection(t *testing.T) {
	pool, store := newStore(t)
	positions := appendEvents(t, pool, store, "Order", 3)
	p := atEvent(func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
		if e.GlobalPosition != positions[1] {
			return nil
		}
		_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
		return err
	})["one by one"]
	err := untilError(t, configFor(pool, store, p))
	stopsAt(t, pool, positions, 1, err)
	assert.ErrorContains(t, err, "the connection was lost 3 times")
}

// The role's timeouts are shorter than another processor's batch, and its transactions are read-only unless they say otherwise.
func TestProcessorWorksUnderHostileSettings(t *testing.T) {
	pgtest.SkipBehindPooler(t, "it sets parameters as it connects")
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			pool, store := newStore(t)
			positions := appendEvents(t, pool, store, "Order", 5)
			execute(t, pool, `INSERT INTO projection_checkpoints VALUES ('orders', 0)`)
			tx, err := pool.Begin(t.Context())
			require.NoError(t, err)
			defer func() { _ = tx.Rollback(context.Background()) }()
			_, err = tx.Exec(t.Context(), `SELECT FROM projection_checkpoints FOR UPDATE`)
			require.NoError(t, err)
			hostile := sameDatabase(t, pool, func(c *pgxpool.Config) {
				c.ConnConfig.DefaultQueryExecMode = mode
				maps.Copy(c.ConnConfig.RuntimeParams, map[string]string{
					"lock_timeout": "20ms", "statement_timeout": "2s", "default_transaction_read_only": "on", "idle_in_transaction_session_timeout": "1s",
					"default_transaction_isolation": "serializable", "synchronous_commit": "off", "TimeZone": "Asia/Kolkata",
				})
			})
			p := atEvent(func(ctx context.Context, tx pgx.Tx, _ es.PersistedEvent) error {
				_, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 1; SET LOCAL row_security = off`, pgx.QueryExecModeSimpleProtocol)
				return err
			})["one by one"]
			config := configFor(hostile, store, p)
			config.BatchSize = 1
			stop := start(t, config)
			require.Eventually(t, func() bool {
				var waiting int
				err := pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
					WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0 AND now() - query_start > '100ms'`).Scan(&waiting)
				return err == nil && waiting == 1
			}, patience, tick, "it does not wait for the other processor")
			require.NoError(t, tx.Rollback(t.Context()))
			assert.Equal(t, positions, eventually(t, pool, 5))
			require.NoError(t, stop())
		})
	}
}

func TestProcessorRefusesSettingsThatItCannotReadWith(t *testing.T) {
	pgtest.SkipBehindPooler(t, "it sets parameters as it connects")
	pool, store := newStore(t)
	for name, value := range map[string]string{"bytea_output": "escape", "DateStyle": "German"} {
		hostile := sameDatabase(t, pool, func(c *pgxpool.Config) {
			c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
			c.ConnConfig.RuntimeParams[name] = value
		})
		assert.ErrorContains(t, untilError(t, configFor(hostile, store, recorder("orders"))), strings.ToLower(name)+"="+value)
	}
}

func TestProcessorNamesAMissingTable(t *testing.T) {
	pool, _ := newStore(t)
	assert.ErrorContains(t, untilError(t, configFor(pool, eventstore.New(eventstore.WithEventsTable("nowhere")), recorder("orders"))), "nowhere")
	assert.ErrorContains(t, untilError(t, configFor(pool, eventstore.New(eventstore.WithCheckpointsTable("nowhere")), recorder("orders"))), "nowhere")
}

func TestCheckpointMovedAboveTheSequenceWhileItRuns(t *testing.T) {
	for _, appended := range []bool{false, true} {
		t.Run(fmt.Sprint(appended), func(t *testing.T) {
			pool, store := newStore(t)
			positions := appendEvents(t, pool, store, "Order", 5)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			result := make(chan error, 1)
			go func() {
				result <- projection.NewPostgresProcessor(configFor(pool, store, recorder("orders"))).Run(ctx)
			}()
			eventually(t, pool, 5)
			execute(t, pool, `UPDATE projection_checkpoints SET last_global_position = $1`, positions[4]+100)
			if appended {
				appendEvents(t, pool, store, "Order", 1)
			}
			var regressed *horizon.RegressionError
			require.ErrorAs(t, <-result, &regressed)
			assert.Equal(t, positions[4]+100, regressed.Reached)
			assert.True(t, regressed.Floor)
		})
	}
}

// newRole makes a role that may do what a processor needs, and a pool that connects as it.
func newRole(t *testing.T, pool *pgxpool.Pool) *pgxpool.Pool {
	t.Helper()
	pgtest.SkipBehindPooler(t, "it connects as another role")
	role := "manual_" + pool.Config().ConnConfig.Database
	execute(t, pool, `CREATE ROLE `+role+` LOGIN`)
	t.Cleanup(func() { _, _ = pool.Exec(context.Background(), `DROP OWNED BY `+role+`; DROP ROLE `+role) })
	execute(t, pool, `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO `+role)
	execute(t, pool, `GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO `+role)
	return sameDatabase(t, pool, func(c *pgxpool.Config) { c.ConnConfig.User = role })
}

func TestHiddenCheckpointsAreAnError(t *testing.T) {
	pool, store := newStore(t)
	positions := appendEvents(t, pool, store, "Order", 5)
	execute(t, pool, `INSERT INTO projection_checkpoints VALUES ('orders', $1)`, positions[2])
	app := newRole(t, pool)
	execute(t, pool, `ALTER TABLE projection_checkpoints ENABLE ROW LEVEL SECURITY`)
	execute(t, pool, `CREATE POLICY own ON projection_checkpoints USING (projection_name = 'another') WITH CHECK (true)`)
	err := untilError(t, configFor(app, store, recorder("orders")))
	require.ErrorContains(t, err, "row-level security")
	require.ErrorContains(t, err, `"projection_checkpoints"`)
	assert.Empty(t, handledPositions(t, pool))
	execute(t, pool, `ALTER TABLE projection_checkpoints DISABLE ROW LEVEL SECURITY; ALTER TABLE events ENABLE ROW LEVEL SECURITY`)
	assert.ErrorContains(t, untilError(t, configFor(app, store, recorder("orders"))), "events")
	assert.Empty(t, handledPositions(t, pool))
}

func TestHandlerMayTakeAnotherRole(t *testing.T) {
	pool, store := newStore(t)
	positions := appendEvents(t, pool, store, "Order", 5)
	app := newRole(t, pool)
	tenant := "tenant_" + pool.Config().ConnConfig.Database
	execute(t, pool, `CREATE ROLE `+tenant)
	t.Cleanup(func() { _, _ = pool.Exec(context.Background(), `DROP OWNED BY `+tenant+`; DROP ROLE `+tenant) })
	execute(t, pool, `GRANT `+tenant+` TO `+app.Config().ConnConfig.User)
	p := atEvent(func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
		if e.GlobalPosition != positions[4] {
			return nil
		}
		_, err := tx.Exec(ctx, `SET LOCAL ROLE `+tenant)
		return err
	})["one by one"]
	stop := start(t, configFor(app, store, p))
	require.Eventually(t, func() bool { return checkpointOf(t, pool, "orders") == positions[4] }, patience, tick)
	require.NoError(t, stop())
	assert.Equal(t, positions, handledPositions(t, pool))
}

// The next connection that the runner gets has a role that somebody has left behind.
func TestARoleThatIsLeftBehindEndsNoManualRunner(t *testing.T) {
	pool, store := newStore(t)
	positions := appendEvents(t, pool, store, "Order", 5)
	app := newRole(t, pool)
	tenant := "tenant_" + pool.Config().ConnConfig.Database
	execute(t, pool, `CREATE ROLE `+tenant)
	t.Cleanup(func() { _, _ = pool.Exec(context.Background(), `DROP OWNED BY `+tenant+`; DROP ROLE `+tenant) })
	execute(t, pool, `GRANT `+tenant+` TO `+app.Config().ConnConfig.User)
	var leave atomic.Bool
	app = sameDatabase(t, app, func(c *pgxpool.Config) {
		c.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
			if !leave.CompareAndSwap(true, false) {
				return true, nil
			}
			_, err := conn.Exec(ctx, `SET ROLE `+tenant)
			return true, err
		}
	})
	config := configFor(app, store, atEvent(func(context.Context, pgx.Tx, es.PersistedEvent) error {
		leave.Store(true)
		return nil
	})["one by one"])
	config.BatchSize = 1
	stop := start(t, config)
	assert.Equal(t, positions, eventually(t, pool, 5))
	require.NoError(t, stop())
}

// Every second connection leads to a standby that is behind.
func TestStandbyInThePool(t *testing.T) {
	pgtest.SkipBehindPooler(t, "it has servers of its own")
	primary := pgtest.Own(t, pgtest.Options{})
	dsn, err := primary.CreateDatabase(t.Context(), "app")
	require.NoError(t, err)
	direct, err := pgxpool.New(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(direct.Close)
	require.NoError(t, eventstore.RunMigrations(direct))
	execute(t, direct, `CREATE TABLE handled (position bigint, aggregate_id text, by text, n bigserial)`)
	standby := pgtest.OwnStandby(t, primary)
	to, err := pgx.ParseConfig(standby.DSN("app"))
	require.NoError(t, err)
	var connections atomic.Int32
	mixed := sameDatabase(t, direct, func(c *pgxpool.Config) {
		c.MaxConnLifetime = 200 * time.Millisecond
		c.BeforeConnect = func(_ context.Context, own *pgx.ConnConfig) error {
			if connections.Add(1)%2 == 0 {
				own.Host, own.Port = to.Host, to.Port
			}
			return nil
		}
	})
	store := eventstore.New()
	execute(t, standbyPool(t, standby), `SELECT pg_wal_replay_pause()`)
	start(t, configFor(mixed, store, recorder("orders")))
	var want []int64
	for range 40 {
		want = append(want, appendEvents(t, direct, store, "Order", 3)...)
	}
	assert.Equal(t, want, eventually(t, direct, len(want)))
}

func standbyPool(t *testing.T, standby *pgtest.Cluster) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), standby.DSN("postgres"))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// nilName is a projection whose methods need the pointer.
type nilName struct{ name string }

func (p *nilName) Name() string                                          { return p.name }
func (*nilName) Handle(context.Context, pgx.Tx, es.PersistedEvent) error { return nil }

// panics is a projection that cannot say what it wants.
type panics struct{ each }

func (*panics) AggregateTypes() []string { panic("no types") }

func TestProcessorRefusesAProjectionThatCannotDescribeItself(t *testing.T) {
	pool, store := newStore(t)
	for says, p := range map[string]projection.Projection{
		"Projection must be set":                  nil,
		"it is a nil *projection_test.nilName":    (*nilName)(nil),
		"describing itself it panicked: no types": &panics{},
		"between 1 and 255 bytes":                 recorder(strings.Repeat("x", 256)),
		"does not end like the checkpoint":        recorder("orders[1/2]"),
		"AggregateTypes must be valid UTF-8":      &scoped{each: each{name: "orders"}, types: []string{"User", "Usr\x00"}},
	} {
		assert.ErrorContains(t, untilError(t, configFor(pool, store, p)), says)
	}
}
