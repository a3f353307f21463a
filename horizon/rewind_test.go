package horizon

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// When appends have brought the sequence past the checkpoint again, nothing in the database shows any more that the checkpoint
// speaks of other events than those that are there.
func TestProbeRewoundAndGrownAgain(t *testing.T) {
	rewound := func(t *testing.T, p *Prober) RewoundError {
		t.Helper()
		_, err := p.Probe(t.Context())
		var rewound *RewoundError
		require.ErrorAs(t, err, &rewound)
		assert.ErrorContains(t, err, fmt.Sprint(rewound.LastValue))
		assert.ErrorContains(t, err, fmt.Sprint(rewound.Reached))
		return *rewound
	}
	setval := `SELECT setval('events_global_position_seq', `
	start := func(t *testing.T, reached int64) (*pgxpool.Pool, *Prober, *checkpoint) {
		t.Helper()
		pool := newEvents(t)
		p, floor := newProber(t, pool, 0)
		for range 5 {
			insert(t, pool)
		}
		probe(t, p)
		floor.at.Store(reached)
		return pool, p, floor
	}
	t.Run("by events that would be skipped", func(t *testing.T) {
		pool, p, floor := start(t, 5)
		exec(t, pool, `DELETE FROM events WHERE global_position > 2`)
		exec(t, pool, setval+`2)`)
		assert.Equal(t, RewoundError{Reached: 5, LastValue: 2}, rewound(t, p))
		insert(t, pool)
		assert.Equal(t, RewoundError{Reached: 5, LastValue: 2, Floor: true}, rewound(t, p))
		for range 5 {
			insert(t, pool)
		}
		for range 2 {
			assert.Equal(t, RewoundError{Reached: 5, LastValue: 2, Floor: true, Reused: 3}, rewound(t, p))
		}
		floor.at.Store(2)
		assert.Equal(t, int64(8), probe(t, p).Position, "the checkpoints were set back")
		floor.at.Store(8)
		assert.Equal(t, int64(8), probe(t, p).Position)
	})
	t.Run("before the second probe", func(t *testing.T) {
		pool, p, _ := start(t, 4)
		exec(t, pool, `DELETE FROM events WHERE global_position > 2`)
		exec(t, pool, setval+`2)`)
		assert.Equal(t, RewoundError{Reached: 5, LastValue: 2}, rewound(t, p), "no checkpoint is known to be ahead")
		for range 4 {
			insert(t, pool)
		}
		assert.Equal(t, RewoundError{Reached: 4, LastValue: 2, Floor: true, Reused: 2}, rewound(t, p))
	})
	t.Run("by a person, before anything was appended", func(t *testing.T) {
		pool, p, _ := start(t, 5)
		exec(t, pool, `DELETE FROM events WHERE global_position > 2`)
		exec(t, pool, setval+`2)`)
		rewound(t, p)
		rewound(t, p)
		exec(t, pool, setval+`5)`)
		assert.Equal(t, int64(5), probe(t, p).Position)
		insert(t, pool)
		assert.Equal(t, int64(6), probe(t, p).Position)
	})
	t.Run("by a person, while somebody appends", func(t *testing.T) {
		pool, p, _ := start(t, 5)
		exec(t, pool, `DELETE FROM events WHERE global_position > 2`)
		exec(t, pool, setval+`2)`)
		rewound(t, p)
		rewound(t, p)
		late := begin(t, dial(t, pool))
		assert.Equal(t, int64(3), insert(t, late))
		exec(t, pool, setval+`5)`)
		for range 2 {
			assert.Equal(t, int64(2), probe(t, p).Position, "its event may still appear")
		}
		require.NoError(t, late.Commit(t.Context()))
		assert.Equal(t, RewoundError{Reached: 5, LastValue: 2, Floor: true, Reused: 1}, rewound(t, p))
		exec(t, pool, `DELETE FROM events WHERE global_position = 3`)
		assert.Equal(t, int64(5), probe(t, p).Position)
	})
	t.Run("further back", func(t *testing.T) {
		pool, p, floor := start(t, 5)
		exec(t, pool, `DELETE FROM events WHERE global_position > 1`)
		exec(t, pool, setval+`3)`)
		rewound(t, p)
		assert.Equal(t, int64(3), rewound(t, p).LastValue)
		exec(t, pool, setval+`1)`)
		assert.Equal(t, RewoundError{Reached: 5, LastValue: 1, Floor: true}, rewound(t, p))
		floor.at.Store(3)
		assert.Equal(t, RewoundError{Reached: 3, LastValue: 1, Floor: true}, rewound(t, p))
		floor.at.Store(1)
		assert.Equal(t, int64(1), probe(t, p).Position)
	})
}
