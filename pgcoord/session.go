package pgcoord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/announcement"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// SessionEvents are the callbacks of a Session. The session's goroutine calls them, so they must not block.
type SessionEvents struct {
	// Connected is called after each connect, when the session holds the lock and listens to the channel. Earlier
	// changes were not notified and must be looked for.
	Connected func()
	// Lost is called when the connection breaks, and after each failed attempt to connect.
	Lost func(error)
	// Notified is called with the payload of each notification of the replica
	// set's channel.
	Notified func(kind, worker string)
	// Announced is called with each horizon that another session has announced, and that session's backend.
	Announced func(session int, a announcement.Horizon)
	// Appended is called for each notification of the events' channel that the
	// trigger sent.
	Appended func()
	// Declined is called when a session has released the lock that makes the trigger notify appends: see AskForWakeUps.
	Declined func()
	// Progress is called after each step of the session; see SessionRound.
	Progress func()
	// Proved is called from time to time. It says whether a notification that the session sent to itself has arrived.
	Proved func(arrived bool)
}

// SessionConfig configures a Session.
type SessionConfig struct {
	// Connect opens a new connection, not one of a pool.
	Connect func(context.Context) (*pgx.Conn, error)
	// Channel is the replica set's channel, and Appends the channel for appends. The session listens to both.
	Channel, Appends string
	// Key is the advisory lock that the session holds.
	Key int64
	// WakeUpKey is the advisory lock that makes the trigger notify appends while a session holds it.
	WakeUpKey int64
	Events    SessionEvents
	Logger    *slog.Logger
}

// Session is a worker's dedicated coordination connection. It holds the worker's advisory lock, listens to the replica
// set's channel, and runs the coordination statements, one at a time. If the connection breaks, it reconnects with
// backoff and jitter. It is safe for concurrent use.
type Session struct {
	cfg      SessionConfig
	requests chan *request
	pid      int  // the connection's backend; only the serving goroutines'
	proving  bool // a notification to itself is on its way; only the serving goroutines', one at a time
	asked    bool // the connection holds the lock WakeUpKey; only the running goroutine's, and requests'
	stop     context.CancelFunc
	stopped  chan struct{}
}

// request is one statement, or a few, to be run on the session's connection.
type request struct {
	ctx context.Context
	run func(context.Context, *pgx.Conn) error
	err chan error // room for one
}

// ErrSessionClosed means that the session was closed before the statement ran or while it waited.
var ErrSessionClosed = errors.New("the coordination session is closed")

// OpenSession starts a session, which connects in the background. ctx provides only values. The session lives until
// Close.
func OpenSession(ctx context.Context, cfg SessionConfig) *Session {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Session{cfg: cfg, requests: make(chan *request), stop: stop, stopped: make(chan struct{})}
	go s.run(ctx)
	return s
}

// Close ends the session and its locks, and waits until they have ended.
func (s *Session) Close() {
	s.stop()
	<-s.stopped
}

// Do runs statements on the session's connection, after earlier ones. It waits for a connection until ctx ends.
// Statements that have begun are interrupted at ctx's deadline, but not if ctx is cancelled earlier.
func (s *Session) Do(ctx context.Context, run func(context.Context, *pgx.Conn) error) error {
	r := &request{ctx: ctx, run: run, err: make(chan error, 1)}
	select {
	case s.requests <- r:
	case <-ctx.Done():
		return fmt.Errorf("waiting for the coordination session: %w", context.Cause(ctx))
	case <-s.stopped:
		return ErrSessionClosed
	}
	return <-r.err
}

const (
	sessionOpenTimeout = 10 * time.Second
	sessionStatement   = 10 * time.Second
	// SessionRound is how long the session takes at most from one call of SessionEvents.Progress to the next, while somebody has it run a
	// statement every few seconds, as a worker does.
	SessionRound = 20 * time.Second
)

// sessionBackoff is the delay between attempts to connect.
var sessionBackoff = dbfault.Backoff{First: 50 * time.Millisecond, Max: 5 * time.Second}

// run connects and serves until the session is closed.
func (s *Session) run(ctx context.Context) {
	defer close(s.stopped)
	failures := 0
	for {
		conn, err := s.open(ctx)
		s.progress()
		if err == nil {
			failures, s.asked = 0, false
			s.pid = int(conn.PgConn().PID())
			s.cfg.Events.Connected()
			err = s.serve(ctx, conn)
			s.sayGoodbye(ctx, conn)
			closeConn(conn)
			s.progress()
		}
		if ctx.Err() != nil {
			return
		}
		s.cfg.Events.Lost(err)
		failures++
		backoff := sessionBackoff.After(failures)
		s.cfg.Logger.WarnContext(ctx, "coordination session lost, connecting again", "error", err, "backoff", backoff)
		if !wait(ctx, backoff) {
			return
		}
	}
}

