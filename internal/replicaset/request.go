package replicaset

import "fmt"

// Kinds of requests.
const (
	Retry = "retry" // handle the letters and commit
	Try   = "try"   // handle them, and roll back
	Reset = "reset" // empty the read model and set the checkpoints back
)

// Request is what somebody wants to be done that needs a projection's handler: with a parked aggregate, or, for a Reset, with the projection.
type Request struct {
	// Operation is the number of the operation that it belongs to.
	Operation  int64
	Projection string
	Aggregate
	// Slot is the aggregate's.
	Slot int
	// Kind is Retry, Try or Reset.
	Kind string
	// Target is the position that a Reset sets the checkpoints back to.
	Target int64
}

// String names the request, for messages.
func (r Request) String() string {
	if r.Kind == Reset {
		return fmt.Sprintf("the reset of projection %q to position %d (operation %d)", r.Projection, r.Target, r.Operation)
	}
	return fmt.Sprintf("aggregate %q of type %q in %q, parked for projection %q (%s, operation %d)", r.ID, r.Type, r.BoundedContext, r.Projection, r.Kind, r.Operation)
}
