package main

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/wakeup"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// The environment of real deployments: a role that is not the owner, settings and rights that people change, connections that lead
// to a standby, schemas with the same tables, sessions of strangers.

const (
	// workerRole is the role that workers connect as. It owns nothing.
	workerRole = "chaos_worker"
	// tenantRole may do nothing. Handlers switch to it.
	tenantRole = "chaos_tenant"
	// decoySchema has tables with the library's names, and nothing in them.
	decoySchema = "decoy"
)

// sqlEnvironment makes the roles and the decoy. It comes last: it grants what there is.
const sqlEnvironment = `
CREATE ROLE ` + tenantRole + `;
CREATE ROLE ` + workerRole + ` LOGIN IN ROLE ` + tenantRole + `;
GRANT USAGE ON SCHEMA public TO ` + workerRole + `;
GRANT ALL ON ALL TABLES IN SCHEMA public TO ` + workerRole + `;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO ` + workerRole + `;
CREATE SCHEMA ` + decoySchema + `;
GRANT USAGE ON SCHEMA ` + decoySchema + ` TO PUBLIC;
CREATE TABLE ` + decoySchema + `.events (LIKE public.events INCLUDING ALL);
CREATE TABLE ` + decoySchema + `.aggregate_heads (LIKE public.aggregate_heads INCLUDING ALL);
GRANT ALL ON ALL TABLES IN SCHEMA ` + decoySchema + ` TO PUBLIC`

// hostileSettings are what somebody sets for the workers' role. New sessions have it.
var hostileSettings = []string{
	"default_transaction_read_only = on", "statement_timeout = '150ms'", "lock_timeout = '30ms'", "idle_in_transaction_session_timeout = '300ms'",
	"DateStyle = 'German'", "bytea_output = 'escape'", "standard_conforming_strings = off", "row_security = off",
	"default_transaction_isolation = 'serializable'", "IntervalStyle = 'sql_standard'", "TimeZone = 'Pacific/Apia'",
}

// changeSettings changes a setting of the workers' role and ends some sessions, so that there are new ones.
func (c *chaos) changeSettings(ctx context.Context, s step) error {
	setting := hostileSettings[s.Kind%len(hostileSettings)]
	end := c.note(s.Fault, nil, "for %s new sessions of workers have %s", s.For, setting)
	c.attempt(ctx, "ALTER ROLE "+workerRole+" SET "+setting)
	c.terminate(ctx, step{Fault: faultTerminate, Pick: s.Pick, Kind: 2})
	c.during(ctx, s.For, func() { c.attempt(context.WithoutCancel(ctx), "ALTER ROLE "+workerRole+" RESET ALL"); end() })
	return nil
}

// hideEvents takes the right to read events away, or hides them by row-level security, for a while.
func (c *chaos) hideEvents(ctx context.Context, s step) error {
	hide, show := "REVOKE SELECT ON events FROM "+workerRole, "GRANT SELECT ON events TO "+workerRole
	if s.Fault == faultHide {
		hide, show = "ALTER TABLE events ENABLE ROW LEVEL SECURITY", "ALTER TABLE events DISABLE ROW LEVEL SECURITY"
	}
	end := c.note(s.Fault, nil, "for %s: %s", s.For, hide)
	c.attempt(ctx, hide)
	c.during(ctx, s.For, func() { c.attempt(context.WithoutCancel(ctx), show); end() })
	return nil
}

// attempt runs a statement until it succeeds. The database may be restarting, and the table locked.
func (c *chaos) attempt(ctx context.Context, sql string) {
	for range attempts {
		if _, err := c.pool.Exec(ctx, "SET lock_timeout = '200ms'; "+sql+"; SET lock_timeout = 0"); err == nil || ctx.Err() != nil {
			return
		}
		rest(context.WithoutCancel(ctx), 100*time.Millisecond)
	}
	c.say("%6.2fs  could not do: %s", time.Since(c.began).Seconds(), sql)
}

