package horizon

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Reason is the kind of what keeps the horizon from being found until a person acts, as a metric's label has it.
type Reason string

// The reasons.
const (
	ReasonStandby    Reason = "standby"             // the server is a standby
	ReasonTable      Reason = "table"               // the events table is missing, is of the wrong kind, or lacks its key
	ReasonSequence   Reason = "sequence"            // the position's default, or the sequence's CACHE, INCREMENT, MINVALUE or CYCLE
	ReasonPrivilege  Reason = "privilege"           // the role lacks a right
	ReasonRLS        Reason = "row_security"        // row-level security hides events
	ReasonPosition   Reason = "position"            // an event is stored at a position that is not above 0
	ReasonBehind     Reason = "sequence_behind"     // the sequence stands below a stored event: see [BehindError]
	ReasonRegression Reason = "sequence_regression" // the sequence stands below a checkpoint: see [RegressionError]
	ReasonReplaced   Reason = "replaced"            // the events table holds other events than before: see [ReplacedError]
)

// Reasons are all of them.
func Reasons() []Reason {
	return []Reason{ReasonStandby, ReasonTable, ReasonSequence, ReasonPrivilege, ReasonRLS, ReasonPosition, ReasonBehind, ReasonRegression, ReasonReplaced}
}

// Fault is a precondition of the horizon that is not met.
type Fault struct {
	Reason Reason
	// Text says what is wrong and what to do.
	Text string
}

// UnfitError says that the horizon cannot be found, because preconditions are not met. [Check] and [Prober.Probe] return it.
type UnfitError struct {
	Faults []Fault
	cause  error
}

// Error joins the faults.
func (e *UnfitError) Error() string {
	texts := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		texts[i] = f.Text
	}
	return strings.Join(texts, "\n")
}

// Unwrap returns what the database answered; nil if the faults were found in an answer.
func (e *UnfitError) Unwrap() error { return e.cause }

// ReasonsOf returns why the error of a probe needs a person, each reason once; nil if it may go away by itself.
func ReasonsOf(err error) []Reason {
	if unfit, ok := errors.AsType[*UnfitError](err); ok {
		var reasons []Reason
		for _, f := range unfit.Faults {
			if !slices.Contains(reasons, f.Reason) {
				reasons = append(reasons, f.Reason)
			}
		}
		return reasons
	}
	if _, ok := errors.AsType[*BehindError](err); ok {
		return []Reason{ReasonBehind}
	}
	if _, ok := errors.AsType[*ReplacedError](err); ok {
		return []Reason{ReasonReplaced}
	}
	if back, ok := errors.AsType[*RegressionError](err); ok && back.Floor {
		return []Reason{ReasonRegression}
	}
	return nil
}

// unfit is an UnfitError with one fault.
func unfit(reason Reason, format string, args ...any) error {
	return &UnfitError{Faults: []Fault{{Reason: reason, Text: fmt.Sprintf(format, args...)}}}
}

// BehindError says that the sequence of positions stands below a stored event, as after a restore that left the sequence out, or on
// a logical subscriber, to which sequences are not replicated. Appends would get positions that are taken, or that readers are past.
type BehindError struct {
	// Table and Sequence are the names, quoted.
	Table, Sequence string
	// LastValue is where the sequence stands.
	LastValue int64
	// Highest is the highest position of a stored event.
	Highest int64
}

// Error names both positions and the remedy.
func (e *BehindError) Error() string {
	return fmt.Sprintf("the sequence %s stands at %d, but the events table %s holds an event at position %d: "+
		"advance the sequence before anything is appended, SELECT setval('%s', %d)",
		e.Sequence, e.LastValue, e.Table, e.Highest, strings.ReplaceAll(e.Sequence, "'", "''"), e.Highest)
}
