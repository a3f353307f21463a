package replicaset

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSuccessions(t *testing.T) {
	all := []Succession{{Projection: "b", Replaced: "a"}, {Projection: "c", Replaced: "b"}}
	for projection, by := range map[string]string{"a": "b", "b": "c", "c": "", "d": ""} {
		assert.Equal(t, by, Replaced(projection, all), projection)
	}
	assert.True(t, Replays("d", "c", all))
	assert.True(t, Replays("d", "c", nil))
	assert.False(t, Replays("d", "", all), "it replaces nothing")
	assert.False(t, Replays("c", "b", all), "it has done so")
}
