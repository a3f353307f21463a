package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheScriptCanBePlayedWithinTheLimit(t *testing.T) {
	t.Parallel()
	steps, err := parse(script)
	require.NoError(t, err)
	last := steps[len(steps)-1]
	assert.Equal(t, end, last.Action)
	assert.Less(t, last.At+freezePatience+settlePatience+drainPatience+leavePatience, limit)
	assert.Equal(t, []string{"w1", "w2", "w3", "w4", "w5"}, touched(steps, start))
	for _, a := range []action{kill, terminate, freeze, thaw} {
		assert.Len(t, touched(steps, a), 1, a)
	}
}

func TestAFrozenWorkerStaysFrozenForLongerThanItIsTrusted(t *testing.T) {
	t.Parallel()
	steps, err := parse(script)
	require.NoError(t, err)
	at := map[action]time.Duration{}
	for _, s := range steps {
		at[s.Action] = s.At
	}
	assert.GreaterOrEqual(t, at[thaw]-at[freeze], freezePatience+staleTimeout+heartbeatInterval)
}

func TestParse(t *testing.T) {
	t.Parallel()
	steps, err := parse("\n 0s start a b\n\n1.5s   kill a\n2s end\n")
	require.NoError(t, err)
	assert.Equal(t, []step{
		{At: 0, Action: start, Workers: []string{"a", "b"}},
		{At: 1500 * time.Millisecond, Action: kill, Workers: []string{"a"}},
		{At: 2 * time.Second, Action: end, Workers: []string{}},
	}, steps)
}

func TestParseRefusesWhatCannotBePlayed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ script, complaint string }{
		"empty":                 {"", "must end with end"},
		"no end":                {"0s start a", "must end with end"},
		"end in the middle":     {"0s end\n1s end", "not the last step"},
		"one word":              {"0s", "want a time"},
		"bad time":              {"soon start a", "line 1 of the script: reading the time"},
		"unknown action":        {"0s start a\n1s tickle a\n2s end", `line 2 of the script: unknown action "tickle"`},
		"nobody":                {"0s kill", "kill whom?"},
		"end with a worker":     {"0s end a", "end takes no workers"},
		"back in time":          {"2s start a\n1s kill a\n3s end", "comes after"},
		"killed before start":   {"0s kill a\n1s end", "impossible"},
		"started twice":         {"0s start a\n1s start a\n2s end", "impossible"},
		"killed twice":          {"0s start a\n1s kill a\n2s kill a\n3s end", "impossible"},
		"thawed while warm":     {"0s start a\n1s thaw a\n2s end", "impossible"},
		"asked to go, frozen":   {"0s start a\n1s freeze a\n2s terminate a\n3s end", "impossible"},
		"started after it left": {"0s start a\n1s terminate a\n2s start a\n3s end", "impossible"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parse(test.script)
			assert.ErrorContains(t, err, test.complaint)
		})
	}
}
