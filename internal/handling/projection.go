package handling

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// Projection is what handles events: a projection.Projection, whose documentation says what it may do.
type Projection interface {
	Name() string
	Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error
}

// BatchHandler is a projection that handles whole batches: a projection.BatchProjection.
type BatchHandler interface {
	Projection
	HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error
}

// Wrapper is a projection around another one: projection.Wrapper, where P is projection.Projection.
type Wrapper[P Projection] interface {
	Projection
	Unwrap() P
}

// What else a projection may say of itself: see the interfaces of package projection that have these methods.
type (
	aggregateScoped interface{ AggregateTypes() []string }
	contextScoped   interface{ BoundedContexts() []string }
	unpartitioned   interface {
		Projection
		Unpartitioned() bool
	}
)

// Scope is the events that a projection wants. The zero value wants all.
type Scope struct {
	// AggregateTypes are the wanted types. Empty means all.
	AggregateTypes []string
	// BoundedContexts are the wanted contexts. Empty means all.
	BoundedContexts []string
}

// scopeOf is the scope that p declares by the optional interfaces.
func scopeOf(p Projection) Scope {
	var s Scope
	if a, ok := p.(aggregateScoped); ok {
		s.AggregateTypes = a.AggregateTypes()
	}
	if c, ok := p.(contextScoped); ok {
		s.BoundedContexts = c.BoundedContexts()
	}
	return s
}

// isUnpartitioned says whether p declares that it must not be divided.
func isUnpartitioned(p Projection) bool {
	u, ok := p.(unpartitioned)
	return ok && u.Unpartitioned()
}
