package main

// fenceGuards keep a batch from committing what is not its worker's to commit, or twice.
var fenceGuards = []guard{
	{
		Name: "fence-generation", File: "pgcoord/batch.go",
		Old: "AND generation = $5 AND worker_id = $6 AND revision = $7\nFOR NO KEY UPDATE", New: "AND $5::bigint > 0 AND worker_id = $6 AND revision = $7\nFOR NO KEY UPDATE",
		Test: "TestFenceComparesAllThatTheWorkerBelieves", Promise: "a batch commits only in its own generation",
	},
	{
		Name: "fence-worker", File: "pgcoord/batch.go",
		Old: "AND worker_id = $6 AND revision = $7\nFOR NO KEY UPDATE", New: "AND $6::uuid IS NOT NULL AND revision = $7\nFOR NO KEY UPDATE",
		Test: "TestFenceComparesAllThatTheWorkerBelieves", Promise: "a batch commits only on its worker's rows",
	},
	{
		Name: "fence-position", File: "pgcoord/batch.go",
		Old: "AND slot_to = $3 AND position = $4", New: "AND slot_to = $3 AND position < 1000 + $4::bigint",
		Test:    "TestBatchBehindItsOwnPredecessorIsFenced",
		Promise: "a batch that waited behind its own predecessor's unanswered COMMIT does not handle its events again",
	},
	{
		Name: "fence-slots", File: "pgcoord/batch.go",
		Old: "AND slot_to = $3 AND", New: "AND $3::int > 0 AND",
		Test: "TestFenceComparesAllThatTheWorkerBelieves", Promise: "a batch commits only on ranges that are as it believes",
	},
	{
		Name: "fence-every-piece", File: "pgcoord/batch.go",
		Old: "if found != rows {", New: "if found == 0 && len(b.locked) > 0 {",
		Test: "TestFenceComparesAllThatTheWorkerBelieves", Promise: "one row that is not as believed refuses the whole batch",
	},
	{
		Name: "advances-only-lower-pieces", File: "pgcoord/batch.go",
		Old: "if p.Position < upTo {", New: "if p.Position != upTo {",
		Test: "TestBatchTouchesOnlyThePiecesBelowIt", Promise: "no checkpoint is set back",
	},
	{
		Name: "lock-order-batch", File: "pgcoord/batch.go",
		Old: "return cmp.Compare(p.From, q.From)", New: "return cmp.Compare(0, 0)",
		Test: "TestBatchesAndActivationsTakeTheRowsInOneOrder", Promise: "batches lock their rows in the order of the slots",
	},
	{
		Name: "lock-order-activation", File: "pgcoord/activation.go",
		Old: "ORDER BY projection, slot_from LIMIT {{all rows}} FOR UPDATE", New: "ORDER BY projection, slot_from DESC LIMIT {{all rows}} FOR UPDATE",
		Test: "TestBatchesAndActivationsTakeTheRowsInOneOrder", Promise: "activations lock the rows in the same order",
	},
	{
		Name: "cut-keeps-higher-pieces", File: "pgcoord/batch.go",
		Old: "greatest($1::bigint, $4::bigint)", New: "$1::bigint + 0 * $4::bigint",
		Test: "TestCommitCutsTheBatch", Promise: "a batch that is cut sets no piece lower than it was",
	},
	{
		Name: "idle-transaction-ends", File: "internal/batchtx/begin.go",
		Old: "set_config('idle_in_transaction_session_timeout', $3, true)", New: "set_config('orchestrator.unused', $3, true)",
		Test: "TestIdleTimeoutEndsAFrozenWorkersBatch", Package: "pgcoord", Promise: "the rows of a frozen worker become free",
	},
	{
		Name: "handlers-cannot-end-the-batch", File: "pgcoord/batch.go",
		Old: "return batchtx.Guard(b.tx)", New: "_ = batchtx.Guard; return b.tx",
		Test: "TestHandlersCannotEndTheBatch", Promise: "no handler commits a batch before it is whole",
	},
	{
		Name: "guarded-commit", File: "internal/batchtx/guard.go",
		Old:  "func (guardedTx) Commit(context.Context) error { return ErrOwner }",
		New:  "func (t guardedTx) Commit(ctx context.Context) error { return t.Tx.Commit(ctx) }",
		Test: "TestGuardRefusesToEnd", Promise: "the transaction that handlers get does not commit",
	},
	{
		Name: "ended-by-sql", File: "internal/handling/handle.go",
		Old: "case conn.TxStatus() == txIdle:", New: "case conn.TxStatus() == 0:",
		Test: "TestHandleDoubtsSuccess", Promise: "a handler that ended its transaction by SQL has failed",
	},
	{
		Name: "swallowed-failure", File: "internal/handling/handle.go",
		Old: "case conn.TxStatus() == txAborted:", New: "case conn.TxStatus() == 0:",
		Test: "TestHandleDoubtsSuccess", Promise: "a handler that reports success over an aborted transaction has failed",
	},
}
