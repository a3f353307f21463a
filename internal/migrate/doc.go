// Package migrate applies numbered SQL files to a PostgreSQL database.
//
// The files come in pairs, 000001_init.up.sql and 000001_init.down.sql,
// numbered from 1 without a gap. A version table, named by the caller, has one
// row per applied pair. Every file runs in a transaction of its own together
// with the change of its version row, so a file is applied completely and
// recorded, or not at all.
//
// Any number of processes may migrate one database at once: the transaction
// begins with pg_advisory_xact_lock and reads the version under that lock. A
// transaction's lock needs no session, so this works behind PgBouncer in
// transaction mode too. The lock is one per database, whatever the schema.
//
// In the files {{schema}} stands for the quoted schema and a dot, or for
// nothing where no schema is configured; the caller may name further
// placeholders. Several statements per file are fine; statements that refuse to
// run inside a transaction (CREATE INDEX CONCURRENTLY) are not.
package migrate
