// Package pooler finds out which features a pooler between the library and the database lacks.
//
// PgBouncer may keep no sessions, lose prepared statements, or refuse transactions or startup parameters. Some of these
// faults show as an error at the first statement. Others do not. In transaction mode, a statement that is described in
// one round trip may be another client's when it is executed in the next, so events are lost. [Check] tries each feature
// and names the setting that helps.
package pooler