func (s *Session) progress() {
	if s.cfg.Events.Progress != nil {
		s.cfg.Events.Progress()
	}
}

// sqlSessionSettings keeps from the session what the role's defaults would do to it, whatever they are. Statements and
// transactions end by their contexts, or by the idle timeout if the worker is frozen. A statement that waits for a lock ends after LockPatience: to end
// it by its context costs the connection, and with it the worker's locks. It fails on a standby. pg_catalog
// comes first in the search_path, so nobody's function takes the place of the server's. The settings that there are not in this version of the
// server are null. pg_settings would not fit into a small work_mem, and a role may have no temporary files.
const sqlSessionSettings = `
SELECT pg_catalog.set_config(v.name, v.setting, false)
FROM (VALUES ('statement_timeout', '0'), ('lock_timeout', '2s'), ('transaction_timeout', '0'), ('idle_session_timeout', '0'),
             ('idle_in_transaction_session_timeout', '20s'), ('default_transaction_read_only', 'off'),
             ('default_transaction_isolation', 'read committed'), ('default_transaction_deferrable', 'off'),
             ('row_security', 'off'), ('search_path', 'pg_catalog, pg_temp'), ('client_encoding', 'UTF8'),
             ('standard_conforming_strings', 'on'), ('datestyle', 'ISO'), ('bytea_output', 'hex'),
             ('extra_float_digits', '1'), ('work_mem', '4MB')) AS v (name, setting)
WHERE ` + dbguard.Primary + ` AND pg_catalog.current_setting(v.name, true) <> v.setting`

// sqlKeepAlive lets the server notice soon that the worker is gone. Where the platform has no such setting, it is left
// out or refused.
const sqlKeepAlive = `
SELECT pg_catalog.set_config(v.name, v.setting, false)
FROM (VALUES ('tcp_keepalives_idle', '2'), ('tcp_keepalives_interval', '1'), ('tcp_keepalives_count', '2'),
             ('tcp_user_timeout', '4000'), ('client_connection_check_interval', '2000')) AS v (name, setting)
WHERE pg_catalog.current_setting(v.name, true) IS NOT NULL`

// sqlEndHolder ends the worker's own previous session, which the server has not
// noticed to be broken.
var sqlEndHolder = `
WITH locks AS MATERIALIZED (` + advisoryLocks + `
), target AS MATERIALIZED (
    SELECT l.pid, a.usesysid, coalesce(role.rolname::text, a.usesysid::text, '') AS name, coalesce(role.rolsuper, false) AS rolsuper
    FROM locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid LEFT JOIN pg_roles AS role ON role.oid = a.usesysid
    WHERE l.key = $1
)
SELECT coalesce(pid, 0), name, ` + ending + ` FROM target`

// open connects, takes the worker's lock and listens.
func (s *Session) open(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionOpenTimeout)
	defer cancel()
	conn, err := s.cfg.Connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("connecting the coordination session: %w", err)
	}
	if _, err := conn.Exec(ctx, sqlSessionSettings, pgx.QueryExecModeExec); err != nil {
		closeConn(conn)
		return nil, fmt.Errorf("setting up the coordination session: %w", err)
	}
	if _, err := conn.Exec(ctx, sqlKeepAlive); err != nil {
		s.cfg.Logger.DebugContext(ctx, "the server does not take the coordination session's keep-alive settings", "error", err)
	}
	var locked bool
	err = conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", s.cfg.Key).Scan(&locked)
	if err == nil && !locked {
		err = endHolder(ctx, conn, s.cfg.Key)
	}
	if err == nil {
		// A hook of the application's pool may listen to channels of its own.
		_, err = conn.Exec(ctx, "UNLISTEN *; LISTEN "+pgx.Identifier{s.cfg.Channel}.Sanitize()+"; LISTEN "+pgx.Identifier{s.cfg.Appends}.Sanitize())
	}
	if err != nil {
		closeConn(conn)
		return nil, fmt.Errorf("opening the coordination session: %w", err)
	}
	return conn, nil
}

// endHolder ends the session that holds the worker's lock. It returns an error in any case, which says so.
func endHolder(ctx context.Context, conn *pgx.Conn, key int64) error {
	var pid int
	var role string
	var ended *bool
	err := conn.QueryRow(ctx, sqlEndHolder, key).Scan(&pid, &role, &ended)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return errors.New("the worker's previous session still held its lock, and has ended by now")
	case err != nil:
		return fmt.Errorf("ending the session that holds the worker's lock: %w", err)
	case ended == nil && pid == 0:
		return errors.New("a prepared transaction holds the worker's lock: end it with ROLLBACK PREPARED (see pg_prepared_xacts)")
	case ended == nil:
		return fmt.Errorf("session %d of the role %q holds the worker's lock, and this role may not end it: let a superuser call pg_terminate_backend(%[1]d)", pid, role)
	}
	return errors.New("the worker's previous session still held its lock; ended it")
}

