// Package batchtx is the transaction in which handlers run. It begins in one round trip and ends in another.
//
// Handlers may run any SQL in the transaction, so the package trusts nothing that they leave behind:
//
//   - A handler may end the transaction by SQL and begin another. Whatever the earlier events of the batch wrote is then lost, or
//     committed without the checkpoint. [Begin] remembers the transaction's id, which PostgreSQL never gives twice. [Tx.CommitWith] fails
//     in any other transaction. [Tx.Verify] finds out after a single event, and costs a round trip only if the server has reported
//     another application_name: the transaction's own name ends with the transaction.
//   - A handler may change settings. [Tx.CommitWith] first restores what its statements depend on: the role, row_security and the
//     timeouts. Then each statement must change exactly one row ([ExactlyOne]), or nothing is committed.
//   - A handler may wrap or drop the database's error. [Tx.Conflict] says whether the last error was a conflict with another
//     transaction.
//
// The application's own statement_timeout and lock_timeout apply to the handlers' statements only.
package batchtx
