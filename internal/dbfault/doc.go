// Package dbfault says what an error of the database means for the caller, and how long to wait before the next attempt.
//
// Errors are classified by SQLSTATE. The server's texts depend on its language.
package dbfault
