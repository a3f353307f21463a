package face

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// with makes the world's workers use a pool of their own, whose configuration change alters.
func (w *world) with(change func(*pgxpool.Config)) {
	w.t.Helper()
	config := w.db.Config()
	change(config)
	db, err := pgxpool.NewWithConfig(w.t.Context(), config)
	require.NoError(w.t, err)
	w.t.Cleanup(db.Close)
	w.workers = db
}

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
			var called atomic.Int32
			w.with(func(c *pgxpool.Config) {
				change(c, func() error {
					if called.Add(1) == 1 {
						return sealed
					}
					return nil
				})
			})
			w.append("ada", 3)
			r := start(t, w.orchestrator("set"), recorder{name: "users"})
			w.logs.await(t, sealed.Error())
			w.awaitHandled("users", 3)
			require.NoError(t, r.stop())
		})
	}
}
