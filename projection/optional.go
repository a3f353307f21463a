package projection

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// Wrapper is a Projection around another one, as for logging or measuring. The optional interfaces that the wrapper lacks are those
// of the projection that Unwrap returns, which may be a wrapper as well. Unwrap must always return the same projection.
//
// A wrapper without HandleBatch around a [BatchProjection] is not called for events: they go to the inner HandleBatch. A wrapper that
// must see them has a HandleBatch of its own. The same goes for HandleSQL and HandleSQLBatch around a [SQLProjection] or [SQLBatchProjection].
//
// A wrapper without Unwrap that hides an optional interface is an error where it has the inner projection in a field. It cannot be noticed where it
// has only the inner projection's methods, as functions, or keeps it in a slice, a map or a variable: then events that the inner
// HandleBatch should get go to the wrapper's Handle. So give every wrapper Unwrap.
type Wrapper interface {
	Projection

	// Unwrap returns the projection inside.
	Unwrap() Projection
}

// ErrBatchOnly is returned by the Handle of [BatchOnly].
var ErrBatchOnly = errors.New("this projection handles whole batches only: call HandleBatch, or give a wrapper around it the method Unwrap() projection.Projection")

// BatchOnly is the Handle of a [BatchProjection] that has no use for one. Embed it. It returns [ErrBatchOnly], so that a wrapper that
// hides HandleBatch is noticed.
type BatchOnly struct{}

// Handle returns ErrBatchOnly.
func (BatchOnly) Handle(context.Context, pgx.Tx, es.PersistedEvent) error { return ErrBatchOnly }
