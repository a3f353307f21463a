package dbguard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrNoAnswer says that the server did not answer in time: the connection may be dead without a sign, as it is after a failover, or
// where a NAT forgot it. The connection was closed.
var ErrNoAnswer = errors.New("the server did not answer")

const (
	defaultPatience = 5 * time.Second
	// longestPatience bounds how long a statement may take at last on a server that is slow rather than gone.
	longestPatience = 2 * time.Minute
	// patienceKept is after how long without a late answer the patience is the shortest again.
	patienceKept = 10 * time.Minute
	// pingTimeout is how long a connection that rests has to answer when it is suspect.
	pingTimeout = time.Second
)

// watch is what a Pool knows of its connections. It is safe for concurrent use.
type watch struct {
	pool     *pgxpool.Pool
	shortest time.Duration
	checking atomic.Bool

	mu      sync.Mutex
	longer  time.Duration // the patience since the last late answer
	noticed time.Time     // when that was
}

// watchKey is under which a connection has the watch of the Pool that acquired it.
const watchKey = "github.com/getpup/pupsourcing-orchestrator/dbguard"

// mark makes the connection known as one of this Pool's.
func (w *watch) mark(conn *pgxpool.Conn) { conn.Conn().PgConn().CustomData()[watchKey] = w }

// watchOf is the watch of the Pool that acquired the connection; nil if none did.
func watchOf(conn *pgxpool.Conn) *watch {
	w, _ := conn.Conn().PgConn().CustomData()[watchKey].(*watch)
	return w
}

// patience is how long the next statement may take.
func (w *watch) patience() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.noticed) > patienceKept {
		w.longer = 0
	}
	return max(w.shortest, w.longer)
}

// late notes that an answer was late. The next statement may take twice as long: the server may be slow, and a statement that
// needs longer must not fail forever. Those that were late together count once.
func (w *watch) late() {
	w.mu.Lock()
	defer w.mu.Unlock()
	current := max(w.shortest, w.longer)
	if !w.noticed.IsZero() && time.Since(w.noticed) < current {
		return
	}
	w.longer, w.noticed = min(2*current, max(longestPatience, w.shortest)), time.Now()
}

// found notes that connections had died, so the server is not slow.
func (w *watch) found() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.longer = 0
}

// Suspect tries the connections that rest in the pool, in the background, and closes those that do not answer within a second.
// The others are not affected. Where one connection has died without a sign, those opened before mostly have too.
func (p Pool) Suspect() { p.watch.suspect() }

func (w *watch) suspect() {
	if !w.checking.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer w.checking.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
		defer cancel()
		var pings sync.WaitGroup
		for _, conn := range w.pool.AcquireAllIdle(ctx) {
			pings.Go(func() {
				if conn.Ping(ctx) != nil {
					w.mark(conn)
					drop(conn)
					w.found()
					return
				}
				conn.Release()
			})
		}
		pings.Wait()
	}()
}

// timer ends a query that waits for the server for too long. It costs some nanoseconds a row.
type timer struct {
	watch    *watch
	patience time.Duration
	cancel   context.CancelFunc
	late     atomic.Bool
	steps    atomic.Int64 // odd while the query waits for the server
	ticker   *time.Timer
	seen     int64 // steps at the last tick; only the ticks', one after the other
	ticks    int   // in a row that saw it
}

// ticksPerPatience is how often it is looked whether the query has come on. It ends at the first tick after its patience.
const ticksPerPatience = 4

// time begins to time a query, which waits from now on.
func (w *watch) time(ctx context.Context) (context.Context, *timer) {
	t := &timer{watch: w, patience: w.patience()}
	ctx, t.cancel = context.WithCancel(ctx)
	t.steps.Store(1)
	tick := t.patience / ticksPerPatience
	ready := make(chan struct{})
	t.ticker = time.AfterFunc(tick, func() {
		<-ready
		if t.tick() {
			t.ticker.Reset(tick)
		}
	})
	close(ready)
	return ctx, t
}

// tick says whether to go on.
func (t *timer) tick() bool {
	steps := t.steps.Load()
	switch {
	case steps < 0:
		return false
	case steps%2 == 0 || steps != t.seen:
		t.seen, t.ticks = steps, 1
		return true
	}
	if t.ticks++; t.ticks <= ticksPerPatience {
		return true
	}
	t.late.Store(true)
	t.watch.late()
	t.cancel()
	return false
}

// waits and answered frame what waits for the server.
func (t *timer) waits()    { t.steps.Add(1) }
func (t *timer) answered() { t.steps.Add(1) }

// stop ends the timing.
func (t *timer) stop() {
	t.steps.Store(stopped)
	t.ticker.Stop()
	t.cancel()
}

// stopped is a number of steps that no query comes back from.
const stopped = -1 << 62

// explain says of the query's error that it came of the timing, if it did.
func (t *timer) explain(err error) error {
	if err == nil || !t.late.Load() || errors.Is(err, ErrNoAnswer) {
		return err
	}
	return fmt.Errorf("%w within %s: %w", ErrNoAnswer, t.patience, err)
}
