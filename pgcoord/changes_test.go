package pgcoord

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// changes are those of the current generation.
func changes(t *testing.T, db DB) (changes []replicaset.Change) {
	t.Helper()
	var text string
	require.NoError(t, db.QueryRow(t.Context(), `SELECT changes::text FROM orchestrator_generations WHERE state <> 'superseded'`).Scan(&text))
	require.NoError(t, json.Unmarshal([]byte(text), &changes))
	return changes
}

func joined(name string, id uuid.UUID) replicaset.Change {
	return replicaset.Change{Worker: id, Name: name, Kind: replicaset.Joined}
}

func left(name string, id uuid.UUID) replicaset.Change {
	return replicaset.Change{Worker: id, Name: name, Kind: replicaset.Left}
}

// Whoever comes or goes while a generation is in preparation is named by its reason as well.
func TestReasonNamesAllWhoCameAndWent(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	named := func(name string) uuid.UUID { return joinAs(t, s, pool, name) }
	ann, bob, cid, dan := named("ann"), named("bob"), named("cid"), named("dan")
	number := generation(t, s, pool, 0, ann, bob, cid, dan)
	assert.ElementsMatch(t, []replicaset.Change{aTest[0], joined("ann", ann), joined("bob", bob), joined("cid", cid), joined("dan", dan)}, changes(t, pool))

	eve := named("eve")
	fay := named("fay")
	gus := named("gus")
	prepared := []replicaset.Change{left("dan", dan), joined("eve", eve), joined("fay", fay)}
	require.NoError(t, s.Stop(t.Context(), pool, dan, "left gracefully"))
	next, err := numberOf(s.Prepare(t.Context(), pool, replicaset.Preparation{From: number, Changes: prepared, By: ann}))
	require.NoError(t, err)
	require.Equal(t, number+1, next)
	assert.Equal(t, prepared, changes(t, pool))

	hal := named("hal")
	for _, w := range []uuid.UUID{ann, eve, gus, hal} {
		setState(t, s, pool, w, replicaset.Ready, next)
	}
	require.NoError(t, s.Stop(t.Context(), pool, cid, "left gracefully"))
	require.NoError(t, s.Stop(t.Context(), pool, fay, "left gracefully"))
	late := named("late") // to be a member it would have to be ready
	activated, err := s.Activate(t.Context(), pool, replicaset.Activation{
		Number: next, By: ann, Exclude: []uuid.UUID{bob, late}, Detail: "did not stop",
	}, nil)
	require.NoError(t, err)
	require.True(t, activated.Active)
	assert.Equal(t, 2, activated.Died, "bob and late")
	v, err := s.Glance(t.Context(), pool, ann)
	require.NoError(t, err)
	assert.Equal(t, replicaset.CauseLost, v.Generation.Cause, "one of many things is that bob was lost")
	complete := append(prepared, replicaset.Change{Worker: bob, Name: "bob", Kind: replicaset.Lost, Detail: "did not stop"},
		left("cid", cid), left("fay", fay), joined("gus", gus), joined("hal", hal))
	assert.ElementsMatch(t, complete, changes(t, pool))
	assert.Equal(t, prepared, changes(t, pool)[:len(prepared)], "what it was prepared for comes first")
	assert.Equal(t, replicaset.Reason(changes(t, pool)), v.Generation.Reason)
}

// Changes that cannot be read stop nobody.
func TestChangesThatWereEditedByHand(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	ann := joinAs(t, s, pool, "ann")
	for _, edited := range []string{`"x"`, `{}`, `null`, `[1]`, `[{"worker": "nobody"}]`} {
		v, err := s.Glance(t.Context(), pool, ann)
		require.NoError(t, err)
		next := prepare(t, s, pool, v.Generation.Number)
		exec(t, pool, `UPDATE orchestrator_generations SET changes = '`+edited+`' WHERE state = 'preparing'`)
		setState(t, s, pool, ann, replicaset.Ready, next)
		activated, err := isActive(s.Activate(t.Context(), pool, replicaset.Activation{Number: next, By: ann}, nil))
		require.NoError(t, err, edited)
		assert.True(t, activated, edited)
	}
}
