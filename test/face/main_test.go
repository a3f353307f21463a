// Package face holds no code, only tests of the library as its users see it: what New, Run and the other exported functions do on a real PostgreSQL, what may be
// imported and exported, and what operators do meanwhile. Each test runs twice, directly and behind PgBouncer, unless it begins with directOnly. Start at
// world_test.go, which has the workers, projections and waits that the tests are made of.
package face

import (
	"testing"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/child"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) {
	child.Serve(runChild)
	if _, is := hostileMode(); is {
		pgtest.Main(m) // a pooler connects as a role of its own
	}
	pgtest.MainTwice(m)
}
