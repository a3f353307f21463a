package main

// sqlGuards keep the promises where handlers use database/sql.
var sqlGuards = []guard{
	{
		Name: "no-end-through-database-sql", File: "internal/sqltx/sqltx.go",
		Old: "func (ended) Commit() error { return batchtx.ErrOwner }", New: "func (ended) Commit() error { _ = batchtx.ErrOwner; return nil }",
		Test: "TestTheTransactionGoesOn", Package: "internal/sqltx",
		Promise: "a handler that commits its *sql.Tx is told that it has committed nothing",
	},
	{
		Name: "results-of-database-sql-are-closed", File: "internal/sqltx/sqltx.go",
		Old: "defer func() { _ = given.Rollback() }()", New: "",
		Test: "TestTheTransactionGoesOn", Package: "internal/sqltx",
		Promise: "a result that a handler leaves open does not keep the batch from being committed",
	},
	{
		Name: "one-way-to-handle", File: "internal/handling/sql.go",
		Old: "if isBatch && isSQL {", New: "if isBatch && isSQL && isSQLBatch {",
		Test: "TestHandlersThatWouldNotBeCalled", Package: "internal/handling",
		Promise: "a projection with two ways to handle events is refused",
	},
	{
		Name: "appends-need-a-transaction", File: "eventstore/appendsql.go",
		Old: "if conn.PgConn().TxStatus() == 'I' {", New: "if conn == nil {",
		Test: "TestEventsAreAppendedThroughDatabaseSQL", Package: "test/face",
		Promise: "events are not appended through database/sql outside of a transaction",
	},
	{
		Name: "conflicts-within-appends-are-seen", File: "internal/sqltx/under.go",
		Old: "errors.Join(errCalled, r.err) //", New: "errors.Join(errCalled) //",
		Test: "TestAConflictWithinAppendSQLIsNoFailure", Package: "test/face",
		Promise: "a conflict within an append through database/sql is not the event's failure",
	},
	{
		Name: "nothing-uses-the-connection-afterwards", File: "internal/sqltx/sqltx.go",
		Old: "db.BeginTx(context.WithoutCancel(ctx), nil)", New: "db.BeginTx(ctx, nil)",
		Test: "TestNothingUsesTheConnectionAfterwards", Package: "internal/sqltx",
		Promise: "when a handler has returned, its *sql.Tx has ended and its results are closed",
	},
}
