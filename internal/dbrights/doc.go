// Package dbrights names the rights that a role lacks, as the GRANT that gives it each of them.
//
// The server's error names one object, in its own language, and a table whose schema the role may not use looks as if it were not there.
// So the rights are looked up in the catalog, which every role may read.
package dbrights
