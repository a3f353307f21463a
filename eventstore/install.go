package eventstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// Execer is the interface that schema changes need. A pool, a connection and a transaction satisfy it.
type Execer interface {
	DB
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Begin(ctx context.Context) (pgx.Tx, error)
}

// A session that waits for a lock on a table stalls everybody who wants the table after it: one open append would make an install
// stall all other appends until it ends. So an install waits no longer than installLockTimeout for a lock, gives way, and tries again.

const (
	// installLockTimeout is how long one attempt waits for each of its locks, and so about how long it can stall appends.
	installLockTimeout = "100ms"
	// installFaults is how often an attempt may fail because somebody changes the same objects without the installs' lock.
	installFaults = 5
	// installNested is how often an install in the caller's transaction is tried. What it waits for may wait for that transaction.
	installNested = 5
	// installReport is how often the log says that an install still waits.
	installReport = 30 * time.Second
	// installCleanUp bounds what is done after the caller's context has ended.
	installCleanUp = 10 * time.Second
)

// installKey is the advisory lock that serialises changes of triggers. There is one for the whole database, since several event stores
// in one schema share the trigger's function.
const installKey int64 = 0x7075_7069_6e73_7461

// installPause is the time between two attempts. Appends that queue up behind an attempt are through long before the next one.
var installPause = dbfault.Backoff{First: 200 * time.Millisecond, Max: 5 * time.Second}

// setSQL sets the parameters $1 to $2, where the server knows them, until the transaction ends if $3 says so. It returns
// what they were.
const setSQL = `
SELECT s.name, s.setting, pg_catalog.set_config(s.name, w.value, $3::bool)
FROM pg_catalog.pg_settings AS s JOIN unnest($1::text[], $2::text[]) AS w (name, value) ON w.name = s.name`

// installSettings are what an attempt depends on, whatever the role's settings are.
var installSettings = map[string]string{
	"search_path": "pg_catalog, pg_temp", "lock_timeout": installLockTimeout,
	"statement_timeout": "0", "transaction_timeout": "0", "idle_in_transaction_session_timeout": "0",
}

// set sets parameters and returns what they were.
func set(ctx context.Context, db DB, settings map[string]string, local bool) (map[string]string, error) {
	var names, values []string
	for name, value := range settings {
		names, values = append(names, name), append(values, value)
	}
	rows, err := db.Query(ctx, setSQL, pgx.QueryExecModeExec, names, values, local) //nolint:rowserrcheck // ForEachRow checks it
	if err != nil {
		return nil, fmt.Errorf("setting parameters: %w", err)
	}
	before := map[string]string{}
	var name, was, is string
	if _, err := pgx.ForEachRow(rows, []any{&name, &was, &is}, func() error { before[name] = was; return nil }); err != nil {
		return nil, fmt.Errorf("setting parameters: %w", err)
	}
	return before, nil
}

// changeTriggers runs do in a transaction, or in a savepoint of the caller's, under the installs' lock. It tries again while it does not
// get its locks, until ctx ends.
func (s *Store) changeTriggers(ctx context.Context, db Execer, do func(context.Context, pgx.Tx) error) error {
	attempts := 0
	if _, nested := db.(pgx.Tx); nested {
		attempts = installNested
	}
	return s.retry(ctx, attempts, func() error {
		return inTransaction(ctx, db, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SELECT pg_catalog.pg_advisory_xact_lock($1)`, pgx.QueryExecModeExec, installKey); err != nil {
				return fmt.Errorf("waiting for another install: %w", err)
			}
			return do(ctx, tx)
		})
	})
}

// retry tries until it succeeds, fails in a way that another attempt does not change, has tried that often, or ctx ends. With attempts
// = 0 it tries as often as it takes.
func (s *Store) retry(ctx context.Context, attempts int, try func() error) error {
	faults := 0
	reported := time.Now()
	for tried := 1; ; tried++ {
		err := try()
		switch {
		case err == nil:
			return nil
		case gaveWay(err):
		case collided(err) && faults < installFaults:
			faults++
		default:
			return err
		}
		if tried == attempts {
			return fmt.Errorf("gave way to other transactions %d times, while the caller's keeps its locks: try again in another transaction, or outside of one (%w)", tried, err)
		}
		if time.Since(reported) > installReport {
			reported = time.Now()
			s.log.WarnContext(ctx, "a change of the events table waits for open transactions; it gives way to appends and tries again until they end",
				"events_table", s.EventsTable().Sanitize(), "attempts", tried, "error", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w after %d attempts, which gave way to open transactions (the last one: %w)", context.Cause(ctx), tried, err)
		case <-time.After(installPause.After(tried)):
		}
	}
}

// gaveWay says whether an attempt ended because it did not get a lock.
func gaveWay(err error) bool {
	switch dbfault.Code(err) {
	case "55P03", "40P01": // lock timeout, deadlock
		return true
	}
	return false
}

// collided says whether somebody changed the same objects during an attempt: an earlier version of this package, or a person.
func collided(err error) bool {
	switch dbfault.Code(err) {
	case "XX000", // tuple concurrently updated, cache lookup failed
		"42883",                            // dropped meanwhile
		"23505", "42710", "42723", "42P07": // made meanwhile
		return true
	}
	return false
}

// inTransaction runs do with the installs' settings, in a transaction of its own or in a savepoint of the caller's.
func inTransaction(ctx context.Context, db Execer, do func(pgx.Tx) error) (err error) {
	_, nested := db.(pgx.Tx)
	if !nested && transactionIsOpen(db) {
		return errBegun
	}
	tx, err := db.Begin(ctx)
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), installCleanUp)
			defer cancel()
			_ = tx.Rollback(ctx) // it fails where the connection is lost, and then there is nothing to take back
		}
	}()
	if !nested {
		if _, err := tx.Exec(ctx, `SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE`); err != nil {
			return err
		}
	}
	before, err := set(ctx, tx, installSettings, true)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return err
	}
	if nested {
		if _, err := set(ctx, tx, before, true); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

// errBegun refuses a connection whose transaction was begun with SQL: pgx would begin another one instead of a savepoint.
var errBegun = errors.New("the connection is in a transaction that was begun with SQL: pass the pgx.Tx of its Begin instead")

// transactionIsOpen says whether db is a connection in a transaction.
func transactionIsOpen(db Execer) bool {
	conn := connOf(db)
	return conn != nil && conn.PgConn().TxStatus() != 'I'
}

// connOf returns the connection that db is, or nil.
func connOf(db DB) *pgx.Conn {
	switch db := db.(type) {
	case *pgx.Conn:
		return db
	case *pgxpool.Conn:
		return db.Conn()
	}
	return nil
}
