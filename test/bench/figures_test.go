package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEveryFigureIsMeasuredByOneScenario(t *testing.T) {
	t.Parallel()
	var measured []string
	for _, s := range scenarios {
		measured = append(measured, s.figures...)
	}
	assert.ElementsMatch(t, mainFigures(), measured)
}

func TestAFigureIsTheMedianOfItsRounds(t *testing.T) {
	t.Parallel()
	var r report
	r.compare("catchup/1x1", 90, 100)
	r.compare("catchup/1x1", 200, 100)
	r.compare("catchup/1x1", 95, 190)
	r.add("idle/cpu", 0.6)
	all := r.summarise()
	require.Len(t, all, 2)
	assert.Equal(t, "figure catchup/1x1 value=95.0 unit=events/s ratio=0.9 goal>=0.9 met=yes", all[0].line())
	assert.InDelta(t, 0.5, all[0].low, 0)
	assert.InDelta(t, 2, all[0].high, 0)
	assert.Equal(t, "figure idle/cpu value=0.6 unit=% ratio=0.6 goal<=0.5 met=no", all[1].line())

	var text strings.Builder
	require.NoError(t, printSummaries(&text, all))
	assert.Contains(t, text.String(), "0.5–2")
	assert.Contains(t, text.String(), all[1].line()+"\n")
	assert.Panics(t, func() { r.add("no such figure", 1) })
}

func TestNumbersAreShort(t *testing.T) {
	t.Parallel()
	for text, v := range map[string]float64{"812345": 812345.4, "100": 100, "12.3": 12.34, "0.0446": 0.04456, "1": 1} {
		assert.Equal(t, text, short(v))
	}
}