// proofInterval is how often the session sends a notification to itself. It
// must have arrived when the next is due.
const proofInterval = time.Minute

// notifyProof is the kind of that notification.
const notifyProof = "proof"

// serve waits for notifications and runs requests, until the connection breaks
// or the session is closed.
func (s *Session) serve(ctx context.Context, conn *pgx.Conn) error {
	due := time.NewTimer(0)
	defer due.Stop()
	s.proving = false
	for {
		s.progress()
		var r *request
		waiting, interrupt := context.WithCancel(ctx)
		waited := make(chan error, 1)
		go func() {
			n, err := conn.WaitForNotification(waiting)
			if n != nil {
				s.notified(n)
			}
			waited <- err
		}()
		select {
		case err := <-waited:
			interrupt()
			if err != nil {
				return fmt.Errorf("waiting for notifications: %w", err)
			}
			continue
		case <-due.C:
			interrupt()
			if err := <-waited; conn.IsClosed() {
				return fmt.Errorf("waiting for notifications: %w", err)
			}
			if err := s.prove(ctx, conn); err != nil {
				return err
			}
			due.Reset(proofInterval)
			continue
		case r = <-s.requests:
			interrupt()
			if err := <-waited; conn.IsClosed() {
				r.err <- fmt.Errorf("the coordination session broke before the statement was sent: %w", err)
				return fmt.Errorf("waiting for notifications: %w", err)
			}
		}
		err := s.serveOne(ctx, conn, r)
		r.err <- err
		if conn.IsClosed() {
			if err == nil {
				err = errors.New("the connection was closed")
			}
			return err
		}
	}
}

// prove sends a notification to itself, after it has looked whether the last
// one has arrived.
func (s *Session) prove(ctx context.Context, conn *pgx.Conn) error {
	if s.proving {
		s.cfg.Events.Proved(false)
		return fmt.Errorf("a notification that the session sent to itself did not arrive: %w", ErrNoSession)
	}
	s.proving = true
	ctx, cancel := lasting(ctx, sessionStatement)
	defer cancel()
	_, err := conn.Exec(ctx, sqlNotify, s.cfg.Channel, notifyProof+" "+strconv.FormatInt(s.cfg.Key, 10))
	if err != nil && !conn.IsClosed() { // the queue of notifications is full, say: that is no fault of this connection
		s.proving = false
		s.cfg.Events.Proved(false)
		s.cfg.Logger.WarnContext(ctx, "the session could not send a notification to itself; changes are found by polling", "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("sending a notification to itself: %w", err)
	}
	return nil
}

// lasting is a context with a timeout that outlives its parent by goodbyeTimeout. A statement that is broken off costs the connection, and with it the
// goodbye.
func lasting(parent context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(parent), timeout)
	stop := context.AfterFunc(parent, func() {
		late := time.AfterFunc(goodbyeTimeout, cancel)
		context.AfterFunc(ctx, func() { late.Stop() })
	})
	return ctx, func() { stop(); cancel() }
}

// notified passes a notification on.
func (s *Session) notified(n *pgconn.Notification) {
	if n.Channel == s.cfg.Appends {
		if n.Payload == notifyDeclined {
			s.cfg.Events.Declined()
			return
		}
		s.cfg.Events.Appended()
		return
	}
	kind, worker, _ := strings.Cut(n.Payload, " ")
	if kind == NotifyHorizon {
		s.announced(int(n.PID), worker)
		return
	}
	if kind == notifyProof {
		if worker == strconv.FormatInt(s.cfg.Key, 10) && s.proving {
			s.proving = false
			s.cfg.Events.Proved(true)
		}
		return
	}
	s.cfg.Events.Notified(kind, worker)
}

// serveOne runs one request, bounded by its own deadline, the session's context, and a
// limit: a statement that is answered later than that has lost its server. A request that
// is given up before its deadline is still answered: a statement that is broken off costs the
// connection, and with it the worker's locks.
func (s *Session) serveOne(ctx context.Context, conn *pgx.Conn, r *request) error {
	if r.ctx.Err() != nil {
		return fmt.Errorf("waiting for the coordination session: %w", context.Cause(r.ctx))
	}
	runCtx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), sessionStatement)
	defer cancel()
	if deadline, ok := r.ctx.Deadline(); ok {
		var end context.CancelFunc
		runCtx, end = context.WithDeadline(runCtx, deadline)
		defer end()
	}
	defer context.AfterFunc(ctx, cancel)()
	return r.run(runCtx, conn)
}

// closeConn closes a connection without waiting long for a server that may be gone.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// wait waits for d and returns false if ctx ends before.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
