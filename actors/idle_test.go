package actors

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// TestAHandlerThatIsIdleForLongGetsMoreTime: it is not blamed for what bounds frozen workers.
func TestAHandlerThatIsIdleForLongGetsMoreTime(t *testing.T) {
	pgtest.SkipBehindPooler(t, "when a server ends a session, PgBouncer may close connections that the test itself uses")
	t.Parallel()
	for name, whole := range map[string]bool{"Handle": false, "HandleBatch": true} {
		for _, hides := range []bool{false, true} {
			t.Run(name+map[bool]string{false: "", true: " hides the error"}[hides], func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				want := f.append("Order", 3)
				before := func(ctx context.Context, tx pgx.Tx, _ es.PersistedEvent, _ int) error {
					<-time.After(300 * time.Millisecond) // longer than the server waits
					if _, err := tx.Exec(ctx, `SELECT 1`); err != nil && hides {
						return errors.New("it did not work")
					} else if err != nil {
						return err
					}
					return nil
				}
				r := f.start(func(c *Config) { c.Batch.Settings.IdleTimeout = 100 * time.Millisecond }, map[bool]projection.Projection{
					false: &recorder{name: "p", before: before}, true: &batchRecorder{recorder: recorder{name: "p", before: before}},
				}[whole])
				f.awaitHandled("p", want)
				assert.Equal(t, "400ms", r.log.Await(t, "a handler sent no statement for too long").Attrs["next_idle_timeout"])
				assert.Zero(t, r.count("handler_errors_total"))
				assert.Zero(t, query[int](f, `SELECT count(*) FROM orchestrator_dead_letters`))
			})
		}
	}
}

func TestIdleTimesGrow(t *testing.T) {
	t.Parallel()
	var times idleTimes
	times.raise("p", time.Minute)
	times.raise("p", time.Second)
	assert.Equal(t, time.Minute, times.of("p", time.Second))
	assert.Equal(t, time.Hour, times.of("p", time.Hour))
	assert.Equal(t, time.Second, times.of("q", time.Second))
}
