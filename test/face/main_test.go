package face

import (
	"fmt"
	"os"
	"testing"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) {
	if kind, is := os.LookupEnv(childVariable); is {
		if err := child(kind); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if _, is := hostileMode(); is {
		pgtest.Main(m) // a pooler connects as a role of its own
	}
	pgtest.MainTwice(m)
}
