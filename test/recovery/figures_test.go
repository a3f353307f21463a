package main

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
		assert.InDelta(t, c.want, percentile(c.values, c.p), 0, "%v of %v", c.p, c.values)
	}
	assert.True(t, math.IsNaN(percentile(nil, 50)))
	assert.InDelta(t, 100, hundred[0], 0, "the values must not be sorted in place")
}

func TestPropertyPercentileCoversItsShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(0, 10), 1, 60).Draw(t, "values")
		p := rapid.Float64Range(1, 100).Draw(t, "p")
		got := percentile(values, p)
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

func TestLinesForScripts(t *testing.T) {
	var r report
	for i := range 50 {
		r.add("join", float64(100+4*i))
		r.add("kill-leader", 7)
		r.add("leave-return", 301)
	}
	var out strings.Builder
	require.NoError(t, printSummaries(&out, r.summarise(settings{})))
	assert.Contains(t, out.String(), "\nfigure join p50=196.0 p99=296.0 n=50 unit=ms goal=300 met=yes\n")
	assert.Contains(t, out.String(), "\nfigure leave-return p50=301.0 p99=301.0 n=50 unit=ms goal=300 met=no\n")
	assert.Contains(t, out.String(), "\nfigure kill-leader p50=7.0 p99=7.0 n=50 unit=ms\n")
	assert.NotContains(t, out.String(), "burst", "what was not measured has no line")
}

func TestOnlyWhatWasAskedForIsShown(t *testing.T) {
	var r report
	for _, d := range catalogue {
		r.add(d.name, 1)
	}
	var names []string
	for _, s := range r.summarise(settings{only: []string{"kill", "join"}}) {
		names = append(names, s.name)
	}
	assert.Equal(t, []string{"join", "kill", "kill-detected", "kill-leader", "kill-follower"}, names)
	assert.Len(t, r.summarise(settings{}), len(catalogue))
}

func TestWithoutSessionsTimesHaveNoGoal(t *testing.T) {
	var r report
	r.add("kill", 30_000)
	r.add("freeze-rows", 1)
	var verdicts []string
	for _, s := range r.summarise(settings{pollOnly: true}) {
		verdicts = append(verdicts, s.verdict())
	}
	assert.Equal(t, []string{"", "no"}, verdicts)
}

func TestTheCatalogueIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range catalogue {
		assert.False(t, seen[d.name], d.name)
		assert.True(t, d.of == "" || seen[d.of], "%s comes after %s", d.name, d.of)
		seen[d.name] = true
	}
	var played []string
	for _, sc := range scenarios(settings{}) {
		played = append(played, sc.figures...)
		assert.NotNil(t, sc.repeat, sc.figures)
		assert.Positive(t, sc.repetitions, sc.figures)
	}
	assert.Equal(t, mainFigures(), played, "each main figure is measured by one scenario")
	assert.Panics(t, func() { new(report).add("unknown", 1) })
}
