package eventstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// heldUpReport is how long a change of an index waits before the log first says for whom. After that it says so every installReport.
	heldUpReport = 2 * time.Second
	// heldUpLook bounds a look at who holds it up.
	heldUpLook = 2 * time.Second
)

// holdersSQL names the sessions that the backend $1 waits for. The pid of a prepared transaction is 0.
const holdersSQL = `
SELECT CASE b.pid WHEN 0 THEN 'a prepared transaction' ELSE 'pid ' || b.pid || coalesce(' (' || nullif(a.application_name, '') || ')', '') END
FROM (SELECT DISTINCT pg_catalog.unnest(pg_catalog.pg_blocking_pids($1)) AS pid) AS b LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = b.pid
ORDER BY b.pid`

// namingHolders runs do, which uses the backend pid. While that waits for other sessions, the log says for which; if it is ended because ctx
// ends, the error says so.
//
// Only a second connection can ask, and it must ask before the wait ends. So the context of do ends a moment after ctx.
func (s *Store) namingHolders(ctx context.Context, db Execer, pid uint32, do func(context.Context) error) error {
	late := lateContext{Context: ctx, done: make(chan struct{})}
	over, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var holders []string
	var watch sync.WaitGroup
	watch.Go(func() {
		holders = s.watchHolders(ctx, over, db, pid)
		if ctx.Err() != nil {
			close(late.done)
		} // otherwise do has returned, and nothing waits for it
	})
	err := do(late)
	stop()
	watch.Wait()
	if err != nil && len(holders) > 0 {
		return fmt.Errorf("%w; it waited for %s to end its transaction", err, strings.Join(holders, " and "))
	}
	return err
}

// watchHolders logs who holds the backend up until over ends, or ctx does: then it returns them.
func (s *Store) watchHolders(ctx, over context.Context, db Execer, pid uint32) []string {
	for wait := heldUpReport; ; wait = installReport {
		select {
		case <-over.Done():
			return nil
		case <-ctx.Done():
			return holdersOf(over, db, pid)
		case <-time.After(wait):
		}
		if holders := holdersOf(over, db, pid); len(holders) > 0 {
			s.log.WarnContext(ctx, "a change of an index of the events table waits for other sessions to end their transactions",
				"events_table", s.EventsTable().Sanitize(), "sessions", strings.Join(holders, ", "))
		}
	}
}

// holdersOf is who holds the backend up, as far as it can be found out.
func holdersOf(ctx context.Context, db Execer, pid uint32) (holders []string) {
	ctx, cancel := context.WithTimeout(ctx, heldUpLook)
	defer cancel()
	cfg, err := configOf(ctx, db)
	if err != nil {
		return nil
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, holdersSQL, pgx.QueryExecModeExec, int64(pid))
	if err != nil {
		return nil
	}
	holders, _ = pgx.CollectRows(rows, pgx.RowTo[string])
	return holders
}

// lateContext ends when done is closed, with the error that the context within has then.
type lateContext struct {
	context.Context
	done chan struct{}
}

// Deadline is none: it is not known when done is closed.
func (c lateContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done is closed when the context ends.
func (c lateContext) Done() <-chan struct{} { return c.done }

// Err is that of the context within, once this one has ended.
func (c lateContext) Err() error {
	select {
	case <-c.done:
		return c.Context.Err()
	default:
		return nil
	}
}
