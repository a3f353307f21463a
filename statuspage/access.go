package statuspage

import "net/http"

// Payloads says how much of the events' payloads a request may see.
type Payloads int

// What may be seen of payloads.
const (
	NoPayloads     Payloads = iota // nothing
	MaskedPayloads                 // names of fields and the types of their values
	FullPayloads                   // everything
)

// Access is what a request may do. The zero value is nothing: the answer is 403.
type Access struct {
	// Read shows the page. The texts of errors are part of it, and may quote data.
	Read bool
	// Act allows what changes something: to pause and resume projections, to retry and discard events that could not be handled, to drain workers. It includes Read.
	Act bool
	// Payloads says how much is shown of the payloads of events that could not be handled.
	Payloads Payloads
	// Actor says who acts, for the rows in orchestrator_operations. It has at most 255 bytes. Empty means the actor of the Admin.
	Actor string
}

func (a Access) reads() bool { return a.Read || a.Act }

// everybodyReads is the access of a handler without WithAccess.
func everybodyReads(*http.Request) Access { return Access{Read: true} }
