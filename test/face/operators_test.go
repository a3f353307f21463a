package face

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// What one operator does while another one waits, or believes something else.

// An Admin of another actor has all other options of the first.
func TestAnAdminOfAnotherActorHasTheOptions(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	for want, a := range map[string]*admin.Admin{
		"it has no checkpoints":                                 w.admin("set"),
		"WithCutOverLimits: apart must not be negative, got -1": w.admin("set", admin.WithCutOverLimits(-1, time.Second)),
		"pause must be above 0 and at most 10m0s, got 11m0s":    w.admin("set", admin.WithCutOverLimits(1, 11*time.Minute)),
	} {
		grace, err := a.As("grace")
		require.NoError(t, err)
		_, err = grace.CutOver(w.patiently(), "p1", "p2", "")
		require.ErrorContains(t, err, want)
	}
}
