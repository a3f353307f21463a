package manual

import "fmt"

// SerializeSQL returns the statement by which a transaction becomes the only one that creates and deletes rows of a projection.
// The parameter is the projection. The processors and the import use it. It takes an advisory lock, so it needs no right, and
// holds up no batch. table is an SQL constant that names the checkpoints table.
func SerializeSQL(table string) string { return fmt.Sprintf(sqlSerialize, table) }

const sqlSerialize = `
SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, %s::pg_catalog.regclass::pg_catalog.oid::pg_catalog.int8))`
