package actors

import (
	"testing"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// The whole worker runs through PgBouncer in test/face. Here many tests cancel statements, and PgBouncer 1.18 dies of some cancel requests.
func TestMain(m *testing.M) { pgtest.Main(m) }

// deadline bounds every wait for something that happens in another goroutine.
const deadline = time.Minute

// pass lets fake time pass. It is for synctest bubbles only.
func pass(d time.Duration) { <-time.After(d) }
