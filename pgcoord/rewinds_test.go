package pgcoord

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/horizon"
)

// latestRewind is the latest rewind, which both ways to read it must agree on.
func latestRewind(t *testing.T, r Rewinds) horizon.Rewind {
	t.Helper()
	latest, err := r.Latest(t.Context())
	require.NoError(t, err)
	_, same, err := r.Highest(t.Context())
	require.NoError(t, err)
	require.Equal(t, latest, same)
	return latest
}

// checkRewinds takes one down and settles it; highest is the highest checkpoint.
func checkRewinds(t *testing.T, r Rewinds, highest int64) {
	t.Helper()
	position, latest, err := r.Highest(t.Context())
	require.NoError(t, err)
	require.Equal(t, highest, position)
	require.Zero(t, latest)
	require.NoError(t, r.Rewound(t.Context(), 1, highest-1))
	require.Equal(t, horizon.Rewind{Number: 1, Low: highest - 1}, latestRewind(t, r))
	require.NoError(t, r.Settle(t.Context(), latestRewind(t, r)))
	require.Equal(t, horizon.Rewind{Number: 1, Low: highest - 1, Settled: true}, latestRewind(t, r))
}

func TestRewindsAreTakenDownOnce(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	pieces := o.cut(t, 3, 8)
	r := open(t, o.pool, "another").Rewinds(o.pool)
	require.NoError(t, r.Rewound(t.Context(), 1, 8))
	require.Zero(t, latestRewind(t, r), "no checkpoint is above")

	require.NoError(t, r.Rewound(t.Context(), 1, 6))
	require.NoError(t, r.Rewound(t.Context(), 1, 5), "another saw it lower")
	require.NoError(t, r.Rewound(t.Context(), 1, 7))
	assert.Equal(t, horizon.Rewind{Number: 1, Low: 5}, latestRewind(t, r))
	assert.Equal(t, int64(8), value[int64](t, o.pool, `SELECT checkpoint FROM orchestrator_rewinds WHERE events_table = 'public.events'`))

	require.NoError(t, r.Settle(t.Context(), horizon.Rewind{Number: 1, Low: 6}))
	assert.Equal(t, horizon.Rewind{Number: 1, Low: 5}, latestRewind(t, r), "who settles it does not know how low the sequence stood")
	require.NoError(t, r.Settle(t.Context(), horizon.Rewind{Number: 1, Low: 5}))
	settled := horizon.Rewind{Number: 1, Low: 5, Settled: true}
	assert.Equal(t, settled, latestRewind(t, r))

	o.advance(t, pieces, 20)
	require.NoError(t, r.Rewound(t.Context(), 1, 4))
	assert.Equal(t, settled, latestRewind(t, r), "it is late: the checkpoint is where it should be")
	require.NoError(t, r.Rewound(t.Context(), 2, 4))
	assert.Equal(t, horizon.Rewind{Number: 2, Low: 4}, latestRewind(t, r))
	assert.Zero(t, latestRewind(t, func() Rewinds {
		exec(t, o.pool, `CREATE TABLE archive ()`)
		s, err := Open(t.Context(), o.pool, "", "main", []string{"archive"})
		require.NoError(t, err)
		return s.Rewinds(o.pool)
	}()), "of another events table")
}
