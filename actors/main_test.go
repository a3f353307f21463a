package actors

import (
	"testing"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.MainTwice(m) }

// deadline bounds every wait for something that happens in another goroutine.
const deadline = time.Minute

// pass lets fake time pass. It is for synctest bubbles only.
func pass(d time.Duration) { <-time.After(d) }