// attempts is how often a change of the environment is tried.
const attempts = 100

// sqlLeaderKey is the leader's lock: the one that a worker's session holds beside its own and that of the wake-ups.
const sqlLeaderKey = `
SELECT coalesce(max((l.classid::bigint << 32) | l.objid::bigint), 0) FROM pg_locks AS l
JOIN pg_locks AS own USING (pid)
JOIN orchestrator_workers AS w ON ((own.classid::bigint << 32) | own.objid::bigint) = w.session_key
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted AND own.locktype = 'advisory' AND own.objsubid = 1
  AND ((l.classid::bigint << 32) | l.objid::bigint) NOT IN ($1, w.session_key)`

// intrude has a session that is no worker's take the leader's lock as soon as it is free, and keep it for a while. The leader's
// session is ended, so that it becomes free.
func (c *chaos) intrude(ctx context.Context, s step) error {
	var key int64
	if err := c.pool.QueryRow(ctx, sqlLeaderKey, wakeup.Key(c.store.EventsTable())).Scan(&key); err != nil || key == 0 {
		return nil //nolint:nilerr // nobody leads at the moment, or the database is restarting
	}
	end := c.note(s.Fault, nil, "a stranger takes the leader's lock for %s", s.For)
	leader := c.leader(ctx)
	c.lasting.Go(func() {
		defer end()
		_ = c.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
			defer func() {
				_ = conn.Conn().Close(context.WithoutCancel(ctx)) // which gives the lock back
			}()
			if _, err := conn.Exec(ctx, "SET lock_timeout = '3s'; SELECT pg_advisory_lock("+strconv.FormatInt(key, 10)+")"); err == nil {
				rest(ctx, s.For)
			}
			return nil
		})
	})
	c.attempt(ctx, `SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity AS a JOIN orchestrator_workers AS w
ON a.application_name = 'pupsourcing-worker ' || w.worker_id WHERE w.name = '`+leader+`' AND a.xact_start IS NULL`)
	return nil
}

// startStandby sets up a standby that is seconds behind, and waits until it has the workers' role.
func (c *chaos) startStandby(ctx context.Context) (*pgtest.Cluster, error) {
	standby, err := c.cluster.Standby(ctx)
	if err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(standby.DSN(databaseName))
	if err != nil {
		return standby, fmt.Errorf("reading the standby's address: %w", err)
	}
	config.User = workerRole
	ctx, cancel := context.WithTimeout(ctx, standbyPatience)
	defer cancel()
	for {
		conn, err := pgx.ConnectConfig(ctx, config)
		if err == nil {
			return standby, conn.Close(ctx)
		}
		if !rest(ctx, 100*time.Millisecond) {
			return standby, fmt.Errorf("waiting for the standby to have the role %s: %w", workerRole, err)
		}
	}
}

// standbyPatience bounds the wait for a standby to catch up.
const standbyPatience = time.Minute

// straying is how many of a worker's connections lead to the standby: one in so many.
const straying = 4

// openPool opens a worker's pool. With a standby, some of its connections lead there.
func openPool(ctx context.Context, target workload.Target, size int, standby string) (*pgxpool.Pool, error) {
	if standby == "" {
		return target.Pool(ctx, size)
	}
	config, err := pgxpool.ParseConfig(target.DSN)
	if err != nil {
		return nil, fmt.Errorf("reading the database's address: %w", err)
	}
	other, err := pgx.ParseConfig(standby)
	if err != nil {
		return nil, fmt.Errorf("reading the standby's address: %w", err)
	}
	config.MaxConns = int32(size)
	var opened atomic.Int64
	config.BeforeConnect = func(_ context.Context, cfg *pgx.ConnConfig) error {
		if opened.Add(1)%straying == 0 {
			cfg.Host, cfg.Port = other.Host, other.Port
		}
		return nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("opening a pool: %w", err)
	}
	return pool, nil
}
