package dbguard

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Do runs several statements in one transaction, which is as those of single statements are, and commits it. It is rolled back if do returns an error.
// Each statement ends with ctx, so do must not wait for anything else.
func (t Transactions) Do(ctx context.Context, do func(tx pgx.Tx) error) error {
	return t.in(ctx, readWrite, do)
}

// snapshot is the options of a transaction whose statements all see the same moment.
var snapshot = pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}

// sqlPrimary fails on a standby, where a transaction that only reads may begin.
const sqlPrimary = `SELECT WHERE ` + Primary

// Look runs several statements that read, as Do does, at one moment: none sees what was committed after the first.
func (t Transactions) Look(ctx context.Context, do func(tx pgx.Tx) error) error {
	return t.in(ctx, snapshot, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlPrimary); err != nil {
			return err
		}
		return do(tx)
	})
}

// mostIdle is for how many milliseconds the caller may send nothing where its context does not bound it. A role's own setting may be shorter than what it does between
// two statements.
const mostIdle = "3600000"

// in runs several statements in one transaction.
func (t Transactions) in(ctx context.Context, options pgx.TxOptions, do func(tx pgx.Tx) error) error {
	tx, err := t.BeginTx(ctx, options)
	if err != nil {
		return err
	}
	ended := false
	defer func() { // do may panic, or end the goroutine
		if !ended {
			rollback, cancel := context.WithTimeout(context.WithoutCancel(ctx), frozenMargin)
			defer cancel()
			_ = tx.Rollback(rollback)
		}
	}()
	timeout, idle := "0", mostIdle
	if deadline, bounded := ctx.Deadline(); bounded {
		timeout = strconv.FormatInt(max(1, (time.Until(deadline)+frozenMargin).Milliseconds()), 10)
		idle = timeout
	}
	if _, err = tx.Exec(ctx, sqlSeveral, timeout, idle); err == nil {
		_, err = tx.Exec(ctx, sqlLockTimeout, strconv.FormatInt(t.wait.Milliseconds(), 10))
	}
	if err == nil {
		err = do(tx)
	}
	if err == nil {
		err = ctx.Err()
	}
	ended = true
	if err == nil {
		return commit(ctx, tx)
	}
	rollback, cancel := context.WithTimeout(context.WithoutCancel(ctx), frozenMargin)
	defer cancel()
	return errors.Join(err, ignoreClosed(tx.Rollback(rollback)))
}

// commit commits. If ctx ends meanwhile, the server still has frozenMargin to answer: without its answer the caller would not know what was done.
func commit(ctx context.Context, tx pgx.Tx) error {
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		late := time.AfterFunc(frozenMargin, cancel)
		context.AfterFunc(lasting, func() { late.Stop() })
	})()
	return tx.Commit(lasting)
}

// ignoreClosed is err, unless it says that the transaction had ended already.
func ignoreClosed(err error) error {
	if errors.Is(err, pgx.ErrTxClosed) {
		return nil
	}
	return err
}
