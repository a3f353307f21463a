package measure

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

func TestPercentileIsTheNearestRank(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, c := range []struct {
		values []float64
		p      float64
		want   float64
	}{
		{[]float64{7}, 50, 7},
		{[]float64{7}, 99, 7},
		{[]float64{3, 1, 2}, 50, 2},
		{[]float64{4, 1, 2, 3}, 50, 2},
		{[]float64{4, 1, 2, 3}, 99, 4},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 100, 100},
		{hundred, 0, 1},
	} {
		assert.InDelta(t, c.want, Percentile(c.values, c.p), 0, "%v of %v", c.p, c.values)
	}
	assert.True(t, math.IsNaN(Percentile(nil, 50)))
	assert.InDelta(t, 100, hundred[0], 0, "the values must not be sorted in place")
}

func TestPropertyPercentileCoversItsShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(0, 10), 1, 60).Draw(t, "values")
		p := rapid.Float64Range(1, 100).Draw(t, "p")
		got := Percentile(values, p)
		covered, below := 0, 0
		for _, v := range values {
			if v <= got {
				covered++
			}
			if v < got {
				below++
			}
		}
		need := p / 100 * float64(len(values))
		if !slices.Contains(values, got) || float64(covered) < need || float64(below) >= need {
			t.Fatalf("%v is not the least of %v that covers %v%%", got, values, p)
		}
	})
}

func TestMedianIsTheMiddle(t *testing.T) {
	assert.True(t, math.IsNaN(Median(nil)))
	assert.InDelta(t, 2.5, Median([]float64{4, 1, 3, 2}), 0)
	assert.InDelta(t, 3, Median([]float64{9, 3, 1}), 0)
}
