package pgtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Standby sets up a second server, with the options of this one, that streams from it, and returns when it accepts readers. It is
// the caller's to [Cluster.Close], before the primary, which else waits for it when it stops.
func (c *Cluster) Standby(ctx context.Context) (*Cluster, error) {
	return (&Cluster{opts: c.opts, bin: c.bin, primary: c}).create(ctx, (*Cluster).copyPrimary)
}

// Detach waits until the standby has all that the primary has committed so far, and then lets it receive nothing more: what the
// primary commits afterwards is lost to it.
func (c *Cluster) Detach(ctx context.Context) error {
	if c.primary == nil {
		return errors.New("detaching a server: it is no standby")
	}
	var lsn string
	// The message is committed durably, and with it all that came before.
	err := c.primary.ask(ctx, "SELECT pg_logical_emit_message(true, 'pgtest', 'detach')::text", &lsn)
	if err == nil {
		err = c.primary.ask(ctx, "SELECT pg_current_wal_flush_lsn()::text", &lsn)
	}
	if err == nil {
		err = c.await(ctx, "SELECT pg_last_wal_replay_lsn() >= '"+lsn+"'::pg_lsn", "it does not catch up")
	}
	if err == nil {
		err = c.run(ctx, "ALTER SYSTEM SET primary_conninfo = ''")
	}
	if err == nil {
		err = c.run(ctx, "SELECT pg_reload_conf()")
	}
	if err == nil {
		err = c.await(ctx, "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)", "it goes on receiving")
	}
	if err != nil {
		return fmt.Errorf("detaching the standby: %w", err)
	}
	return nil
}

// Promote makes the standby a primary, which is one for itself from then on, and returns when it accepts writers.
func (c *Cluster) Promote(ctx context.Context) error {
	var promoted bool
	if err := c.ask(ctx, "SELECT pg_promote(true, 60)", &promoted); err != nil {
		return fmt.Errorf("promoting the standby: %w", err)
	}
	if !promoted {
		return errors.New("promoting the standby: it is still in recovery after a minute")
	}
	c.primary = nil
	return nil
}

// ask reads one value, on a connection of its own.
func (c *Cluster) ask(ctx context.Context, sql string, value any) error {
	return c.connected(ctx, func(conn *pgx.Conn) error { return conn.QueryRow(ctx, sql).Scan(value) })
}

// run runs one statement, on a connection of its own.
func (c *Cluster) run(ctx context.Context, sql string) error {
	return c.connected(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
}

func (c *Cluster) connected(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := connect(ctx, c.DSN(superuser))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return do(conn)
}

// await asks until the answer is yes, at most as long as a start may take.
func (c *Cluster) await(ctx context.Context, sql, otherwise string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.opts.StartTimeout, fmt.Errorf("%s within %s", otherwise, c.opts.StartTimeout))
	defer cancel()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	return c.connected(ctx, func(conn *pgx.Conn) error {
		for {
			var yes bool
			if err := conn.QueryRow(ctx, sql).Scan(&yes); err != nil || yes {
				return err
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-poll.C:
			}
		}
	})
}

// OwnStandby is [Cluster.Standby] for one test: the standby is closed when the test ends, and the log of one that failed is shown.
func OwnStandby(t testing.TB, primary *Cluster) *Cluster {
	t.Helper()
	c, err := primary.Standby(t.Context())
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the standby's log:\n%s", c.Log())
		}
		if err := c.Close(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return c
}
