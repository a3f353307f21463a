package measure

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// of reads the settings of a map.
func of(variables map[string]string) *Environment {
	return &Environment{Lookup: func(name string) string { return variables[name] }}
}

func TestTheFirstPartOfNamesNamesThemAll(t *testing.T) {
	known := []string{"raw", "read/one", "read/many", "reads", "read/many/late"}
	for text, want := range map[string][]string{
		"":                 nil,
		"raw":              {"raw"},
		"read":             {"read/one", "read/many", "read/many/late"},
		"read/many, reads": {"read/many", "read/many/late", "reads"},
	} {
		env := of(map[string]string{"ONLY": text})
		assert.Equal(t, want, env.Names("ONLY", known), "of %q", text)
		require.NoError(t, env.Err())
	}
	for _, text := range []string{"rea", "read/", "read/on", "read/one/more"} {
		env := of(map[string]string{"ONLY": "raw," + text})
		env.Names("ONLY", known)
		require.EqualError(t, env.Err(), `ONLY names "`+text+`"; there are raw, read/one, read/many, reads, read/many/late`)
	}
}

func TestWhatIsNotSetStaysAsItIs(t *testing.T) {
	env := of(nil)
	n, seed, yes := 3, uint64(4), true
	env.Int("N", &n, 5)
	env.Seed("SEED", &seed)
	env.Bool("YES", &yes)
	require.NoError(t, env.Err())
	assert.Equal(t, []any{3, uint64(4), true}, []any{n, seed, yes})
}

func TestTheFirstWrongVariableIsNamed(t *testing.T) {
	env := of(map[string]string{"N": "4", "SEED": "-1", "YES": "maybe"})
	var n int
	env.Int("N", &n, 5)
	var seed uint64
	env.Seed("SEED", &seed)
	require.EqualError(t, env.Err(), `N must be a number of at least 5, got "4"`)
	env = of(map[string]string{"SEED": "-1", "YES": "maybe"})
	env.Seed("SEED", &seed)
	require.EqualError(t, env.Err(), `SEED must be a number that is not negative, got "-1"`)
	env = of(map[string]string{"YES": "maybe"})
	var yes bool
	env.Bool("YES", &yes)
	require.EqualError(t, env.Err(), `YES must be 0 or 1, got "maybe"`)
}

func TestWithoutNamesAllAreWanted(t *testing.T) {
	assert.True(t, Only(nil).Wants("any"))
	assert.True(t, Only{"a"}.Wants("b", "a"))
	assert.False(t, Only{"a"}.Wants("b"))
}
