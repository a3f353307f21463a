package batchtx

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Guard returns tx as handlers may have it: everything works, including
// savepoints by Begin, but Commit and Rollback do nothing and return
// [ErrOwner]. The owner keeps tx itself to commit with.
//
// A transaction that is begun in a pipeline together with other statements is
// available as a pgx.Tx too: see [pgx.Batch.BeginTx].
func Guard(tx pgx.Tx) pgx.Tx { return guardedTx{Tx: tx} }

// guardedTx is a transaction that its holder cannot end.
type guardedTx struct{ pgx.Tx }

// Verify is [Tx.Verify] of the transaction that is guarded. Other transactions are not looked at.
func (t guardedTx) Verify(ctx context.Context) error {
	if own, ok := t.Tx.(*Tx); ok {
		return own.Verify(ctx)
	}
	return nil
}

// Commit refuses; see [ErrOwner].
func (guardedTx) Commit(context.Context) error { return ErrOwner }

// Rollback refuses; see [ErrOwner].
func (guardedTx) Rollback(context.Context) error { return ErrOwner }

// SendBatch sends the batch within the transaction. A batch that begins a
// transaction (see [pgx.Batch.BeginTx]) is refused.
func (t guardedTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if len(b.QueuedQueries) > 0 && beginsTransaction(b.QueuedQueries[0].SQL) {
		return pgx.FailedBatchResults(b, fmt.Errorf("sending a batch that begins a transaction: %w", ErrOwner))
	}
	return t.Tx.SendBatch(ctx, b)
}

// beginsTransaction says whether sql is a statement that begins a transaction.
func beginsTransaction(sql string) bool {
	first, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(sql)), " ")
	return first == "begin" || first == "start"
}
