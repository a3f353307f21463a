package pgtest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStandbyFollowsUntilItIsDetached(t *testing.T) {
	primary := Own(t, Options{})
	execute(t, primary.DSN("postgres"), "CREATE TABLE survivors (name text)")
	standby := OwnStandby(t, primary)
	assert.NotEqual(t, primary.port, standby.port)
	execute(t, primary.DSN("postgres"), "INSERT INTO survivors VALUES ('before')")
	require.NoError(t, standby.Detach(t.Context()))
	execute(t, primary.DSN("postgres"), "INSERT INTO survivors VALUES ('after')")
	require.NoError(t, primary.Kill())

	assert.True(t, query[bool](t, standby.DSN("postgres"), "SELECT pg_is_in_recovery()"))
	require.NoError(t, standby.Promote(t.Context()))
	execute(t, standby.DSN("postgres"), "INSERT INTO survivors VALUES ('promoted')")
	assert.Equal(t, []string{"before", "promoted"}, query[[]string](t, standby.DSN("postgres"), "SELECT array_agg(name ORDER BY name) FROM survivors"))
	require.NoError(t, standby.Restart(Fast))
	assert.Equal(t, 2, query[int](t, standby.DSN("postgres"), "SELECT count(*)::int FROM survivors"))
	require.ErrorContains(t, standby.Detach(t.Context()), "no standby")
}
