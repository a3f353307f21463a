package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// bench is the server with its databases, and what has been measured. Only the goroutine of main uses it.
type bench struct {
	env     settings
	report  report
	cluster *pgtest.Cluster
	full    *database // with all events; nil before it is needed
	live    *database // with few
	large   *database // with large payloads
}

// aggregates is how many the events are of.
const aggregates = 10_000

// newBench starts the server. The caller closes it, also after an error.
func newBench(ctx context.Context, env settings) (*bench, error) {
	b := &bench{env: env}
	var err error
	b.cluster, err = pgtest.Start(ctx, pgtest.Options{Durable: true, Settings: map[string]string{
		"shared_preload_libraries": "pg_stat_statements", "shared_buffers": "1GB", "max_wal_size": "8GB", "max_connections": "500",
		"autovacuum": "off", // the tables are vacuumed when they are filled
	}})
	if err != nil {
		return b, fmt.Errorf("starting a PostgreSQL server: %w", err)
	}
	if env.profile != "" {
		if b.env.profile, err = filepath.Abs(env.profile); err != nil {
			return b, err
		}
		if err := os.MkdirAll(b.env.profile, 0o750); err != nil {
			return b, err
		}
	}
	first, err := newDatabase(ctx, b.cluster, "first")
	if err != nil {
		return b, err
	}
	defer first.pool.Close()
	return b, first.exec(ctx, "CREATE ROLE "+workerRole+" SUPERUSER LOGIN")
}

// close ends the server.
func (b *bench) close() error {
	for _, d := range []*database{b.full, b.live, b.large} {
		if d != nil && d.pool != nil {
			d.pool.Close()
		}
	}
	if b.cluster == nil {
		return nil
	}
	return b.cluster.Close()
}

// filled is the database with all events.
func (b *bench) filled(ctx context.Context) (*database, error) {
	return b.database(ctx, &b.full, "filled", b.env.events, aggregates, sqlPayload)
}

// quiet is a database with few events.
func (b *bench) quiet(ctx context.Context) (*database, error) {
	return b.database(ctx, &b.live, "quiet", 1000, 100, sqlPayload)
}

// heavy is a database with large payloads.
func (b *bench) heavy(ctx context.Context) (*database, error) {
	return b.database(ctx, &b.large, "heavy", b.heavyEvents(), 100, sqlLargePayload)
}

// heavyEvents is how many events with large payloads there are.
func (b *bench) heavyEvents() int { return max(50, b.env.events/4000) }

// database makes the database if it is not there yet.
func (b *bench) database(ctx context.Context, d **database, name string, events, aggregates int, payload string) (*database, error) {
	if *d != nil {
		return *d, nil
	}
	began := time.Now()
	created, err := newDatabase(ctx, b.cluster, name)
	if err != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	*d = created
	if err := created.fill(ctx, events, aggregates, payload); err != nil {
		return nil, err
	}
	b.tell("filled database %s with %d events in %s", name, events, time.Since(began).Round(time.Millisecond))
	return created, nil
}

// tell prints what goes on, if that was asked for.
func (b *bench) tell(format string, args ...any) {
	if b.env.verbose {
		fmt.Fprintf(os.Stderr, "%s %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
	}
}

// profileOf is where the profiles of a figure's process go.
func (b *bench) profileOf(figure string) string {
	if b.env.profile == "" {
		return ""
	}
	return filepath.Join(b.env.profile, strings.ReplaceAll(figure, "/", "-"))
}

// part is some of the events: one in divisor, at least a few pages, at most all.
func (b *bench) part(divisor int) int64 {
	return int64(min(b.env.events, max(3*pageSize, b.env.events/divisor)))
}

// freshRun empties the coordination tables and runs a job in the database to its end.
func (b *bench) freshRun(ctx context.Context, d *database, figure string, j job) (outcome, error) {
	if err := d.fresh(ctx); err != nil {
		return outcome{}, err
	}
	return b.runOn(ctx, d, figure, j)
}

// runOn runs a job on the database as it is.
func (b *bench) runOn(ctx context.Context, d *database, figure string, j job) (outcome, error) {
	j.DSN, j.Profile = d.dsn, b.profileOf(figure)
	o, err := run(ctx, j)
	if err != nil {
		return o, fmt.Errorf("measuring %s: %w", figure, err)
	}
	b.tell("%s: %d events in %.3f s: %.0f/s, processor %.3f s, peak %d MiB", figure, o.Events, o.seconds(), o.rate(), o.CPU.Seconds(), o.Peak>>20)
	return o, nil
}

// raw runs the raw reader.
func (b *bench) raw(ctx context.Context, d *database) (outcome, error) {
	return b.freshRun(ctx, d, "raw", job{Kind: "raw"})
}

// rounds calls fn for each round.
func (b *bench) rounds(fn func() error) error {
	for range b.env.rounds {
		if err := fn(); err != nil {
			return err
		}
	}
	return nil
}
