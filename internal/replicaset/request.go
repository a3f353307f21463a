package replicaset

import "fmt"

// Kinds of requests.
const (
	Retry = "retry" // handle the letters and commit
	Try   = "try"   // handle them, and roll back
)

// Request is what somebody wants to be done with a parked aggregate, which needs its projection's handler.
type Request struct {
	// Operation is the number of the operation that it belongs to.
	Operation  int64
	Projection string
	Aggregate
	// Slot is the aggregate's.
	Slot int
	// Kind is Retry or Try.
	Kind string
}

// String names the request, for messages.
func (r Request) String() string {
	return fmt.Sprintf("aggregate %q of type %q in %q, parked for projection %q (%s, operation %d)", r.ID, r.Type, r.BoundedContext, r.Projection, r.Kind, r.Operation)
}
