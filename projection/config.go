package projection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/contained"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/manual"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Defaults of ProcessorConfig.
const (
	defaultBatchSize    = 100
	defaultPollInterval = 100 * time.Millisecond
)

// ProcessorConfig configures a PostgresProcessor. Fields without a default are required.
type ProcessorConfig struct {
	// DB is the database with the events, the checkpoints and the projection's own tables. A processor uses one
	// connection at a time. All processors of a process on one pool leave one connection of the pool for handlers, so a
	// handler may take a second one, if the pool allows at least 2. If the pool has fewer connections than there are
	// processors with events, they take turns. If workers use the pool too, all together leave two connections.
	DB *pgxpool.Pool
	// EventStore names the tables.
	EventStore *eventstore.Store
	// Projection handles the events.
	Projection Projection
	// BatchSize is the maximum number of events handled in one transaction. Defaults to 100.
	BatchSize int
	// PartitionKey selects the partition that this processor handles, from 0 to TotalPartitions-1. Defaults to 0.
	PartitionKey int
	// TotalPartitions is the number of partitions that share the aggregates. Defaults to 1. It must be 1 for an
	// UnpartitionedProjection.
	TotalPartitions int
	// PollInterval is how long the processor waits for new events at the end of the stream. Defaults to 100ms.
	PollInterval time.Duration
	// ErrorPolicy says what happens after an event has failed. Nil means the projection's own policy (see
	// ErrorPolicied). If the projection has none, Run returns an error at the first failed attempt. The backoff defaults
	// to 100ms for the first delay and 30s for the longest.
	//
	// Outcomes are stored in the tables EventStore.DeadLettersTable and EventStore.ParkedAggregatesTable, which
	// eventstore.RunMigrations creates. docs/errors.md explains what to do with them.
	ErrorPolicy *ErrorPolicy
	// FailureHook is called for each failed attempt, and for the outcome after it was committed. One goroutine calls it,
	// outside the transaction. If it is slow, failures are dropped, since handling never waits for it.
	FailureHook func(context.Context, Failure)
	// TracerProvider creates a span for each batch, as orchestrator.WithTracerProvider does. Defaults to nil, which
	// creates none.
	TracerProvider trace.TracerProvider
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// withDefaults sets the defaults of fields that are not set.
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
	c.Logger = contained.Logger(c.Logger)
	return c
}

// describe returns what the projection says about itself, or an error for the first field that breaks its rule.
// policied says whether an error policy is set.
func (c ProcessorConfig) describe() (d handling.Description, policied bool, err error) {
	if err := c.validate(); err != nil {
		return d, false, err
	}
	d, err = handling.Describe[Wrapper, ErrorPolicied](c.Projection)
	switch {
	case c.Projection == nil:
		return d, false, errors.New("Projection must be set")
	case err != nil:
		return d, false, fmt.Errorf("Projection cannot be run: %w", err)
	case manual.IsRow(d.Name):
		return d, false, fmt.Errorf("Projection must have a Name that does not end like the checkpoint of a partition, got %q", d.Name)
	case d.Replaces != "":
		return d, false, fmt.Errorf("Projection must not be a Successor: %q replaces %q at a cut-over, which the manual runner does not have", d.Name, d.Replaces)
	case c.TotalPartitions > 1 && d.Unpartitioned:
		return d, false, fmt.Errorf("TotalPartitions must be 1, got %d: the projection %q must not be divided", c.TotalPartitions, d.Name)
	}
	d.Policy, policied, err = c.policy(d)
	return d, policied, err
}

// retryFirst and retryMax are the delays of a policy that does not set them. They equal the orchestrator's.
const (
	retryFirst = 100 * time.Millisecond
	retryMax   = 30 * time.Second
)

// policy returns the error policy that applies.
func (c ProcessorConfig) policy(d handling.Description) (p handling.Policy, policied bool, err error) {
	var set ErrorPolicy
	source := "ErrorPolicy is invalid"
	if c.ErrorPolicy != nil {
		set = *c.ErrorPolicy
	} else {
		if set, policied, err = handling.PolicyOf[ErrorPolicied](d.Projection); err != nil {
			return p, false, fmt.Errorf("Projection cannot be run: %w", err)
		}
		if !policied {
			return noPolicy, false, nil
		}
		source = "Projection has an ErrorPolicy that is invalid"
	}
	if p, err = handling.ErrorPolicy[Outcome, Class](set).Policy(dbfault.Backoff{First: retryFirst, Max: retryMax}); err != nil {
		return p, false, fmt.Errorf("%s: %w", source, err)
	}
	if d.Unpartitioned && p.Then == handling.Park {
		return p, false, fmt.Errorf("%s: Then must not be Park, since the projection %q is unpartitioned: it promises one order across aggregates, and parking "+
			"would change it; use Stop or Skip", source, d.Name)
	}
	return p, true, nil
}

// validate returns an error for the first field that breaks its rule, Projection excepted.
func (c ProcessorConfig) validate() error {
	switch {
	case c.DB == nil:
		return errors.New("DB must be set")
	case c.EventStore == nil:
		return errors.New("EventStore must be set")
	case c.BatchSize < 0:
		return fmt.Errorf("BatchSize must be at least 1, got %d", c.BatchSize)
	case c.PollInterval < 0:
		return fmt.Errorf("PollInterval must be positive, got %s", c.PollInterval)
	case c.TotalPartitions < 1 || c.TotalPartitions > slot.Count:
		return fmt.Errorf("TotalPartitions must be between 1 and %d, got %d", slot.Count, c.TotalPartitions)
	case c.PartitionKey < 0 || c.PartitionKey >= c.TotalPartitions:
		return fmt.Errorf("PartitionKey must be between 0 and TotalPartitions-1 (%d), got %d", c.TotalPartitions-1, c.PartitionKey)
	}
	if err := c.EventStore.Validate(); err != nil {
		return fmt.Errorf("EventStore is misconfigured: %w", err)
	}
	return nil
}
