package actors

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// replacements end the batch's transaction and begin another, so that the connection looks as it did.
var replacements = map[string][]string{
	"ROLLBACK and BEGIN":                        {"ROLLBACK", "BEGIN"},
	"in one string":                             {"ROLLBACK; BEGIN"},
	"ROLLBACK AND CHAIN":                        {"ROLLBACK AND CHAIN"},
	"COMMIT AND CHAIN":                          {"COMMIT AND CHAIN"},
	"COMMIT and BEGIN":                          {"COMMIT", "START TRANSACTION"},
	"under another application_name":            {"SET LOCAL application_name = 'mine'", "ROLLBACK", "BEGIN", "SET LOCAL application_name = 'mine'"},
	"with the settings of before":               {"ROLLBACK", "BEGIN", "SAVEPOINT s", "ROLLBACK TO SAVEPOINT s", "RELEASE s"},
	"under the batch's own application_name":    {"SELECT set_config('application_name', current_setting('application_name'), false)", "COMMIT", "BEGIN"},
	"ROLLBACK and BEGIN, and a lock of its own": {"ROLLBACK", "BEGIN", "SELECT FROM orchestrator_checkpoints FOR UPDATE"},
}

// send sends each string by itself, by the simple protocol.
func send(ctx context.Context, tx pgx.Tx, strings []string) error {
	for _, sql := range strings {
		if _, err := tx.Conn().PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			return err
		}
	}
	return nil
}

// TestAHandlerThatReplacesTheTransactionLosesNoEvent: the event is found, nothing that came before it is lost, and it is handled once it
// does so no more.
func TestAHandlerThatReplacesTheTransactionLosesNoEvent(t *testing.T) {
	t.Parallel()
	for name, replacement := range replacements {
		for _, whole := range []bool{false, true} {
			t.Run(map[bool]string{false: "Handle ", true: "HandleBatch "}[whole]+name, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				want := f.append("Order", 10)
				var repaired atomic.Bool
				before := func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent, _ int) error {
					if e.GlobalPosition == want[4] && !repaired.Load() {
						return send(ctx, tx, replacement)
					}
					return nil
				}
				r := f.start(nil, map[bool]projection.Projection{
					false: &recorder{name: "p", before: before}, true: &batchRecorder{recorder: recorder{name: "p", before: before}},
				}[whole])
				eventually(t, func() bool {
					return query[int](f, `SELECT count(*) FROM orchestrator_dead_letters WHERE global_position = $1 AND state = 'retrying'`, want[4]) == 1
				}, "the event is not recorded as failed")
				assert.Contains(t, r.log.Await(t, "a handler failed").Attrs["error"], "a handler ended it by SQL and began another")
				eventually(t, func() bool { return f.checkpoint("p") == want[3] }, "what came before the event is not committed")
				assert.Equal(t, 1, query[int](f, `SELECT count(*) FROM orchestrator_dead_letters`), "other events are blamed")
				repaired.Store(true)
				eventually(t, func() bool { return f.checkpoint("p") == want[9] }, "it does not go on")
				handled := f.handled("p") // what a COMMIT of the handler's has committed is handled twice
				slices.Sort(handled)
				assert.Equal(t, want, slices.Compact(handled))
			})
		}
	}
}

func TestSavepointsOfAHandlerReplaceNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 10)
	f.start(nil, &recorder{name: "p", before: func(ctx context.Context, tx pgx.Tx, _ es.PersistedEvent, _ int) error {
		return send(ctx, tx, []string{
			"SAVEPOINT s", "SET LOCAL application_name = 'mine'", "ROLLBACK TO SAVEPOINT s", "SET LOCAL application_name = 'other'", "RELEASE s", "RESET ALL",
		})
	}})
	f.awaitHandled("p", want)
	assert.Zero(t, query[int](f, `SELECT count(*) FROM orchestrator_dead_letters`))
}
