// Package pooler finds out what a pooler between the library and the database does not give.
//
// PgBouncer may keep no sessions, lose prepared statements, or refuse transactions or startup parameters. Some of that is an error
// at the first statement. Some is not: in transaction mode, a statement that is described in one round trip and executed in the next may be
// another client's by then, so events are lost. [Check] tries each and names the setting that helps.
package pooler
