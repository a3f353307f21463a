package handling

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// Resettable is projection.Resettable.
type Resettable interface {
	Reset(ctx context.Context, tx pgx.Tx) error
}

// IsResettable says whether p, or what it wraps, can empty its read model.
func IsResettable(p Projection) bool {
	_, ok := resettableOf(p)
	return ok
}

func resettableOf(p Projection) (Resettable, bool) { return outermost[Resettable](layersOf(p)) }

// layersOf is a projection with all that it wraps, the outermost first.
func layersOf(p Projection) []Projection {
	if r, wraps := p.(interface{ layered() []Projection }); wraps {
		return r.layered()
	}
	return []Projection{p}
}

// Emptying is p with a Handle that empties its read model, whatever the event.
func Emptying(p Projection) Projection { return emptying{p} }

type emptying struct{ of Projection }

var errNotResettable = errors.New("the projection has no method Reset(context.Context, pgx.Tx) error")

// Name is the projection's.
func (e emptying) Name() string { return e.of.Name() }

// Handle empties the read model.
func (e emptying) Handle(ctx context.Context, tx pgx.Tx, _ es.PersistedEvent) error {
	r, ok := resettableOf(e.of)
	if !ok {
		return errNotResettable
	}
	return r.Reset(ctx, tx)
}
