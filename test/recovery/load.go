package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// loadOptions say how events are appended.
type loadOptions struct {
	// buckets is into how many equal ranges the slots are divided, a power of two of at most 64. A partition counts as handled
	// when an event of each of its buckets was.
	buckets int
	// every is the interval between two transactions; each appends one short event to every stride-th bucket, in turn.
	every  time.Duration
	stride int
}

// Loads are such that each partition gets an event of each transaction, which it does if it has as many whole buckets as the
// stride.
var (
	// steadyLoad is for up to 5 workers: 800 events a second.
	steadyLoad = loadOptions{buckets: 16, every: 10 * time.Millisecond, stride: 2}
	// wideLoad is for up to 12 workers: 533 events a second. More transactions would keep two cores busy with handling alone.
	wideLoad = loadOptions{buckets: 64, every: 30 * time.Millisecond, stride: 4}
	// restartLoad is for 8 workers: 533 events a second, and each bucket gets one of each transaction.
	restartLoad = loadOptions{buckets: 16, every: 30 * time.Millisecond, stride: 1}
)

// load appends events all the time, from one connection. While the database is away it tries again.
type load struct {
	options loadOptions
	dsn     string
	ids     [][]string // of each bucket
	prod    chan struct{}
	stop    chan struct{}
	once    sync.Once
	done    chan struct{}
	version int64 // of the last event: each aggregate's versions grow, with holes

	mu     sync.Mutex
	failed error // the last error
}

const (
	aggregatesPerBucket = 8
	aggregateType       = "probe"
	loadRetry           = 10 * time.Millisecond
)

// startLoad starts appending; Stop ends it.
func startLoad(ctx context.Context, dsn string, o loadOptions) (*load, error) {
	l := &load{options: o, dsn: dsn, prod: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("connecting the writer: %w", err)
	}
	if l.ids, err = findIDs(ctx, conn, o.buckets); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	if err := conn.QueryRow(ctx, "SELECT coalesce(max(aggregate_version), 0) FROM events").Scan(&l.version); err != nil {
		return nil, errors.Join(fmt.Errorf("reading where the writer goes on: %w", err), conn.Close(ctx))
	}
	go l.run(context.WithoutCancel(ctx), conn)
	return l, nil
}

// An id is used only if its slot is in the bucket that it names.
const sqlFindIDs = `
SELECT id FROM unnest($1::text[]) AS id
WHERE (hashtextextended(id, 0) & 65535) * $2 / 65536 = split_part(id, '.', 1)::integer`

// findIDs finds some aggregates for each bucket.
func findIDs(ctx context.Context, conn *pgx.Conn, buckets int) ([][]string, error) {
	ids := make([][]string, buckets)
	for first, missing := 0, true; missing; first += 1000 {
		var candidates []string
		for number := first; number < first+1000; number++ {
			for bucket := range buckets {
				candidates = append(candidates, aggregateID(bucket, number))
			}
		}
		rows, err := conn.Query(ctx, sqlFindIDs, candidates, buckets)
		if err != nil {
			return nil, fmt.Errorf("finding aggregates: %w", err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, fmt.Errorf("finding aggregates: %w", err)
		}
		for _, id := range found {
			if b := bucketOf(id); len(ids[b]) < aggregatesPerBucket {
				ids[b] = append(ids[b], id)
			}
		}
		missing = false
		for _, list := range ids {
			missing = missing || len(list) < aggregatesPerBucket
		}
	}
	return ids, nil
}

// run appends until it is to end.
func (l *load) run(ctx context.Context, conn *pgx.Conn) {
	defer close(l.done)
	ticks := time.NewTicker(l.options.every)
	defer ticks.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-l.stop:
			_ = conn.Close(ctx)
			return
		case <-ticks.C:
		case <-l.prod:
		}
		if err := l.append(ctx, conn, turn); err != nil {
			l.fail(err)
			_ = conn.Close(ctx)
			if conn = l.connect(ctx); conn == nil {
				return
			}
		}
	}
}

const sqlAppend = `
INSERT INTO events (bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type, payload)
SELECT 'recovery', $1, new.id, new.version, gen_random_uuid(), 'Probed', '\x00'
FROM unnest($2::text[], $3::bigint[]) AS new (id, version)`

const appendTimeout = 10 * time.Second

// append is one transaction.
func (l *load) append(ctx context.Context, conn *pgx.Conn, turn int) error {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	var ids []string
	var versions []int64
	for b := turn % l.options.stride; b < l.options.buckets; b += l.options.stride {
		l.version++
		ids = append(ids, l.ids[b][turn/l.options.stride%aggregatesPerBucket])
		versions = append(versions, l.version)
	}
	_, err := conn.Exec(ctx, sqlAppend, aggregateType, ids, versions)
	return err
}

// connect connects again, as often as it takes; nil if the load is to end.
func (l *load) connect(ctx context.Context) *pgx.Conn {
	for {
		select {
		case <-l.stop:
			return nil
		case <-time.After(loadRetry):
		}
		conn, err := pgx.Connect(ctx, l.dsn)
		if err == nil {
			return conn
		}
		l.fail(err)
	}
}

// now has the next transaction come at once.
func (l *load) now() {
	select {
	case l.prod <- struct{}{}:
	default:
	}
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = err
}

// Stop ends the load and returns the last error, if there was one.
func (l *load) Stop() error {
	l.once.Do(func() { close(l.stop) })
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}
