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
	var failed error
	for _, r := range reads {
		batch.Queue(r.sql, r.args...).Query(func(rows pgx.Rows) error {
			failed = r.explain(r.take(rows))
			return failed
		})
	}
	if err := conn.SendBatch(ctx, &batch).Close(); err != nil && failed == nil { // before the first of them
		return reads[0].explain(err)
	}
	return failed
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
	return r.explain(err)
}
