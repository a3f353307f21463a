package face

import (
	"testing"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) {
	if _, is := hostileMode(); is {
		pgtest.Main(m) // a pooler connects as a role of its own
	}
	pgtest.MainTwice(m)
}
