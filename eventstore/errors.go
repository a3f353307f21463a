package eventstore

import "errors"

var (
	// ErrOptimisticConcurrency means that the aggregate was not at the version that the append expected. Load the
	// aggregate and decide again.
	ErrOptimisticConcurrency = errors.New("the aggregate is not at the expected version")
	// ErrNoEvents means that the append was given no events.
	ErrNoEvents = errors.New("there are no events to append")
	// ErrInvalidEvent means that an event breaks a rule. The error that wraps it names the event's index, the field and
	// the rule.
	ErrInvalidEvent = errors.New("invalid event")
	// ErrDuplicateEvent means that an event with the same EventID is already stored. The usual cause is that the append
	// is being repeated.
	ErrDuplicateEvent = errors.New("an event with this id is stored already")
)
