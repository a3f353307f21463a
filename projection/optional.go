package projection

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// Wrapper is a Projection around another one, for example for logging or measuring. If the wrapper lacks an optional
// interface, the library uses that of the projection that Unwrap returns, which may itself be a wrapper. Unwrap must
// always return the same projection.
//
// If a wrapper without HandleBatch contains a [BatchProjection], events go to the inner HandleBatch and the wrapper is
// not called. A wrapper that must see the events needs its own HandleBatch. The same applies to HandleSQL and
// HandleSQLBatch for a [SQLProjection] or [SQLBatchProjection].
//
// A wrapper without Unwrap must not hide an optional interface. This is an error if the wrapper has the inner projection
// in a field. The library cannot detect it if the wrapper has only the inner projection's methods, as functions, or
// keeps the projection in a slice, a map or a variable. Events meant for the inner HandleBatch then go to the wrapper's
// Handle. So give every wrapper Unwrap.
type Wrapper interface {
	Projection

	// Unwrap returns the projection inside.
	Unwrap() Projection
}

// ErrBatchOnly is the error that [BatchOnly.Handle] returns.
var ErrBatchOnly = errors.New("this projection handles whole batches only: call HandleBatch, or give a wrapper around it the method Unwrap() projection.Projection")

// BatchOnly gives a [BatchProjection] the Handle that it does not need. Embed it. Its Handle returns [ErrBatchOnly],
// which reveals a wrapper that hides HandleBatch.
type BatchOnly struct{}

// Handle returns ErrBatchOnly.
func (BatchOnly) Handle(context.Context, pgx.Tx, es.PersistedEvent) error { return ErrBatchOnly }
