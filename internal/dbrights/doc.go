// Package dbrights names the rights that a role lacks, each with the GRANT that gives it.
//
// The server's error names only one object, in the server's language. A table whose schema the role may not use looks as
// if it did not exist. The package therefore looks the rights up in the catalog, which every role may read.
package dbrights
