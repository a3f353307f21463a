package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// This file opens the connection of the coordination session. At the start it also checks that session's rights, and
// whether the pool may lead to a standby.

// connectTimeout bounds an attempt to connect if the pool's configuration does not. pgxpool uses the same bound.
const connectTimeout = 2 * time.Minute

// connect opens the coordination session's connection as the pool would. It runs the pool's hooks, so that the session
// has the same role and settings.
func (o *Orchestrator) connect(ctx context.Context, id uuid.UUID) (*pgx.Conn, error) {
	pool := o.db.Config()
	cfg := pool.ConnConfig.Copy()
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, connectTimeout)
	if pool.BeforeConnect != nil {
		if err := pool.BeforeConnect(ctx, cfg); err != nil {
			return nil, fmt.Errorf("running the pool's BeforeConnect: %w", err)
		}
	}
	if cfg.RuntimeParams == nil {
		cfg.RuntimeParams = map[string]string{}
	}
	cfg.RuntimeParams["application_name"] = pgcoord.ApplicationName(id)
	forSession(&cfg.Config)
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := dbguard.RunHooks(ctx, pool, conn); err != nil {
		return nil, errors.Join(err, closeConn(conn))
	}
	return conn, nil
}

// forSession takes out of the pool's configuration what a session cannot work with. If it has a callback for notifications,
// pgx does not keep them for WaitForNotification, so the session would get none. A wait for notifications ends for each
// statement. The handler that sends a cancel request does not end it before its DeadlineDelay, since the server has nothing
// to cancel, so each statement would wait that long.
func forSession(cfg *pgconn.Config) {
	cfg.OnNotification = nil
	cfg.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: conn.Conn()}
	}
}

// closeConn closes a connection without waiting long for a server that may be gone.
func closeConn(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return conn.Close(ctx)
}

// checkSession begins to check the rights of the coordination session's role, which the pool's hooks may change. The
// check runs beside the others. The caller must call the returned function, which waits for the answer.
func (o *Orchestrator) checkSession(ctx context.Context, schema string, events pgx.Identifier) (answer func() error) {
	answered := make(chan error, 1)
	go func() {
		conn, err := o.connect(ctx, uuid.Nil)
		if err != nil {
			answered <- fmt.Errorf("opening a coordination session: %w", err)
			return
		}
		if _, err = conn.Exec(ctx, "SET statement_timeout = 0"); err == nil { // a busy server may never keep the role's
			err = pgcoord.CheckGrants(ctx, conn, schema, events)
		}
		_ = closeConn(conn)
		if err != nil {
			err = fmt.Errorf("checking the coordination session: %w", err)
		}
		answered <- err
	}()
	return func() error { return <-answered }
}

// fallbackHosts returns the hosts that the configuration may connect to instead of the first, and that may be standbys.
// It is empty if target_session_attrs excludes standbys.
func fallbackHosts(cfg *pgconn.Config) []string {
	var hosts []string
	for _, f := range cfg.Fallbacks {
		if f.Host != cfg.Host || f.Port != cfg.Port { // the same host is another sslmode
			hosts = append(hosts, fmt.Sprintf("%s:%d", f.Host, f.Port))
		}
	}
	if cfg.ValidateConnect == nil {
		return hosts
	}
	is := func(validate pgconn.ValidateConnectFunc) bool {
		return reflect.ValueOf(cfg.ValidateConnect).Pointer() == reflect.ValueOf(validate).Pointer()
	}
	if is(pgconn.ValidateConnectTargetSessionAttrsPreferStandby) || is(pgconn.ValidateConnectTargetSessionAttrsReadOnly) ||
		is(pgconn.ValidateConnectTargetSessionAttrsStandby) {
		return append(hosts, fmt.Sprintf("%s:%d", cfg.Host, cfg.Port))
	}
	return nil // read-write, primary, or the application's own check
}

// warnOfStandbys logs a warning if some of the pool's connections may lead to a standby. The library refuses such
// connections, so nothing is lost, but each one costs an attempt.
func (o *Orchestrator) warnOfStandbys(ctx context.Context) {
	if hosts := fallbackHosts(&o.db.Config().ConnConfig.Config); len(hosts) > 0 {
		o.config.logger.WarnContext(ctx, "the pool may connect to a standby, which is read-only and may be behind: "+
			"put target_session_attrs=read-write into its connection string", "replica_set", o.replicaSet, "hosts", hosts)
	}
}
