package actors

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// absent is an error type whose nil pointer cannot say what it is.
type absent struct{ text string }

// Error needs a receiver.
func (a *absent) Error() string { return a.text }

// hiddenFailures fail an event in ways that look like a failure of the database,
// or of the processor.
var hiddenFailures = map[string]func(ctx context.Context, tx pgx.Tx) error{
	"a statement runs out of the handler's own time": func(ctx context.Context, tx pgx.Tx) error {
		own, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		_, err := tx.Exec(own, `SELECT pg_sleep(60)`)
		return err
	},
	"a constraint is checked at COMMIT": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO lines VALUES (404)`)
		return err
	},
	"it breaks its connection every time": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
		return err
	},
	"it lets the transaction idle for too long": func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL idle_in_transaction_session_timeout = '10ms'`); err != nil {
			return err
		}
		<-time.After(100 * time.Millisecond) // the server ends the transaction meanwhile
		return nil
	},
	"its error is a nil pointer": func(context.Context, pgx.Tx) error {
		var none *absent
		return none
	},
}

// TestHiddenFailuresAreBlamedOnTheEvent: what came before is committed, the event
// is recorded, and the rest goes on once it goes through.
func TestHiddenFailuresAreBlamedOnTheEvent(t *testing.T) {
	t.Parallel()
	for name, fail := range hiddenFailures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.exec(`CREATE TABLE orders (id int PRIMARY KEY)`)
			f.exec(`CREATE TABLE lines (id int REFERENCES orders DEFERRABLE INITIALLY DEFERRED)`)
			want := f.append("Order", 10)
			var repaired atomic.Bool
			f.start(nil, &recorder{name: "p", before: func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent, _ int) error {
				if e.GlobalPosition == want[4] && !repaired.Load() {
					return fail(ctx, tx)
				}
				return nil
			}})
			eventually(t, func() bool {
				return query[int](f, `SELECT count(*) FROM orchestrator_dead_letters WHERE global_position = $1 AND state = 'retrying'`, want[4]) == 1
			}, "the event is not recorded as failed")
			f.awaitHandled("p", want[:4])
			assert.Equal(t, 1, query[int](f, `SELECT count(*) FROM orchestrator_dead_letters`), "other events are blamed")
			repaired.Store(true)
			f.awaitHandled("p", want)
		})
	}
}
