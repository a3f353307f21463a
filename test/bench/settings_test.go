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

func TestTheEnvironmentSaysWhatIsMeasured(t *testing.T) {
	t.Parallel()
	s, err := readSettings(environment(nil))
	require.NoError(t, err)
	assert.Equal(t, settings{events: 1_000_000, rounds: 5, seconds: 20 * time.Second}, s)
	assert.True(t, s.wants("idle"))

	s, err = readSettings(environment(map[string]string{
		"ONLY": "catchup/1x8, idle", "EVENTS": "20000", "ROUNDS": "3", "SECONDS": "2", "PROFILE": "p", "VERBOSE": "1",
	}))
	require.NoError(t, err)
	assert.Equal(t, settings{only: []string{"catchup/1x8", "idle", sharedPool}, events: 20000, rounds: 3, seconds: 2 * time.Second, profile: "p", verbose: true}, s)
	assert.True(t, s.wantsAny([]string{"raw", "catchup/1x8"}))
	assert.False(t, s.wants("raw"))

	s, err = readSettings(environment(map[string]string{"ONLY": "write,catchup,scoped"}))
	require.NoError(t, err, "the first part of figures' names")
	assert.ElementsMatch(t, []string{"write/row", "write/sql", "write/batch", "catchup/1x1", "catchup/1x8", "catchup/4w", "catchup/16w", "catchup/4p", "scoped", "scoped/index"}, s.only)
}

func TestWhatTheEnvironmentMustNotSayIsNamed(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{"ONLY": "idle/cpu", "EVENTS": "9999", "ROUNDS": "0", "SECONDS": "x", "VERBOSE": "maybe"} {
		_, err := readSettings(environment(map[string]string{name: value}))
		require.ErrorContains(t, err, name)
		require.ErrorContains(t, err, value)
	}
}
