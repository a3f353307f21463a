package projection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/horizon"
	"github.com/getpup/pupsourcing-orchestrator/v2/slot"
)

// Defaults of ProcessorConfig.
const (
	defaultBatchSize    = 100
	defaultPollInterval = 100 * time.Millisecond
)

// ProcessorConfig says what a PostgresProcessor runs. Fields without a default
// are required.
type ProcessorConfig struct {
	// DB has the events, the checkpoints and what the projection writes. A
	// processor uses one connection at a time.
	DB *pgxpool.Pool
	// EventStore names the tables.
	EventStore *eventstore.Store
	// Projection handles the events.
	Projection Projection
	// BatchSize is the most events handled in one transaction. Defaults to 100.
	BatchSize int
	// PartitionKey says which of the partitions this processor handles: 0 to
	// TotalPartitions-1. Defaults to 0.
	PartitionKey int
	// TotalPartitions is the number of partitions that the aggregates are divided
	// into. Defaults to 1. It must be 1 for an UnpartitionedProjection.
	TotalPartitions int
	// PollInterval is how long to wait for new events at the end of the stream.
	// Defaults to 100ms.
	PollInterval time.Duration
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// withDefaults fills in what was left out.
func (c ProcessorConfig) withDefaults() ProcessorConfig {
	if c.BatchSize == 0 {
		c.BatchSize = defaultBatchSize
	}
	if c.TotalPartitions == 0 {
		c.TotalPartitions = 1
	}
	if c.PollInterval == 0 {
		c.PollInterval = defaultPollInterval
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// validate returns an error for the first field that breaks its rule.
func (c ProcessorConfig) validate() error {
	switch {
	case c.DB == nil:
		return errors.New("DB must be set")
	case c.EventStore == nil:
		return errors.New("EventStore must be set")
	case c.Projection == nil:
		return errors.New("Projection must be set")
	case c.Projection.Name() == "":
		return errors.New("Projection must have a Name that is not empty")
	case c.BatchSize < 0:
		return fmt.Errorf("BatchSize must be at least 1, got %d", c.BatchSize)
	case c.PollInterval < 0:
		return fmt.Errorf("PollInterval must be positive, got %s", c.PollInterval)
	case c.TotalPartitions < 1 || c.TotalPartitions > slot.Count:
		return fmt.Errorf("TotalPartitions must be between 1 and %d, got %d", slot.Count, c.TotalPartitions)
	case c.PartitionKey < 0 || c.PartitionKey >= c.TotalPartitions:
		return fmt.Errorf("PartitionKey must be between 0 and TotalPartitions-1 (%d), got %d", c.TotalPartitions-1, c.PartitionKey)
	case c.TotalPartitions > 1 && IsUnpartitioned(c.Projection):
		return fmt.Errorf("TotalPartitions must be 1, got %d: the projection %q must not be divided", c.TotalPartitions, c.Projection.Name())
	}
	if err := c.EventStore.Validate(); err != nil {
		return fmt.Errorf("EventStore is misconfigured: %w", err)
	}
	return nil
}

// PostgresProcessor is the manual runner: it runs one projection on one
// partition of the stream, without coordination with others. Partitions are ranges of
// slots, as the orchestrator has them.
//
// Its checkpoint is a row of the event store's checkpoints table
// (projection_checkpoints, as pupsourcing has it). With one partition the row has the
// projection's name, so a checkpoint that pupsourcing left is continued; partition k of
// N has the row name[k/N], which starts at the position of the row without partition if
// there is one, else at 0.
//
// To change N by hand, stop all processors of the projection and set the row without
// partition to the lowest position among the old rows: the new partitions start there.
// What an old partition had handled above it is handled again; nothing is if the old
// rows were equal. The orchestrator changes N without either.
//
// Two processors of the same partition never both commit an event: see Run.
type PostgresProcessor struct {
	config ProcessorConfig
}

// NewPostgresProcessor returns a processor; Run checks the configuration.
func NewPostgresProcessor(config ProcessorConfig) *PostgresProcessor {
	return &PostgresProcessor{config: config.withDefaults()}
}

// Run handles events, from the checkpoint on and in order, until ctx ends; then it
// returns nil. Events are read up to the horizon, so none is lost however
// transactions of writers overlap. Each batch is one transaction whose first
// statement lifts the checkpoint, provided it is where this processor believes: another
// processor of the partition waits for its end and then reads its own checkpoint again.
//
// It returns an error
//   - if the configuration is invalid or the database unfit, see [horizon.Check];
//   - wrapping [ErrProjectionStopped] (a [*StoppedError]) if an event failed. The events
//     before it are committed with the checkpoint, the failed one is rolled back. Calling
//     Run again tries it again;
//   - from the database. Lost connections are no error: they are logged and tried again,
//     after 100ms at first and up to 5s later;
//   - wrapping [*horizon.RewoundError] if the checkpoint is ahead of the events.
//
// Several Runs at the same time are like several processors of the partition.
func (p *PostgresProcessor) Run(ctx context.Context) error {
	if err := p.config.validate(); err != nil {
		return fmt.Errorf("running a projection: %w", err)
	}
	r := newRunner(p.config)
	err := r.run(ctx)
	if err == nil || ctx.Err() != nil {
		return nil //nolint:nilerr // what failed because ctx ended is no failure
	}
	return fmt.Errorf("running the projection %q, partition %v: %w", p.config.Projection.Name(), r.partition, err)
}

// runner is one call of Run.
type runner struct {
	config    ProcessorConfig
	partition slot.Partition
	scope     Scope
	log       *slog.Logger
	prober    *horizon.Prober
	row       checkpointRow
	events    *eventstore.ScopedReader

	// stored is what the checkpoint's row is believed to say; scanned, at or
	// above it, is how far the stream has been looked through.
	stored, scanned int64
	// horizon is how far the stream may be looked through now.
	horizon int64
	epoch   uint64
}

func newRunner(c ProcessorConfig) *runner {
	r := &runner{
		config:    c,
		partition: slot.Partition{Key: c.PartitionKey, Total: c.TotalPartitions},
		scope:     ScopeOf(c.Projection),
	}
	r.log = c.Logger.With("component", "processor", "projection", c.Projection.Name(), "partition", r.partition.String())
	return r
}

// run sets up and handles batches until ctx ends or an error comes that trying
// again does not mend.
func (r *runner) run(ctx context.Context) error {
	steps := backoff{}
	for ctx.Err() == nil {
		err := r.setUp(ctx)
		for err == nil && ctx.Err() == nil {
			if err = r.turn(ctx); err == nil {
				steps.reset()
			}
		}
		if err == nil || ctx.Err() != nil {
			return nil //nolint:nilerr // what failed because ctx ended is no failure
		}
		if !mendable(err) {
			return err
		}
		delay := steps.next()
		r.log.Warn("a projection cannot go on and will try again", "error", err, "delay", delay)
		wait(ctx, delay)
	}
	return nil
}

// resolve finds the tables, once, and makes what uses them.
func (r *runner) resolve(ctx context.Context) error {
	if r.events != nil {
		return nil
	}
	store, err := r.config.EventStore.Resolve(ctx, r.config.DB)
	if err != nil {
		return err
	}
	r.config.EventStore = store
	r.row = newCheckpointRow(store.CheckpointsTable(), r.config.Projection.Name(), r.partition)
	// The processor's own checkpoint is the floor: all that it will not read
	// again lies below. Other rows of the table would not do, since
	// pupsourcing's own processors move theirs without regard to a horizon.
	r.prober = horizon.NewProber(r.config.DB, store.EventsTable(), horizon.InMemory(func(ctx context.Context) (int64, error) {
		return r.row.read(ctx, r.config.DB)
	}), horizon.Options{})
	r.events = eventstore.NewScopedReader(store)
	return nil
}

// setUp checks the database and reads the checkpoint.
func (r *runner) setUp(ctx context.Context) error {
	if err := r.resolve(ctx); err != nil {
		return err
	}
	if err := horizon.Check(ctx, r.config.DB, r.config.EventStore.EventsTable()); err != nil {
		return err
	}
	if err := r.row.create(ctx, r.config.DB); err != nil {
		return err
	}
	return r.reload(ctx)
}

// reload takes over what the checkpoint's row says.
func (r *runner) reload(ctx context.Context) error {
	position, err := r.row.read(ctx, r.config.DB)
	if err != nil {
		return err
	}
	r.stored, r.scanned, r.horizon = position, position, position
	return nil
}

// turn reads and handles a page of events, or waits if there are none.
func (r *runner) turn(ctx context.Context) error {
	if r.scanned >= r.horizon {
		if err := r.advance(ctx); err != nil {
			return err
		}
		if r.scanned >= r.horizon {
			wait(ctx, r.config.PollInterval)
			return nil
		}
	}
	page, err := r.events.Read(ctx, r.config.DB, eventstore.Query{
		Pieces:          []slot.Piece{{Range: r.partition.Range(), Position: r.scanned}},
		UpTo:            r.horizon,
		AggregateTypes:  r.scope.AggregateTypes,
		BoundedContexts: r.scope.BoundedContexts,
		Limit:           r.config.BatchSize,
	})
	if err != nil {
		return err
	}
	if err := r.handle(ctx, page); !errors.Is(err, errCheckpointMoved) {
		return err
	}
	r.log.Info("another processor has moved the checkpoint of this partition", "position", r.stored)
	return r.reload(ctx)
}

// advance probes the horizon.
func (r *runner) advance(ctx context.Context) error {
	reading, err := r.prober.Probe(ctx)
	if err != nil {
		return err
	}
	if reading.Epoch != r.epoch {
		r.epoch, r.scanned = reading.Epoch, r.stored
	}
	r.horizon = reading.Position
	if b := reading.Blocker; b != nil {
		r.log.Debug("a transaction holds the horizon back", "horizon", reading.Position, "last_value", reading.LastValue,
			"pid", b.PID, "application_name", b.Application, "age", b.Age, "prepared_gid", b.PreparedGID)
	}
	return nil
}
