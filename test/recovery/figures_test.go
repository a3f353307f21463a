package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
