package projection

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
)

// This file calls the handlers of the manual runner, on one goroutine per batch. If a handler does not return after its
// context has ended, the runner abandons it.

const (
	// handlerGrace is how long a handler may go on after its context has ended.
	handlerGrace = 10 * time.Second
	// hangAfter is how long a handler may run before it is logged, and how often it is logged after that.
	hangAfter = 10 * time.Second
	// lastWait is how long a handler has to return after its connection was closed. farewell bounds the attempt to end
	// its backend, which may need another connection.
	lastWait, farewell = 50 * time.Millisecond, 2 * time.Second
)

// sqlEndBackend ends the backend of a transaction, unless it works for somebody else by now. Roles may end their own backends.
const sqlEndBackend = `
SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pid = $1 AND application_name = $2`

// call is one call of the handlers, for the events of a batch. It runs on a goroutine of its own, which may outlive Run.
type call struct {
	events  []es.PersistedEvent
	at      atomic.Int64 // the event that is being handled
	began   time.Time
	done    chan struct{} // closed when the handlers have returned
	handled int
	err     error
}

// call runs the handlers. If they have not returned within the grace period after ctx has ended, it returns an error
// that wraps ErrHandlerRunning. Their work is then rolled back, and they keep the connection.
func (r *runner) call(ctx context.Context, conn *pgxpool.Conn, tx pgx.Tx, events []es.PersistedEvent) (handled int, err error) {
	c := &call{events: events, began: time.Now(), done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.handled, c.err = handling.HandleWithin(ctx, r.policy.Timeout, r.projection, batchtx.Guard(tx), handling.List(events), func(i int) bool {
			c.at.Store(int64(i))
			return true
		})
	}()
	if r.returns(ctx, c) {
		return c.handled, c.err
	}
	own := conn.Hijack()
	end, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	_, _ = r.db.Exec(end, sqlEndBackend, int64(own.PgConn().PID()), r.application) // else a statement would go on, with its locks
	batchtx.CloseSocket(own)
	go func() {
		<-c.done
		batchtx.Close(own)
	}()
	select {
	case <-c.done:
	case <-time.After(lastWait):
	}
	event := c.event()
	return 0, fmt.Errorf("%w: position %d, event %s of type %q, running for %s: give its own calls a timeout",
		ErrHandlerRunning, event.GlobalPosition, event.EventID, event.EventType, time.Since(c.began).Round(time.Millisecond))
}

// event returns the event that is being handled.
func (c *call) event() es.PersistedEvent {
	if len(c.events) == 0 {
		return es.PersistedEvent{}
	}
	return c.events[c.at.Load()]
}

// returns waits for the handlers. It returns false if they have not returned within the grace period after ctx has
// ended.
func (r *runner) returns(ctx context.Context, c *call) bool {
	slow := time.NewTicker(hangAfter)
	defer slow.Stop()
	var grace <-chan time.Time
	ended := ctx.Done()
	for {
		select {
		case <-c.done:
			return true
		case <-ended:
			timer := time.NewTimer(r.grace)
			defer timer.Stop()
			grace, ended = timer.C, nil
		case <-grace:
			return false
		case <-slow.C:
			event := c.event()
			r.log.WarnContext(ctx, "a handler does not return", "event_id", event.EventID, "event_type", event.EventType,
				"position", event.GlobalPosition, "running_for", time.Since(c.began))
		}
	}
}
