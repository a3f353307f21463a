package face

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// Somebody empties the events table and sets the checkpoints back. Positions are given to other events then. Letters of the earlier events are still there.
func TestALetterAtAPositionThatIsGivenAgain(t *testing.T) {
	directOnly(t)
	for _, earlier := range []string{"handled", "skipped", "parked"} {
		t.Run(earlier, func(t *testing.T) {
			w := newWorld(t)
			w.append("ada", 3)
			var broken atomic.Bool
			fail := func(_ context.Context, event es.PersistedEvent) error {
				if broken.Load() && event.GlobalPosition == 1 {
					return errBad
				}
				return nil
			}
			broken.Store(true)
			r := start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: fail})
			w.await("3", "SELECT letters FROM orchestrator_parked_aggregates")
			require.NoError(t, r.stop())

			w.exec("UPDATE orchestrator_dead_letters SET state = $1, handled_at = CASE $1 WHEN 'handled' THEN now() END, skipped_at = CASE $1 WHEN 'skipped' THEN now() END", earlier)
			w.exec("DELETE FROM orchestrator_parked_aggregates")
			w.exec("TRUNCATE events, aggregate_heads RESTART IDENTITY")
			w.exec("UPDATE orchestrator_checkpoints SET position = 0, revision = revision + 1")
			w.exec("DELETE FROM orchestrator_horizons")
			w.append("grace", 3)

			r = start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: fail})
			w.await("3", "SELECT letters FROM orchestrator_parked_aggregates WHERE aggregate_id = 'grace'")
			assert.Equal(t, "1 grace 1, 2 grace 0, 3 grace 0", w.value("SELECT d.global_position, d.aggregate_id, d.attempts FROM orchestrator_dead_letters d JOIN events e USING (global_position, event_id) ORDER BY 1"))
			broken.Store(false)
			result, err := w.admin("set").Retry(w.patiently(), admin.Filter{AggregateID: "grace"}, "")
			require.NoError(t, err)
			assert.EqualValues(t, 3, result.Events)
			assert.Equal(t, "3", w.value("SELECT count(*) FROM handled WHERE aggregate_id = 'grace'"))
			require.NoError(t, r.stop())
		})
	}
}
