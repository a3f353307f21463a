package orchestratortest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// Handle makes the projection handle the events within tx, in order, as a worker would in one batch. Events out of scope
// are left out. A projection with HandleBatch gets all events in one call. The handler can neither commit nor roll back.
// Nothing is stored in the events table. The test fails and ends if the handler returns an error or panics.
//
// Handle returns the events as they would be stored, including those out of scope. Positions are 1, 2, 3 … in each test,
// over all calls of Handle, and so are the versions of each aggregate. Other fields that are not set are filled in as by
// [github.com/getpup/pupsourcing-orchestrator/v2/eventstore.Store.Append].
func Handle(tb testing.TB, tx pgx.Tx, p projection.Projection, events ...es.Event) []es.PersistedEvent {
	tb.Helper()
	d, err := handling.Describe[projection.Wrapper, projection.ErrorPolicied](p)
	if err != nil {
		tb.Fatalf("the projection cannot be run: %v", err)
	}
	stored := make([]es.PersistedEvent, len(events))
	var wanted handling.List
	of := streamOf(tb)
	for i, e := range events {
		if err := check(e); err != nil {
			tb.Fatalf("the event at index %d: %v", i, err)
		}
		stored[i] = of.store(e)
		if wants(d.Scope.AggregateTypes, e.AggregateType) && wants(d.Scope.BoundedContexts, e.BoundedContext) {
			wanted = append(wanted, stored[i])
		}
	}
	handled, err := handling.Handle(tb.Context(), d.Projection, batchtx.Guard(tx), wanted, nil)
	if err == nil {
		return stored
	}
	if _, whole := d.Projection.(handling.BatchHandler); whole {
		tb.Fatalf("projection %q failed on %d events: %v", d.Name, wanted.Len(), err)
	}
	e := wanted.At(handled)
	tb.Fatalf("projection %q failed on event %s at position %d, of aggregate %q of type %q: %v", d.Name, e.EventType, e.GlobalPosition, e.AggregateID, e.AggregateType, err)
	return nil
}

// check says what an event lacks.
func check(e es.Event) error {
	for _, field := range []struct{ name, value string }{
		{"BoundedContext", e.BoundedContext}, {"AggregateType", e.AggregateType}, {"AggregateID", e.AggregateID}, {"EventType", e.EventType},
	} {
		if field.value == "" {
			return fmt.Errorf("%s must not be empty", field.name)
		}
	}
	return nil
}

// wants says whether a scope has the value. An empty one has all.
func wants(scope []string, value string) bool {
	return len(scope) == 0 || slices.Contains(scope, value)
}

// stream is the events that a test has made.
type stream struct {
	mu       sync.Mutex
	position int64
	versions map[[3]string]int64
}

var streams sync.Map // by testing.TB

// streamOf is the stream of a test.
func streamOf(tb testing.TB) *stream {
	found, known := streams.LoadOrStore(tb, &stream{versions: map[[3]string]int64{}})
	if !known {
		tb.Cleanup(func() { streams.Delete(tb) })
	}
	return found.(*stream) //nolint:forcetypeassert // nothing else is stored there
}

// store gives the event its place.
func (s *stream) store(e es.Event) es.PersistedEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	aggregate := [3]string{e.BoundedContext, e.AggregateType, e.AggregateID}
	s.position++
	s.versions[aggregate]++
	stored := es.PersistedEvent{
		CreatedAt: e.CreatedAt, BoundedContext: e.BoundedContext, AggregateType: e.AggregateType, AggregateID: e.AggregateID, EventType: e.EventType,
		EventVersion: max(1, e.EventVersion), AggregateVersion: s.versions[aggregate], GlobalPosition: s.position, Payload: e.Payload, Metadata: e.Metadata,
		CausationID: e.CausationID, CorrelationID: e.CorrelationID, TraceID: e.TraceID, EventID: e.EventID,
	}
	if stored.EventID == uuid.Nil {
		stored.EventID = uuid.Must(uuid.NewV7())
	}
	if stored.CreatedAt.IsZero() {
		stored.CreatedAt = time.Now()
	}
	stored.CreatedAt = stored.CreatedAt.UTC().Truncate(time.Microsecond)
	return stored
}
