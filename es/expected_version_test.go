package es_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

func TestAnExpectedVersionIsOfOneKindAndAllowsWhatItSays(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name                 string
		version              es.ExpectedVersion
		any, noStream, exact bool
		value                int64
		text                 string
		allowed, refused     []int64
	}{
		{"any", es.Any(), true, false, false, 0, "any version", []int64{0, 1, 99}, nil},
		{"the zero value", es.ExpectedVersion{}, true, false, false, 0, "any version", []int64{0, 7}, nil},
		{"no stream", es.NoStream(), false, true, false, 0, "no stream", []int64{0}, []int64{1, 99}},
		{"exactly 0", es.Exact(0), false, false, true, 0, "version 0", []int64{0}, []int64{1}},
		{"exactly 5", es.Exact(5), false, false, true, 5, "version 5", []int64{5}, []int64{0, 4, 6}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tt.any, tt.version.IsAny())
			assert.Equal(t, tt.noStream, tt.version.IsNoStream())
			assert.Equal(t, tt.exact, tt.version.IsExact())
			assert.Equal(t, tt.value, tt.version.Value())
			assert.Equal(t, tt.text, tt.version.String())
			for _, current := range tt.allowed {
				assert.True(t, tt.version.Allows(current), "%d", current)
			}
			for _, current := range tt.refused {
				assert.False(t, tt.version.Allows(current), "%d", current)
			}
		})
	}
}

func TestANegativeExactVersionPanics(t *testing.T) {
	t.Parallel()
	assert.PanicsWithValue(t, "es.Exact: version must not be negative, got -1", func() { es.Exact(-1) })
}

func TestExpectedVersionsCanBeCompared(t *testing.T) {
	t.Parallel()
	kinds := map[es.ExpectedVersion]string{es.Any(): "any", es.NoStream(): "none", es.Exact(0): "zero", es.Exact(3): "three"}
	assert.Len(t, kinds, 4)
	assert.Equal(t, "three", kinds[es.Exact(3)])
	assert.Equal(t, "none", kinds[es.NoStream()])
}
