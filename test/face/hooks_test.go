package face

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// Whatever a hook of the pool says, it may say something else at the next attempt.
func TestAHookThatFailsOnceDoesNotEndRun(t *testing.T) {
	sealed := errors.New("the vault is sealed")
	for name, change := range map[string]func(*pgxpool.Config, func() error){
		"BeforeConnect": func(c *pgxpool.Config, fail func() error) {
			c.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { return fail() }
		},
		"AfterConnect": func(c *pgxpool.Config, fail func() error) {
			c.AfterConnect = func(context.Context, *pgx.Conn) error { return fail() }
		},
		"PrepareConn": func(c *pgxpool.Config, fail func() error) {
			c.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { return true, fail() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.append("ada", 3)
			var called atomic.Int32
			w.with(func(c *pgxpool.Config) {
				change(c, func() error {
					if called.Add(1) == 1 {
						return sealed
					}
					return nil
				})
			})
			r := start(t, w.orchestrator("set"), recorder{name: "users"})
			w.logs.AwaitLine(t, sealed.Error())
			w.awaitHandled("users", 3)
			require.NoError(t, r.stop())
		})
	}
}

// owned makes a role that may do what a worker needs, and nothing else.
func (w *world) owned() string {
	w.t.Helper()
	owner := w.role("owner", "")
	w.exec("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO " + owner)
	w.exec("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO " + owner)
	return owner
}

// The role that connects has no rights itself; its statements run as another.
func TestTheSessionRunsAsTheRoleOfThePool(t *testing.T) {
	pgtest.SkipBehindPooler(t, "SET ROLE needs a session")
	for name, change := range map[string]func(w *world, app, owner string, c *pgxpool.Config){
		"AfterConnect": func(_ *world, _, owner string, c *pgxpool.Config) {
			c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
				_, err := conn.Exec(ctx, "SET ROLE "+owner)
				return err
			}
		},
		"BeforeAcquire": func(_ *world, _, owner string, c *pgxpool.Config) {
			c.BeforeAcquire = func(ctx context.Context, conn *pgx.Conn) bool { //nolint:staticcheck // pools still have it
				_, err := conn.Exec(ctx, "SET ROLE "+owner)
				return err == nil
			}
		},
		"ALTER ROLE": func(w *world, app, owner string, _ *pgxpool.Config) {
			w.exec("ALTER ROLE " + app + " SET role = " + owner)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			owner := w.owned()
			app := w.role("app", "NOINHERIT")
			w.exec("GRANT " + owner + " TO " + app)
			w.with(func(c *pgxpool.Config) {
				c.ConnConfig.User, c.ConnConfig.Password = app, "pw"
				change(w, app, owner, c)
			})
			r := start(t, w.orchestrator("set"), recorder{name: "users"})
			w.awaitRunning("set", 1)
			require.NoError(t, r.stop())
		})
	}
}

// Without the hook the session would be refused for ever; Run says so at once.
func TestRunNamesTheRightsThatTheSessionLacks(t *testing.T) {
	pgtest.SkipBehindPooler(t, "SET ROLE needs a session")
	w := newWorld(t)
	owner := w.owned()
	app := w.role("app", "NOINHERIT")
	w.exec("GRANT " + owner + " TO " + app)
	var connections atomic.Int32
	w.with(func(c *pgxpool.Config) {
		c.ConnConfig.User, c.ConnConfig.Password = app, "pw"
		c.MaxConns = 3
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			if connections.Add(1) > 1 {
				return nil
			}
			_, err := conn.Exec(ctx, "SET ROLE "+owner)
			return err
		}
	})
	err := refused(t, w)
	require.ErrorIs(t, err, orchestrator.ErrNotGranted)
	require.ErrorContains(t, err, "coordination session")
}

// What the pool's role lacks is named at once, also where the coordination session does not come about.
func TestRunNamesRightsThoughNoSessionComes(t *testing.T) {
	pgtest.SkipBehindPooler(t, "the roles that connect are its own")
	w := newWorld(t)
	w.owned()
	app := w.role("app", "")
	w.exec("GRANT SELECT ON orchestrator_schema_version TO " + app)
	given := make(chan struct{})
	w.with(func(c *pgxpool.Config) {
		c.ConnConfig.User, c.ConnConfig.Password = app, "pw"
		var connections atomic.Int32
		c.BeforeConnect = func(ctx context.Context, _ *pgx.ConnConfig) error {
			if connections.Add(1) == 1 {
				return nil
			}
			<-ctx.Done()
			close(given)
			return ctx.Err()
		}
	})
	began := time.Now()
	require.ErrorIs(t, refused(t, w), orchestrator.ErrNotGranted)
	assert.Less(t, time.Since(began), 20*time.Second, "it waited for the session")
	<-given
}

// pgx gives notifications either to the callback of a configuration or to those who wait for them.
func TestTheSessionIsNotifiedWhateverThePoolDoesAboutNotifications(t *testing.T) {
	pgtest.SkipBehindPooler(t, "there is no session")
	w := newWorld(t)
	w.with(func(c *pgxpool.Config) { c.ConnConfig.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) {} })
	orch := w.orchestrator("set")
	r := start(t, orch, recorder{name: "users"})
	awaitMetric(t, orch, "1", `notification_proofs_total{replica_set="set",result="arrived"}`)
	require.NoError(t, r.stop())
}

// Such a handler does not end the wait for a notification before its delay is over, and a session waits between any two statements.
func TestTheSessionWaitsForNoDelayOfThePool(t *testing.T) {
	pgtest.SkipBehindPooler(t, "there is no session")
	w := newWorld(t)
	w.append("ada", 3)
	w.with(func(c *pgxpool.Config) {
		c.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
			return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: time.Hour}
		}
	})
	r := start(t, w.orchestrator("set"), recorder{name: "users"})
	w.awaitRunning("set", 1)
	w.awaitHandled("users", 3)
	require.NoError(t, r.stop())
}

func TestRunWarnsOfHostsThatMayBeStandbys(t *testing.T) {
	for attrs, warned := range map[string]bool{"": true, "any": true, "prefer-standby": true, "read-write": false, "primary": false} {
		config, err := pgxpool.ParseConfig("host=127.0.0.1,127.0.0.2 port=1,2 sslmode=prefer target_session_attrs=" + attrs)
		if attrs == "" {
			config, err = pgxpool.ParseConfig("host=127.0.0.1,127.0.0.2 port=1,2 sslmode=prefer")
		}
		require.NoError(t, err)
		db, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		logs := newLogs()
		orch, err := orchestrator.New(db, eventstore.New(), "set", orchestrator.WithLogger(logs.Logger()))
		require.NoError(t, err)
		r := start(t, orch, named("a"))
		logs.AwaitLine(t, "trying again")
		require.ErrorIs(t, r.stop(), orchestrator.ErrNeverReached)
		require.Equal(t, warned, strings.Contains(logs.String(), "target_session_attrs=read-write"), attrs)
		db.Close()
	}
}
