package replicaset

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
)

func TestWhatBecameOfAWorkerThatIsNoMember(t *testing.T) {
	t.Parallel()
	ann, bob := uuid.New(), uuid.New()
	of := func(kind Kind, detail string) Change {
		return Change{Worker: ann, Name: "ann", Kind: kind, Detail: detail}
	}
	x := Change{Kind: "x"}
	excluded := []uuid.UUID{ann}
	for name, test := range map[string]struct {
		prepared []Change
		worker   Participant
		excluded []uuid.UUID
		want     []Change
	}{
		"it left":                        {[]Change{x}, Participant{Was: true, Left: true}, nil, []Change{x, of(Left, "")}},
		"it died":                        {[]Change{x}, Participant{Was: true, Dead: true}, excluded, []Change{x, of(Lost, "evidence")}},
		"it is late":                     {[]Change{x}, Participant{Was: true}, excluded, []Change{x, of(Lost, "too late")}},
		"it is back, but not ready":      {[]Change{x}, Participant{Was: true}, nil, []Change{x, of(NotReady, "")}},
		"it left, as was said":           {[]Change{of(Left, "")}, Participant{Was: true, Left: true}, nil, []Change{of(Left, "")}},
		"it was lost, as was said":       {[]Change{of(Lost, "y")}, Participant{Was: true, Dead: true}, nil, []Change{of(Lost, "y")}},
		"something else was said":        {[]Change{of(Inconsistent, "")}, Participant{Was: true, Left: true}, nil, []Change{of(Inconsistent, ""), of(Left, "")}},
		"it joined, and left":            {[]Change{of(Joined, "")}, Participant{Left: true}, nil, []Change{of(Joined, ""), of(Left, "")}},
		"it came and left between looks": {[]Change{x}, Participant{Left: true}, nil, []Change{x}},
		"it came meanwhile":              {[]Change{x}, Participant{Is: true}, nil, []Change{x, of(Joined, "")}},
		"it came, as was said":           {[]Change{of(Joined, "")}, Participant{Is: true}, nil, []Change{of(Joined, "")}},
		"it stayed":                      {[]Change{x}, Participant{Was: true, Is: true}, nil, []Change{x}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := test.worker
			w.ID, w.Name, w.Detail = ann, "ann", "evidence"
			stays := Participant{ID: bob, Name: "bob", Was: true, Is: true}
			assert.Equal(t, test.want, Complete(test.prepared, []Participant{w, stays}, test.excluded, "too late"))
		})
	}
}

func TestTheCauseOfSeveral(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		first bool
		kinds []Kind
		want  string
	}{
		"one":                  {false, []Kind{Joined}, CauseJoined},
		"a drain":              {false, []Kind{Drained, Undrained, Unhandled}, CauseDrained},
		"the same twice":       {false, []Kind{Joined, Joined}, CauseJoined},
		"several":              {false, []Kind{Joined, Left}, CauseChanged},
		"a loss counts most":   {false, []Kind{Joined, Lost, Left}, CauseLost},
		"what is no cause":     {false, []Kind{Joined, NotReady, LeftOut, Unhandled, Repaired, Elsewhere}, CauseJoined},
		"nothing":              {false, nil, CauseChanged},
		"the first":            {true, []Kind{Joined, Lost}, CauseFirst},
		"there and back again": {false, []Kind{Abandoned, Returned}, CauseAbandoned},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var changes []Change
			for _, kind := range test.kinds {
				changes = append(changes, Change{Kind: kind})
			}
			assert.Equal(t, test.want, Cause(test.first, changes))
		})
	}
}

func TestAReasonInWords(t *testing.T) {
	t.Parallel()
	ann := uuid.MustParse("01a22642-0000-7000-8000-0123456789ab")
	of := func(kind Kind, detail string, projections ...string) Change {
		return Change{Worker: ann, Name: "ann", Kind: kind, Detail: detail, Projections: projections}
	}
	for want, c := range map[string]Change{
		`worker ann (456789ab) joined`:                                                                          of(Joined, ""),
		`worker ann (456789ab) left`:                                                                            of(Left, ""),
		`worker ann (456789ab) was lost: its session has ended`:                                                 of(Lost, "its session has ended"),
		`worker ann (456789ab) was declared dead`:                                                               of(Lost, ""),
		`worker ann (456789ab) found checkpoints that contradict the generation`:                                of(Inconsistent, ""),
		`worker ann (456789ab) has abandoned handlers of "a", "b"`:                                              of(Abandoned, "", "a", "b"),
		`worker ann (456789ab) takes part again in "a", whose abandoned handlers have returned`:                 of(Returned, "", "a"),
		`worker ann (456789ab) is not ready`:                                                                    of(NotReady, ""),
		`worker ann (456789ab) takes no partition of "a", because a handler that it abandoned has not returned`: of(LeftOut, "", "a"),
		`no worker handles "a"`:                                                                                 {Kind: Unhandled, Projections: []string{"a"}},
		`checkpoints of projection "a" were deleted: the slots [[0,5)] begin again at position 0`:               {Kind: Repaired, Projections: []string{"a"}, Detail: "[[0,5)]"},
		`projection "a" has checkpoints in replica set "x": no worker of this one handles it`:                   {Kind: Elsewhere, Projections: []string{"a"}, Detail: "x"},
		`invented "a" later`: {Kind: "invented", Projections: []string{"a"}, Detail: "later"},
	} {
		assert.Equal(t, want, c.String())
	}
	assert.Equal(t, "worker ann (456789ab) was drained; worker ann (456789ab) was undrained", Reason([]Change{of(Drained, ""), of(Undrained, "")}))
	assert.Equal(t, `worker ann (456789ab) joined; no worker handles "a"`, Reason([]Change{of(Joined, ""), {Kind: Unhandled, Projections: []string{"a"}}}))
}
