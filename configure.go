package orchestrator

import (
	"context"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/actors"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/lag"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/tracing"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// configure returns what the worker's actors need.
func (o *Orchestrator) configure(id uuid.UUID, checked stores, d described, recorder *measure.ReplicaSet) actors.Config {
	hostname, _ := os.Hostname()
	log := o.config.logger.With("replica_set", o.replicaSet, "worker", id.String(), "worker_name", o.config.workerName)
	cfg := actors.Config{
		Pool:        o.db,
		EventStore:  checked.events,
		Store:       checked.coordination,
		Projections: d.projections,
		Membership: pgcoord.Membership{
			ID:            id,
			Name:          o.config.workerName,
			Projections:   d.names,
			Unpartitioned: d.unpartitioned,
			Resettable:    d.resettable,
			Replaces:      d.replaces,
			Partitions:    o.config.partitions,
			HasSession:    !o.config.pollOnly,
			StaleTimeout:  o.config.staleWorkerTimeout,
			Hostname:      hostname,
			ProcessID:     os.Getpid(),
			Version:       pgcoord.LibraryVersion(),
		},
		Timing:  o.config.timing(),
		Batch:   o.config.batch(),
		Logger:  log,
		Metrics: recorder,
		Lag:     &lag.History{},
		Tracer:  tracing.New(o.config.tracerProvider, log.With("component", "tracing")),

		FailureHook: o.config.failureHook,
	}
	if !o.config.pollOnly {
		cfg.Connect = func(ctx context.Context) (*pgx.Conn, error) { return o.connect(ctx, id) }
	}
	return cfg
}

// timing derives the worker's intervals and bounds from the options.
func (c *config) timing() actors.Timing {
	return actors.Timing{
		Timing: replicaset.Timing{
			Stale:        c.staleWorkerTimeout,
			Coordination: c.coordinationTimeout,
			Poll:         c.pollInterval,
			Observe:      250 * time.Millisecond,
			Follow:       700 * time.Millisecond,
			Settle:       400 * time.Millisecond,
			Replace:      400 * time.Millisecond,
			SessionGrace: 2 * time.Second,
		},
		Heartbeat: c.heartbeatInterval,
		Drain:     min(c.shutdownTimeout/2, c.coordinationTimeout/2, 5*time.Second),
		Grace:     min(c.shutdownTimeout/16, 250*time.Millisecond),
		History:   c.history,
	}
}

// batch derives the settings of batches from the options.
func (c *config) batch() actors.BatchConfig {
	return actors.BatchConfig{
		Size: c.batchSize,
		Time: 50 * time.Millisecond,
		Settings: pgcoord.BatchSettings{
			IdleTimeout:       max(c.staleWorkerTimeout, c.coordinationTimeout),
			SynchronousCommit: c.synchronousCommit,
		},
		RetryFirst: c.retryFirst,
		RetryMax:   c.retryMax,
		HangAfter:  10 * time.Second,
		FlushAfter: time.Second,
		FlushEvery: 10_000,
	}
}
