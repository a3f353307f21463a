package eventread

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/eventtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestEveryQueryExecModeReadsTheSame(t *testing.T) {
	t.Parallel()
	for _, mode := range pgtest.ExecModes() {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			pool := pgtest.PoolInMode(t, pgtest.NewDatabase(t).Config(), mode)
			require.NoError(t, eventstore.RunMigrations(pool, eventstore.WithLogger(nil)))
			s := quiet()
			result := mustAppend(t, s, pool, es.NoStream(), eventtest.Awkward()...)
			first := result.Events[0]
			read := parts(t, s, pool, Query{
				Pieces: []slot.Piece{
					{Range: slot.Range{From: 0, To: slot.Count - 1}},
					{Range: slot.Range{From: slot.Count - 1, To: slot.Count}, Position: 1 << 40},
				},
				UpTo: 100, Limit: 10, WithSlots: true,
				AggregateTypes:  []string{"other", first.AggregateType},
				BoundedContexts: []string{first.BoundedContext},
			}, 2)
			require.Len(t, read, 2)
			assert.Equal(t, result.Events, append(read[0].Events.All(), read[1].Events.All()...))
			assert.Equal(t, int64(100), read[1].UpTo)
			var at int
			require.NoError(t, pool.QueryRow(t.Context(), "SELECT (hashtextextended($1, 0) & 65535)::int", first.AggregateID).Scan(&at))
			assert.Equal(t, at, read[1].Events.Slot(0))
		})
	}
}
