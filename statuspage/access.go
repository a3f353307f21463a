package statuspage

import "net/http"

// Payloads is how much of the events' payloads a request may see.
type Payloads int

// What a request may see of payloads.
const (
	NoPayloads     Payloads = iota // nothing
	MaskedPayloads                 // names of fields and the types of their values
	FullPayloads                   // everything
)

// Access is what a request may do. With the zero value, the answer is 403.
type Access struct {
	// Read allows a request to see the page. The page shows the texts of errors, which may quote data.
	Read bool
	// Act allows changes: to pause and resume projections, to retry and discard events that could not be handled, and to
	// drain workers. It includes Read.
	Act bool
	// Payloads is how much a request may see of the payloads of events that could not be handled.
	Payloads Payloads
	// Actor is recorded in orchestrator_operations as the one who acts. It has at most 255 bytes. Empty means the actor
	// of the Admin.
	Actor string
}

func (a Access) reads() bool { return a.Read || a.Act }

// everybodyReads is the access of a handler without WithAccess.
func everybodyReads(*http.Request) Access { return Access{Read: true} }
