package projection

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
)

// ErrBatchTransaction is returned to a handler that tries to end the
// transaction it was given, and is part of the error of [HandleSafely] when a
// handler did end it by SQL.
var ErrBatchTransaction = batchtx.ErrOwner

// GuardTx returns tx as handlers may have it: everything works, including
// savepoints by Begin, but Commit and Rollback do nothing and return
// [ErrBatchTransaction]. The owner keeps tx itself to commit with.
//
// A transaction that is begun in a pipeline together with other statements is
// available as a pgx.Tx too: see [pgx.Batch.BeginTx].
func GuardTx(tx pgx.Tx) pgx.Tx { return guardedTx{Tx: tx} }

// guardedTx is a transaction that its holder cannot end.
type guardedTx struct{ pgx.Tx }

// Commit refuses; see [ErrBatchTransaction].
func (guardedTx) Commit(context.Context) error { return ErrBatchTransaction }

// Rollback refuses; see [ErrBatchTransaction].
func (guardedTx) Rollback(context.Context) error { return ErrBatchTransaction }

// SendBatch sends the batch within the transaction. A batch that begins a
// transaction (see [pgx.Batch.BeginTx]) is refused.
func (t guardedTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if len(b.QueuedQueries) > 0 && beginsTransaction(b.QueuedQueries[0].SQL) {
		return pgx.FailedBatchResults(b, fmt.Errorf("sending a batch that begins a transaction: %w", ErrBatchTransaction))
	}
	return t.Tx.SendBatch(ctx, b)
}

// beginsTransaction says whether sql is a statement that begins a transaction.
func beginsTransaction(sql string) bool {
	first, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(sql)), " ")
	return first == "begin" || first == "start"
}
