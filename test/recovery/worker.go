package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// freezeInBatch makes a worker's process stop itself, as SIGSTOP does, in the next batch that it handles.
const freezeInBatch = syscall.SIGUSR1

// runWorker is the worker's process.
func runWorker(ctx context.Context, spec workload.WorkerSpec, log *slog.Logger) error {
	poolSize := spec.PoolSize
	if poolSize == 0 {
		poolSize = 8
	}
	pool, err := spec.Target.Pool(ctx, poolSize)
	if err != nil {
		return err
	}
	defer pool.Close()
	orch, err := orchestrator.New(pool, eventstore.New(eventstore.WithLogger(log)), spec.ReplicaSet, spec.Options(log)...)
	if err != nil {
		return err
	}
	p := &probe{spec: spec.Projections[0], worker: spec.Name}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, freezeInBatch)
	go func() {
		for range asked {
			p.freeze.Store(true)
		}
	}()
	p.ranAt = time.Now()
	err = orch.Run(ctx, []projection.Projection{p})
	returned := time.Now()
	if err != nil {
		return fmt.Errorf("running worker %s: %w", spec.Name, err)
	}
	_, err = pool.Exec(context.WithoutCancel(ctx), "INSERT INTO recovery_returns (worker, returned_at) VALUES ($1, $2)", spec.Name, returned)
	if err != nil {
		return fmt.Errorf("recording that worker %s returned: %w", spec.Name, err)
	}
	return nil
}

// probe is the workers' projection. It enters each batch into a table within the batch's transaction, with one statement.
type probe struct {
	spec   workload.ProjectionSpec
	worker string
	ranAt  time.Time // when Run was called
	freeze atomic.Bool
}

var (
	_ projection.BatchProjection = (*probe)(nil)
	_ projection.AggregateScoped = (*probe)(nil)
)

// Name is the projection's name.
func (p *probe) Name() string { return p.spec.Name }

// AggregateTypes are the wanted types.
func (p *probe) AggregateTypes() []string { return p.spec.AggregateTypes }

// Handle enters a batch of one event.
func (p *probe) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	return p.HandleBatch(ctx, tx, []es.PersistedEvent{event})
}

// The generation is what the checkpoint says within this transaction, in which the orchestrator holds the checkpoint's lock.
const sqlEnterBatch = `
INSERT INTO recovery_batches (projection, worker, ran_at, generation, buckets, positions)
SELECT $1, $2, $3, c.generation, $4, $5 FROM orchestrator_checkpoints AS c
WHERE c.projection = $1 AND c.slot_from <= hashtextextended($6, 0) & 65535 AND hashtextextended($6, 0) & 65535 < c.slot_to`

// HandleBatch enters the batch, then stops the process if it was asked to: the transaction is open and has row locks.
func (p *probe) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	var buckets uint64
	positions := make([]int64, len(events))
	for i := range events {
		positions[i] = events[i].GlobalPosition
		buckets |= 1 << bucketOf(events[i].AggregateID)
	}
	tag, err := tx.Exec(ctx, sqlEnterBatch, p.spec.Name, p.worker, p.ranAt, int64(buckets), positions, events[0].AggregateID)
	if err != nil {
		return fmt.Errorf("entering %d events from position %d: %w", len(events), positions[0], err)
	}
	if tag.RowsAffected() != 1 {
		return fmt.Errorf("the events from position %d are under %d checkpoints", positions[0], tag.RowsAffected())
	}
	if p.freeze.CompareAndSwap(true, false) {
		return syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	}
	return nil
}

// aggregateID is the id of an aggregate in a bucket: bucketOf reads it.
func aggregateID(bucket, number int) string { return strconv.Itoa(bucket) + "." + strconv.Itoa(number) }

// bucketOf is the bucket that the aggregate's slot is in, as its id says.
func bucketOf(aggregateID string) int {
	bucket, _, _ := strings.Cut(aggregateID, ".")
	n, err := strconv.Atoi(bucket)
	if err != nil {
		return 0
	}
	return n
}
