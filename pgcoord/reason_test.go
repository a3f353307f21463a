package pgcoord

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// reasons are the parts of the current generation's reason.
func reasons(t *testing.T, s *Store, db DB) []string {
	t.Helper()
	v, err := s.Glance(t.Context(), db, uuid.New())
	require.NoError(t, err)
	return strings.Split(v.Generation.Reason, "; ")
}

// Whoever comes or goes while a generation is in preparation is named by its reason as well.
func TestReasonNamesAllWhoCameAndWent(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	named := func(name string) uuid.UUID { return joinAs(t, s, pool, name) }
	ann, bob, cid, dan := named("ann"), named("bob"), named("cid"), named("dan")
	number := generation(t, s, pool, 0, ann, bob, cid, dan)
	assert.ElementsMatch(t, []string{"a test", Joined("ann", ann), Joined("bob", bob), Joined("cid", cid), Joined("dan", dan)}, reasons(t, s, pool))

	eve := named("eve")
	fay := named("fay")
	gus := named("gus")
	prepared := []string{Left("dan", dan), Joined("eve", eve), Joined("fay", fay)}
	require.NoError(t, s.Stop(t.Context(), pool, dan, "left gracefully"))
	next, err := s.Prepare(t.Context(), pool, Change{From: number, Cause: CauseChanged, Reason: strings.Join(prepared, "; "), By: ann})
	require.NoError(t, err)
	require.Equal(t, number+1, next)
	assert.Equal(t, prepared, reasons(t, s, pool))

	hal := named("hal")
	for _, w := range []uuid.UUID{ann, eve, gus, hal} {
		setState(t, s, pool, w, Ready, next)
	}
	require.NoError(t, s.Stop(t.Context(), pool, cid, "left gracefully"))
	require.NoError(t, s.Stop(t.Context(), pool, fay, "left gracefully"))
	late := named("late") // to be a member it would have to be ready
	activated, err := s.Activate(t.Context(), pool, Activation{Number: next, By: ann, Exclude: []uuid.UUID{bob, late}, Detail: "did not stop"})
	require.NoError(t, err)
	require.True(t, activated)
	complete := append(prepared, Lost("bob", bob, "did not stop"), Left("cid", cid), Left("fay", fay), Joined("gus", gus), Joined("hal", hal))
	assert.ElementsMatch(t, complete, reasons(t, s, pool))
	assert.Equal(t, prepared, reasons(t, s, pool)[:len(prepared)], "what it was prepared for comes first")
}

func TestWhatBecameOfAWorkerThatIsNoMember(t *testing.T) {
	ann, bob := uuid.New(), uuid.New()
	for name, test := range map[string]struct {
		prepared string
		was      bool
		state    WorkerState
		want     string
	}{
		"it left":                        {"x", true, Stopped, "x; " + Left("ann", ann)},
		"it is leaving":                  {"x", true, Stopping, "x; " + Left("ann", ann)},
		"it died":                        {"x", true, Dead, "x; " + Lost("ann", ann, "evidence")},
		"it is back, but not ready":      {"x", true, Pending, "x; worker ann (" + shortID(ann) + ") is not ready"},
		"it left, as was said":           {Left("ann", ann), true, Stopped, Left("ann", ann)},
		"it died, as was said":           {DeclaredDead("ann", ann), true, Dead, DeclaredDead("ann", ann)},
		"it was lost, as was said":       {Lost("ann", ann, "x"), true, Dead, Lost("ann", ann, "x")},
		"something else was said":        {Called("ann", ann) + " found", true, Stopped, Called("ann", ann) + " found; " + Left("ann", ann)},
		"it joined, and left":            {Joined("ann", ann), false, Stopped, Joined("ann", ann) + "; " + Left("ann", ann)},
		"it came and left between looks": {"x", false, Stopped, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			c := turnover{reason: test.prepared, before: []uuid.UUID{bob}, known: []acquaintance{
				{id: ann, name: "ann", state: test.state, detail: "evidence"}, {id: bob, name: "bob", state: Ready},
			}}
			if test.was {
				c.before = append(c.before, ann)
			}
			assert.Equal(t, test.want, c.complete([]uuid.UUID{bob}, Activation{}))
		})
	}
}
