package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// environment looks variables up in a map.
func environment(variables map[string]string) func(string) string {
	return func(name string) string { return variables[name] }
}

func TestReadSettings(t *testing.T) {
	now := time.Unix(0, 4711)
	got, err := readSettings(environment(nil), now)
	require.NoError(t, err)
	assert.Equal(t, settings{seed: 4711}, got)

	got, err = readSettings(environment(map[string]string{
		"ONLY": "kill, join-pause", "SEED": "7", "REPETITIONS": "3", "POLLONLY": "1", "VERBOSE": "0",
	}), now)
	require.NoError(t, err)
	assert.Equal(t, settings{only: []string{"kill", "join-pause"}, seed: 7, repetitions: 3, pollOnly: true}, got)
}

func TestReadSettingsRefuses(t *testing.T) {
	for name, value := range map[string]string{
		"ONLY": "kill,klil", "SEED": "-1", "REPETITIONS": "0", "POLLONLY": "maybe", "VERBOSE": "2",
	} {
		_, err := readSettings(environment(map[string]string{name: value}), time.Now())
		require.ErrorContains(t, err, name)
	}
	_, err := readSettings(environment(map[string]string{"ONLY": "kill-leader"}), time.Now())
	require.ErrorContains(t, err, "first-worker", "details cannot be measured alone, and the error says what can")
}

func TestTheScenarioOfAFigureIsWanted(t *testing.T) {
	s := settings{only: []string{"leave-pause"}}
	assert.True(t, s.wantsAny([]string{"join", "leave-pause"}))
	assert.False(t, s.wantsAny([]string{"kill"}))
	assert.True(t, settings{}.wantsAny([]string{"kill"}))
}

func TestScenariosDrawTheSameAgain(t *testing.T) {
	a, b, other := seeded(1, "kill"), seeded(1, "kill"), seeded(1, "freeze")
	first := a.Uint64()
	assert.Equal(t, first, b.Uint64())
	assert.NotEqual(t, first, other.Uint64())
}
