package pgcoord

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// read is a query with the function that scans its rows.
type read struct {
	sql   string
	args  []any
	take  func(pgx.Rows) error
	doing string // what is attempted, for errors
}

// alone runs the read by itself.
func (r read) alone(ctx context.Context, db DB) error { return r.explain(r.run(ctx, db)) }

func (r read) run(ctx context.Context, db DB) error {
	rows, err := db.Query(ctx, r.sql, r.args...) //nolint:rowserrcheck // take checks it
	if err != nil {
		return err
	}
	return r.take(rows)
}

func (r read) explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", r.doing, err)
}

// inTurn runs the reads in order and stops at the first error. Each read sees what was committed before it began. On a worker's session it sends them in
// one message: in a change all workers read at the same time, and each message costs a context switch on both sides.
func inTurn(ctx context.Context, db DB, reads ...read) error {
	conn, is := db.(*pgx.Conn)
	if !is {
		for _, r := range reads {
			if err := r.alone(ctx, db); err != nil {
				return err
			}
		}
		return nil
	}
	var batch pgx.Batch
	for _, r := range reads {
		batch.Queue(r.sql, r.args...)
	}
	results := conn.SendBatch(ctx, &batch)
	defer results.Close()
	return taken(results, reads)
}

// taken has the reads take their results, up to the first error.
func taken(results pgx.BatchResults, reads []read) error {
	for _, r := range reads {
		rows, err := results.Query() //nolint:rowserrcheck // take checks it
		if err == nil {
			err = r.take(rows)
		}
		if err != nil {
			return r.explain(err)
		}
	}
	return nil
}

// aside reads from an aid in a transaction that waits only briefly for a lock.
func (s *Store) aside(ctx context.Context, db Conn, r read) error {
	conn, is := db.(*pgx.Conn)
	if !is {
		return r.explain(s.record(ctx, db, func(tx pgx.Tx) error { return r.run(ctx, tx) }))
	}
	var first, second pgx.Batch // a statement that is not prepared yet may wait for a lock before those of its batch have run
	first.BeginTx(transaction)
	first.Queue(sqlRecordPatience)
	second.Queue(r.sql, r.args...).Query(r.take)
	second.Queue("COMMIT")
	err := conn.SendBatch(ctx, &first).Close()
	if err == nil {
		err = conn.SendBatch(ctx, &second).Close()
	}
	if err != nil && !conn.IsClosed() {
		_, rollback := conn.Exec(context.WithoutCancel(ctx), "ROLLBACK")
		err = errors.Join(err, rollback)
	}
	setPrepared(conn, r, err == nil)
	return r.explain(err)
}

// inTurnAndAside runs the reads in order, and then r, which reads from an aid. If only r fails, it returns the reason as missed. Once r's statement is
// prepared, everything is sent in one message. The server runs a message in one transaction, so the short lock_timeout before r ends with it.
//
// A statement that is not prepared would wait for a lock before that timeout is set. After an error pgx prepares all statements of the message again.
func (s *Store) inTurnAndAside(ctx context.Context, db Conn, r read, reads ...read) (missed, err error) {
	conn, is := db.(*pgx.Conn)
	if !is || !isPrepared(conn, r) {
		if err := inTurn(ctx, db, reads...); err != nil {
			return nil, err
		}
		return s.aside(ctx, db, r), nil
	}
	var batch pgx.Batch
	for _, r := range reads {
		batch.Queue(r.sql, r.args...)
	}
	batch.Queue(sqlRecordPatience)
	batch.Queue(r.sql, r.args...)
	results := conn.SendBatch(ctx, &batch)
	defer func() {
		_ = results.Close()
		setPrepared(conn, r, errors.Join(missed, err) == nil)
	}()
	if err := taken(results, reads); err != nil {
		return nil, err
	}
	if _, missed = results.Exec(); missed == nil {
		missed = taken(results, []read{r})
	}
	return missed, nil
}

// leastPrepared is the smallest statement cache that keeps all statements of a session.
const leastPrepared = 128

// isPrepared says whether the read's statement is prepared on the connection.
func isPrepared(conn *pgx.Conn, r read) bool {
	prepared, _ := conn.PgConn().CustomData()[r.sql].(bool)
	return prepared
}

// setPrepared records whether the read's statement is prepared on the connection. pgx keeps statements prepared in its default mode only.
func setPrepared(conn *pgx.Conn, r read, is bool) {
	cfg := conn.Config()
	conn.PgConn().CustomData()[r.sql] = is && cfg.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement && cfg.StatementCacheCapacity >= leastPrepared
}
