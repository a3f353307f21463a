package batchtx

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrAside says that the server refuses to run any statement aside, since the role may not use PL/pgSQL. Nothing was committed.
var ErrAside = errors.New("the role may not run a statement aside")

// aside is a statement of CommitWith that may fail without failing the transaction.
type aside struct {
	sql           string
	first, second string
	missed        error
}

// AsideFirst and AsideSecond are the texts that RunAside was given.
const (
	AsideFirst  = `pg_catalog.current_setting('pupsourcing.aside_first')`
	AsideSecond = `pg_catalog.current_setting('pupsourcing.aside_second')`
)

// RunAside has CommitWith run a statement without arguments, after its others and in the same round trip, that may fail without failing the transaction. A lock that it needs is
// waited for no longer than a tenth of a second. See Missed.
func (t *Tx) RunAside(sql, first, second string) {
	t.aside = &aside{sql: sql, first: first, second: second}
}

// Missed is why the statement of RunAside failed, if it did and the transaction was committed.
func (t *Tx) Missed() error {
	if t.aside == nil {
		return nil
	}
	return t.aside.missed
}

// sqlBeforeAside makes what row-level security hides an error, and bounds waits.
const sqlBeforeAside = `
SELECT pg_catalog.set_config('pupsourcing.aside_first', $1, true), pg_catalog.set_config('pupsourcing.aside_second', $2, true),
    pg_catalog.set_config('pupsourcing.aside_failed', '', true), pg_catalog.set_config('row_security', 'off', true),
    pg_catalog.set_config('lock_timeout', '100', true), pg_catalog.set_config('statement_timeout', '1000', true)`

// sqlAfterAside restores what COMMIT needs, since it may run the application's triggers, and returns how the statement failed.
const sqlAfterAside = `
SELECT pg_catalog.current_setting('pupsourcing.aside_failed'), pg_catalog.set_config('row_security', $1, true),
    pg_catalog.set_config('lock_timeout', '0', true), pg_catalog.set_config('statement_timeout', '0', true)`

// attempted is the statement with its failure caught.
func (a *aside) attempted() string {
	return `DO $pupsourcing_aside$ BEGIN ` + a.sql + `; EXCEPTION WHEN OTHERS OR query_canceled THEN
    PERFORM pg_catalog.set_config('pupsourcing.aside_failed', SQLSTATE || ' ' || SQLERRM, true); END $pupsourcing_aside$`
}

func (a *aside) queue(batch *pgx.Batch, f found) {
	batch.Queue(sqlBeforeAside, a.first, a.second)
	batch.Queue(a.attempted())
	batch.Queue(sqlAfterAside, f.rowSecurity)
}

// read reads the results of what queue has queued.
func (a *aside) read(results pgx.BatchResults) error {
	for range 2 {
		if _, err := results.Exec(); err != nil {
			return errors.Join(ErrAside, err)
		}
	}
	var failed string
	if err := results.QueryRow().Scan(&failed, nil, nil, nil); err != nil {
		return errors.Join(ErrAside, err)
	}
	if code, message, ok := strings.Cut(failed, " "); ok {
		a.missed = &pgconn.PgError{Severity: "ERROR", Code: code, Message: message}
	}
	return nil
}
