package eventstore

import "errors"

var (
	// ErrOptimisticConcurrency says that the aggregate was not at the version
	// that an append expected. Load the aggregate again and decide again.
	ErrOptimisticConcurrency = errors.New("the aggregate is not at the expected version")
	// ErrNoEvents says that an append was given no events.
	ErrNoEvents = errors.New("there are no events to append")
	// ErrInvalidEvent says that an event breaks a rule; the text around it names
	// the event's index, the field and the rule.
	ErrInvalidEvent = errors.New("invalid event")
	// ErrDuplicateEvent says that an event with the same EventID is stored
	// already: most often, that the append is being repeated.
	ErrDuplicateEvent = errors.New("an event with this id is stored already")
)
