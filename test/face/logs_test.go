package face

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
)

// A log that grows with the events hides what an operator looks for.
func TestNoLineIsLoggedForEachBatch(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	start(t, w.orchestrator("set", orchestrator.WithBatchSize(1)), recorder{name: "users"})
	w.awaitRunning("set", 1)
	w.append("ada", 1)
	w.awaitHandled("users", 1)
	before := strings.Count(w.logs.String(), "\n")
	w.append("ada", 50)
	w.awaitHandled("users", 51)
	assert.Equal(t, before, strings.Count(w.logs.String(), "\n"), "of Info and above, after 50 batches")
}
