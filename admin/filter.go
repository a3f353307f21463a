package admin

import (
	"slices"
	"strings"
	"time"
)

// Filter selects events that could not be handled. An empty field selects everything, and so the zero value selects all
// such events of the replica set.
type Filter struct {
	Projection     string
	BoundedContext string
	AggregateType  string
	AggregateID    string
	// Group is the Group of a FailureGroup.
	Group string
	// State is "retrying", "stopped", "parked", "skipped" or "handled". For DeadLetters, empty means all except
	// "handled". Try, Retry and Discard take parked events if it is empty, and return an error if it is another state
	// than "parked". Discard also accepts "skipped".
	State string
	// FailedSince and FailedBefore bound the time of the last failed attempt. FailedSince is inclusive, and FailedBefore
	// is exclusive.
	FailedSince  time.Time
	FailedBefore time.Time
}

// states of events that could not be handled.
var states = []string{"retrying", "stopped", "parked", "skipped", "handled"}

// check says what is wrong with the filter, where it may have these states.
func (f Filter) check(allowed ...string) error {
	for _, field := range []struct{ name, value string }{
		{"Projection", f.Projection}, {"BoundedContext", f.BoundedContext}, {"AggregateType", f.AggregateType}, {"AggregateID", f.AggregateID}, {"Group", f.Group},
	} {
		if err := checkText("Filter."+field.name, field.value, 0, 8<<10); err != nil {
			return err
		}
	}
	if f.State != "" && !slices.Contains(allowed, f.State) {
		return wrong("Filter.State must be empty or one of %s, got %q", strings.Join(allowed, ", "), f.State)
	}
	if !f.FailedSince.IsZero() && !f.FailedBefore.IsZero() && !f.FailedSince.Before(f.FailedBefore) {
		return wrong("Filter.FailedSince (%s) must be before Filter.FailedBefore (%s)", f.FailedSince.Format(time.RFC3339), f.FailedBefore.Format(time.RFC3339))
	}
	return nil
}

// groupSQL is the group of a row d of orchestrator_dead_letters: a hash of the kind and the frame of its error.
const groupSQL = `(CASE WHEN d.error_kind = '' AND d.error_frame = '' THEN ''
    ELSE lpad(to_hex(hashtextextended(d.error_kind || chr(10) || d.error_frame, 0)), 16, '0') END)`

// filterSQL is the condition of a filter for a row d of orchestrator_dead_letters; its arguments are $1 to $9.
const filterSQL = `d.replica_set = $1 AND ($2 = '' OR d.projection = $2) AND ($3 = '' OR d.bounded_context = $3) AND ($4 = '' OR d.aggregate_type = $4)
    AND ($5 = '' OR d.aggregate_id = $5) AND ($6 = '' OR ` + groupSQL + ` = $6) AND d.state = ANY ($7::text[])
    AND ($8::timestamptz IS NULL OR d.last_failed_at >= $8) AND ($9::timestamptz IS NULL OR d.last_failed_at < $9)`

// args are the arguments of filterSQL, for rows that have one of the states.
func (f Filter) args(replicaSet string, states []string, more ...any) []any {
	return append([]any{
		replicaSet, f.Projection, f.BoundedContext, f.AggregateType, f.AggregateID, f.Group, states, orNull(f.FailedSince), orNull(f.FailedBefore),
	}, more...)
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// described is the filter for a row of orchestrator_operations: what is set of it.
func (f Filter) described() map[string]any {
	set := map[string]any{}
	for name, value := range map[string]string{
		"projection": f.Projection, "bounded_context": f.BoundedContext, "aggregate_type": f.AggregateType, "aggregate_id": f.AggregateID,
		"group": f.Group, "state": f.State,
	} {
		if value != "" {
			set[name] = value
		}
	}
	for name, at := range map[string]time.Time{"failed_since": f.FailedSince, "failed_before": f.FailedBefore} {
		if !at.IsZero() {
			set[name] = at.UTC().Format(time.RFC3339Nano)
		}
	}
	return set
}
