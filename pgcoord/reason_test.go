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
	next, err := s.Prepare(t.Context(), pool, Change{From: number, Cause: CauseJoined, Reason: strings.Join(prepared, "; "), By: ann})
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
	died := 0
	activated, err := s.Activate(t.Context(), pool, Activation{
		Number: next, By: ann, Exclude: []uuid.UUID{bob, late}, Detail: "did not stop", Died: func(n int) { died += n },
	})
	require.NoError(t, err)
	require.True(t, activated)
	assert.Equal(t, 2, died, "bob and late")
	v, err := s.Glance(t.Context(), pool, ann)
	require.NoError(t, err)
	assert.Equal(t, CauseLost, v.Generation.Cause, "one of many things is that bob was lost")
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
		cause    string
	}{
		"it left":                        {"x", true, Stopped, "x; " + Left("ann", ann), CauseChanged},
		"it is leaving":                  {"x", true, Stopping, "x; " + Left("ann", ann), CauseChanged},
		"it died":                        {"x", true, Dead, "x; " + Lost("ann", ann, "evidence"), CauseLost},
		"it is back, but not ready":      {"x", true, Pending, "x; worker ann (" + shortID(ann) + ") is not ready", "x"},
		"it left, as was said":           {Left("ann", ann), true, Stopped, Left("ann", ann), "x"},
		"it died, as was said":           {DeclaredDead("ann", ann), true, Dead, DeclaredDead("ann", ann), "x"},
		"it was lost, as was said":       {Lost("ann", ann, "x"), true, Dead, Lost("ann", ann, "x"), "x"},
		"something else was said":        {Called("ann", ann) + " found", true, Stopped, Called("ann", ann) + " found; " + Left("ann", ann), CauseChanged},
		"it joined, and left":            {Joined("ann", ann), false, Stopped, Joined("ann", ann) + "; " + Left("ann", ann), CauseChanged},
		"it came and left between looks": {"x", false, Stopped, "x", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			c := turnover{cause: "x", reason: test.prepared, before: []uuid.UUID{bob}, known: []acquaintance{
				{id: ann, name: "ann", state: test.state, detail: "evidence"}, {id: bob, name: "bob", state: Ready},
			}}
			if test.was {
				c.before = append(c.before, ann)
			}
			cause, reason := c.complete([]uuid.UUID{bob}, Activation{})
			assert.Equal(t, test.want, reason)
			assert.Equal(t, test.cause, cause)
		})
	}
}

func TestTheCauseOfSeveral(t *testing.T) {
	for name, test := range map[string]struct {
		causes []string
		want   string
	}{
		"one":                      {[]string{CauseJoined}, CauseJoined},
		"the same twice":           {[]string{CauseJoined, CauseJoined}, CauseJoined},
		"several":                  {[]string{CauseJoined, CauseLeft}, CauseChanged},
		"a loss counts most":       {[]string{CauseJoined, CauseLost, CauseLeft}, CauseLost},
		"a loss among several":     {[]string{CauseChanged, CauseLost}, CauseLost},
		"a loss, then others":      {[]string{CauseLost, CauseJoined}, CauseLost},
		"nothing that has a cause": {[]string{CauseJoined, ""}, CauseJoined},
		"the first":                {[]string{CauseFirst, CauseJoined, CauseLost}, CauseFirst},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, Causes(test.causes...)) })
	}
}
