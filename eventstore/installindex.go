package eventstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// An index is built CONCURRENTLY outside of any transaction, so the connection that builds it cannot hold a transaction's advisory lock,
// and behind a pooler in transaction mode it cannot hold a session's. Hence a second connection holds a transaction's lock meanwhile.
//
// Two builds at once would end in a deadlock: the one that waits for the table has a snapshot, and the other waits for all transactions
// that have one. For the same reason nobody waits for the advisory lock within a statement.

// lockPause is how often the lock of the builds is tried.
const lockPause = 250 * time.Millisecond

// holdSQL begins a transaction, lets it last, and tries to take the lock. PgConn.Exec sends it as it is, in the simple protocol, so
// no portal keeps a snapshot while the lock is held.
const holdSQL = `BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;
SELECT pg_catalog.set_config(name, '0', true) FROM pg_catalog.pg_settings
WHERE name IN ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout');
SELECT pg_catalog.pg_try_advisory_xact_lock(%d)`

// buildSettings are what a build depends on, whatever the role's settings are.
var buildSettings = map[string]string{
	"lock_timeout": "0", "statement_timeout": "0", "transaction_timeout": "0", "idle_in_transaction_session_timeout": "0",
	"default_transaction_read_only": "off", "default_transaction_isolation": "read committed",
}

// changeIndex runs do outside of a transaction, while no other install changes the table's index. It tries again after a deadlock with
// a build that takes no part in this.
func (s *Store) changeIndex(ctx context.Context, db Execer, do func(context.Context, Execer) error) error {
	if transactionIsOpen(db) {
		return errInTransaction
	}
	return s.retry(ctx, 0, func() error {
		// The lock is given back after each attempt: the build that an attempt has met may wait for the transaction that holds it.
		release, err := s.lockIndex(ctx, db)
		if err != nil {
			return err
		}
		defer release()
		return s.inSession(ctx, db, do)
	})
}

// buildIndex builds an index of the kind. If that fails it drops what is left.
func (s *Store) buildIndex(ctx context.Context, db Execer, kind *indexKind) error {
	begun := false
	err := s.changeIndex(ctx, db, func(ctx context.Context, session Execer) error {
		has, err := s.hasIndex(ctx, session, kind)
		if err != nil || has {
			return err
		}
		if err := s.dropIndexes(ctx, session, kind, false); err != nil {
			return err
		}
		begun = true
		_, err = session.Exec(ctx, fmt.Sprintf("CREATE INDEX CONCURRENTLY %s ON %s %s",
			pgx.Identifier{s.indexName(kind)}.Sanitize(), s.EventsTable().Sanitize(), kind.built))
		return err
	})
	if err == nil || !begun {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), installCleanUp)
	defer cancel()
	if left := s.dropLeftIndex(ctx, db, kind); left != nil {
		return errors.Join(err, fmt.Errorf("an index that is not valid may be left, which slows down each append: call %s again (%w)", kind.methods, left))
	}
	return err
}

// dropLeftIndex drops what a build has left. The server may still be at work on it, and a connection whose context ended is closed.
func (s *Store) dropLeftIndex(ctx context.Context, db Execer, kind *indexKind) error {
	if conn := connOf(db); conn != nil && conn.IsClosed() {
		again, err := pgx.ConnectConfig(ctx, conn.Config())
		if err != nil {
			return err
		}
		defer func() { _ = again.Close(context.WithoutCancel(ctx)) }()
		db = again
	}
	return s.retry(ctx, 0, func() error {
		return s.inSession(ctx, db, func(ctx context.Context, session Execer) error { return s.dropIndexes(ctx, session, kind, false) })
	})
}

// inSession runs do on one connection with the settings of a build. Behind a pooler the session is not ours, so it is left as it is.
func (s *Store) inSession(ctx context.Context, db Execer, do func(context.Context, Execer) error) (err error) {
	session := db
	if pool, ok := poolOf(db); ok {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		session = conn
	}
	conn := connOf(session)
	var pid uint32
	if err := session.QueryRow(ctx, `SELECT pg_catalog.pg_backend_pid()`, pgx.QueryExecModeExec).Scan(&pid); err != nil {
		return err
	}
	if pid != conn.PgConn().PID() {
		return do(ctx, session)
	}
	before, err := set(ctx, session, buildSettings, false)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), installCleanUp)
		defer cancel()
		if conn.IsClosed() {
			return
		}
		if _, restored := set(ctx, session, before, false); restored != nil {
			_ = conn.Close(ctx) // nobody may go on with these settings
			err = errors.Join(err, restored)
		}
	}()
	return s.namingHolders(ctx, db, pid, func(ctx context.Context) error { return do(ctx, session) })
}

// lockIndex takes the lock of the builds on a connection of its own, and returns what gives it back.
func (s *Store) lockIndex(ctx context.Context, db Execer) (release func(), err error) {
	cfg, err := configOf(ctx, db)
	if err != nil {
		return nil, err
	}
	holder, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("opening a second connection, which holds a lock during the build: %w", err)
	}
	release = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), installCleanUp)
		defer cancel()
		_ = holder.Close(ctx)
	}
	if err := s.takeLock(ctx, holder.PgConn()); err != nil {
		release()
		return nil, fmt.Errorf("waiting for another install of the index: %w", err)
	}
	return release, nil
}

// takeLock tries for the lock until it has it or ctx ends.
func (s *Store) takeLock(ctx context.Context, holder *pgconn.PgConn) error {
	sql := fmt.Sprintf(holdSQL, s.indexKey())
	for {
		results, err := holder.Exec(ctx, sql).ReadAll()
		if err != nil {
			return err
		}
		if string(results[len(results)-1].Rows[0][0]) == "t" {
			return nil
		}
		if _, err := holder.Exec(ctx, `ROLLBACK`).ReadAll(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lockPause):
		}
	}
}

// indexKey is the advisory lock of the table's builds, of whatever kind: two would wait for each other.
func (s *Store) indexKey() int64 {
	sum := sha256.Sum256([]byte("pupsourcing scope index\x00" + strings.Join(s.EventsTable(), "\x00")))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// configOf returns how db's connections are opened.
func configOf(ctx context.Context, db Execer) (*pgx.ConnConfig, error) {
	if pool, ok := poolOf(db); ok {
		return configOfPool(ctx, pool.Config())
	}
	if conn := connOf(db); conn != nil {
		return conn.Config(), nil
	}
	return nil, fmt.Errorf("db must be a pool or a connection of pgx, got a %T", db)
}

// configOfPool is what the pool opens its next connection with. config is a copy of the pool's.
func configOfPool(ctx context.Context, config *pgxpool.Config) (*pgx.ConnConfig, error) {
	if config.BeforeConnect != nil {
		if err := config.BeforeConnect(ctx, config.ConnConfig); err != nil {
			return nil, fmt.Errorf("running the pool's BeforeConnect: %w", err)
		}
	}
	return config.ConnConfig, nil
}
