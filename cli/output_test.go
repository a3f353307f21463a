package cli

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// control is what a terminal would obey: an escape sequence, the same in one rune, a bell, and a change of direction.
const control = "a\x1b[31m \u009b31m \a\u202e b"

// What the database has does not control the terminal, in whatever form it is printed.
func TestNothingControlsTheTerminal(t *testing.T) {
	t.Parallel()
	var out, messages bytes.Buffer
	a := &app{config: Config{Stdout: &out, Stderr: &messages}}
	a.say("first: %s\nsecond", control)
	assert.Equal(t, "first: a [31m  31m    b\nsecond\n", messages.String())
	require.NoError(t, a.printJSON(map[string]string{"name": control}))
	for _, r := range out.String() {
		assert.False(t, r != '\n' && controls(r), "%q", r)
	}
	var read map[string]string
	require.NoError(t, json.Unmarshal(out.Bytes(), &read))
	assert.Equal(t, control, read["name"], "nothing of it is lost")
}

// Who looks at the workers sees which of them has not been heard of, whatever its row says.
func TestAWorkerThatIsSilent(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for want, w := range map[string]admin.Worker{
		"running, leads":   {State: "running", Leading: true, LastHeartbeat: ago(now, 14)},
		"silent for 1m0s":  {State: "running", LastHeartbeat: ago(now, 60)},
		"silent for 15s":   {State: "pending", LastHeartbeat: ago(now, 15)},
		"dead":             {State: "dead", LastHeartbeat: ago(now, 60)},
		"stopped, drained": {State: "stopped", Drained: true, LastHeartbeat: ago(now, 60)},
		"pending":          {State: "pending"},
	} {
		assert.Equal(t, want, workerState(w, now))
	}
}

func ago(now time.Time, seconds int) *time.Time {
	at := now.Add(-time.Duration(seconds) * time.Second)
	return &at
}

// What is not held back needs no resume, unless a cut-over that goes on holds it further on.
func TestNothingToResume(t *testing.T) {
	t.Parallel()
	s := admin.Snapshot{Projections: []admin.Projection{{Name: "p"}, {Name: "paused", Paused: true}, {Name: "stopped", Stopped: true}, {Name: "replaced", ReplacedBy: "p"}}}
	assert.True(t, nothingToResume(s, admin.Target{Projection: "p"}))
	for _, name := range []string{"paused", "stopped", "replaced", "", "nobodys"} {
		assert.False(t, nothingToResume(s, admin.Target{Projection: name}), name)
	}
	s.Operations = []admin.Operation{{Kind: "cut-over"}}
	assert.False(t, nothingToResume(s, admin.Target{Projection: "p"}))
}
