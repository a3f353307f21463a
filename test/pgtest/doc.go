// Package pgtest starts real PostgreSQL servers for tests, benchmarks, demonstrations and fault injection.
//
// # In a package's tests
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		pool := pgtest.NewDatabase(t) // an empty database of its own, dropped when the test ends
//	}
//
// Where the databases live is decided once per test binary, by the first that is set of:
//
//   - DATABASE_URL: the server that the developer names. The role needs CREATEDB; the databases are named pgtest_….
//   - PGTEST_URL: the server that `pgtest run` started for all test binaries of one `make test`.
//   - neither: a server started on first use and stopped by [Main], so that plain `go test ./pkg` works.
//
// [Main] also fails the binary if goroutines are left after its last test.
//
// # A server to break
//
// Tests that restart or kill PostgreSQL take a server of their own with [Own], programs with [Start]. Its data lives in a
// temporary directory and its port is kept over [Cluster.Restart] and [Cluster.Kill], so clients can come back to it.
// [Cluster.Standby] sets up a second server that streams from the first, for failovers.
//
// [OwnVersion] starts a server of another major version of PostgreSQL, for tests of what differs between versions.
//
// # Through PgBouncer
//
// A package whose TestMain calls [MainTwice] has its tests run twice at the same time, directly and with their databases behind
// PgBouncer in transaction mode. Tests of other modes start one with [OwnBouncer], programs with [StartBouncer]. Without PgBouncer
// such tests are skipped, but fail where CI is "true".
//
// # What is left behind
//
// Nothing: the server's postmaster is told to shut down when the process that started it dies, even by SIGKILL, and
// a directory that such a death left is removed by the next [Start] on the machine. As root, the server runs as the user
// postgres, or nobody, because PostgreSQL refuses to run as root.
package pgtest
