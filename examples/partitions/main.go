// Command partitions handles the same events with one partition and with four, in one process each time. The handler waits for something other than the processor,
// so four partitions take less than half of the time. The events of one aggregate stay in order.
package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/examples/internal/setup"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

func main() { setup.Main("example_partitions", "", run) }

func run(ctx context.Context, db *pgxpool.Pool) error {
	store := eventstore.New()
	var events []es.Event
	for range 4 {
		for parcel := range 20 {
			events = append(events, setup.Event("Parcel", fmt.Sprintf("parcel-%02d", parcel), "ParcelMoved", ""))
		}
	}
	if _, err := setup.Append(ctx, db, store, events...); err != nil {
		return err
	}
	for _, partitions := range []int{1, 4} {
		// The pool has 10 connections. A worker uses up to partitions + 2 of them.
		orch, err := orchestrator.New(
			db, store, fmt.Sprintf("example-%d", partitions),
			orchestrator.WithLogger(setup.Logger()), orchestrator.WithPartitionsPerWorker(partitions),
		)
		if err != nil {
			return err
		}
		p := &Parcels{name: fmt.Sprintf("parcels-%d", partitions), handled: make([]int, partitions), versions: map[string]int64{}}
		report, err := orch.RunUntilCaughtUp(ctx, []projection.Projection{p})
		if err != nil {
			return err
		}
		fmt.Printf("%d partition(s): %d ms, events of each: %v, out of order: %d\n", partitions, report.Projections[0].Took.Milliseconds(), p.handled, p.outOfOrder)
	}
	return nil
}

// Parcels asks another system about each event.
type Parcels struct {
	name string

	mu         sync.Mutex // partitions call Handle at the same time
	handled    []int      // events, by partition
	versions   map[string]int64
	outOfOrder int
}

// Name is the name of the projection.
func (p *Parcels) Name() string { return p.name }

// Handle waits 20 ms, as for an answer. Different partitions call it at the same time, but never for two events of one aggregate.
func (p *Parcels) Handle(ctx context.Context, _ pgx.Tx, event es.PersistedEvent) error {
	select {
	case <-time.After(20 * time.Millisecond):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	delivery, _ := projection.DeliveryFrom(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handled[delivery.PartitionKey]++
	if event.AggregateVersion != p.versions[event.AggregateID]+1 {
		p.outOfOrder++
	}
	p.versions[event.AggregateID] = event.AggregateVersion
	return nil
}
