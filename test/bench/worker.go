package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace/noop"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

const (
	// replicaSet is the workers'.
	replicaSet = "bench"
	// poolSize is how many connections a worker's pool may have.
	poolSize = 12
)

// runWorker runs a worker, or as many as the job says, until ctx ends.
func runWorker(ctx context.Context, j job, p *progress) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	shared, err := poolOfAll(ctx, j, p)
	if err != nil {
		return err
	}
	if shared != nil {
		defer shared.Close()
	}
	failures := make([]error, max(1, j.Workers))
	var running sync.WaitGroup
	for i := range failures {
		running.Go(func() {
			if failures[i] = runOne(ctx, j, p, shared); failures[i] != nil {
				cancel()
			}
		})
	}
	running.Wait()
	return errors.Join(failures...)
}

// poolOfAll is the pool that all workers share; nil if each has its own.
func poolOfAll(ctx context.Context, j job, p *progress) (*pgxpool.Pool, error) {
	if j.Shared == 0 {
		return nil, nil
	}
	return workersPool(ctx, j, p, j.Shared)
}

// workersPool makes a pool for workers.
func workersPool(ctx context.Context, j job, p *progress, size int) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(j.DSN)
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(size)
	config.ConnConfig.Tracer = firstRead{p}
	return pgxpool.NewWithConfig(ctx, config)
}

// runOne runs a worker until ctx ends, with a pool of its own if none is shared.
func runOne(ctx context.Context, j job, p *progress, pool *pgxpool.Pool) (err error) {
	if pool == nil {
		if pool, err = workersPool(ctx, j, p, poolSize); err != nil {
			return err
		}
		defer pool.Close()
	}
	log := logger()
	if j.Quiet {
		log = slog.New(slog.DiscardHandler)
	}
	options := []orchestrator.Option{orchestrator.WithLogger(log), orchestrator.WithWorkerName(j.Name)}
	if j.Partitions > 0 {
		options = append(options, orchestrator.WithPartitionsPerWorker(j.Partitions))
	}
	if j.NoMetrics {
		options = append(options, orchestrator.WithMetricsEnabled(false))
	}
	if j.Traced {
		options = append(options, orchestrator.WithTracerProvider(noop.NewTracerProvider()))
	}
	orch, err := orchestrator.New(pool, eventstore.New(eventstore.WithLogger(log)), replicaSet, options...)
	if err != nil {
		return err
	}
	return orch.Run(ctx, projectionsOf(j, p))
}

// projectionsOf makes a job's projections.
func projectionsOf(j job, p *progress) []projection.Projection {
	var all []projection.Projection
	for i := range j.Projections {
		c := counting{name: fmt.Sprintf("%s-%d", j.Handler, i+1), counter: &counter{}}
		if !j.OnlyLast || i == j.Projections-1 {
			c.counter = p.counter(j.Want)
		}
		all = append(all, handlers[j.Handler](c, j, p))
	}
	return all
}

// firstRead notes when the events table is read for the first time, or the scope index looked for.
type firstRead struct{ progress *progress }

// TraceQueryStart sees each query before it is sent.
func (f firstRead) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	// Statements that look the table up name its columns too.
	if strings.Contains(data.SQL, "event_version") || strings.Contains(data.SQL, "indkey") && strings.Contains(data.SQL, "aggregate_type") {
		f.progress.begin()
	}
	return ctx
}

// TraceQueryEnd sees each query's end.
func (f firstRead) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
