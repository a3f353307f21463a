package horizon

import "fmt"

// Holder is a transaction that holds the lock which every writer takes.
type Holder struct {
	// Name is its virtualtransaction.
	Name string
	// Prepared says that it belongs to no session: it is a prepared
	// transaction, and may have had another name before.
	Prepared bool
}

// RegressionError says that the sequence of positions stands lower than it is
// known to have stood: the server lost the end of its log (a crash, a failover
// to a replica that was behind), a backup was restored, or the sequence was
// set back by hand. Positions above LastValue will be given a second time.
type RegressionError struct {
	// Reached is the position that was reached before.
	Reached int64
	// LastValue is where the sequence stands now; with Floor, where it stood when
	// that was noticed, or at its lowest since: it may have grown.
	LastValue int64
	// Floor says that Reached is a checkpoint, which is ahead of the
	// sequence, so new events would be skipped. A person has to decide: set the
	// checkpoints back to LastValue, or advance the sequence with setval to Reached, or Highest if that is more,
	// before anything is appended.
	Floor bool
	// Highest is the highest position of a stored event, if that is above Reached too, else 0. It is known with Floor only.
	Highest int64
	// Reused is how many events, up to 10,000, have got positions above LastValue and up to
	// Reached since then, which would be skipped though the sequence is above
	// Reached again. Only setting the checkpoints back to LastValue helps then.
	Reused int64
}

// Error names both positions.
func (e *RegressionError) Error() string {
	switch {
	case e.Reused > 0:
		return fmt.Sprintf("the sequence of global positions stood at %d when a checkpoint had reached %d, and %d events have got positions in between since, "+
			"which would be skipped: set the checkpoints back to %[1]d, or, if they were restored with their positions and handled before, set settled_at in the last row of "+
			"the events table in orchestrator_sequence_regressions", e.LastValue, e.Reached, e.Reused)
	case e.Floor:
		return fmt.Sprintf("the sequence of global positions stood at %d, but a checkpoint has reached %d: "+
			"events were lost, or the sequence was set back; set the checkpoints back to %[1]d, or advance the sequence to %[3]d with setval before anything is appended",
			e.LastValue, e.Reached, max(e.Reached, e.Highest))
	}
	return fmt.Sprintf("the sequence of global positions went back from %d to %d: the server lost the end of its log, or the sequence was set back",
		e.Reached, e.LastValue)
}

// Tracker computes the horizon from what successive probes see. It is a pure
// function of its inputs and not safe for concurrent use. See the package's
// comment for the rule.
type Tracker struct {
	started bool
	// reached is the last value of the previous probe; the floor before the first.
	reached int64
	// horizon is the result of the previous probe; the floor before the first.
	horizon int64
	// bounds holds for each holder of the previous probe a position that all
	// its numbers are above.
	bounds map[string]int64
}

// NewTracker returns a tracker that has seen no probe. floor is a position
// known to be settled, read before the first probe: a horizon that a prober has found and stored, or 0.
func NewTracker(floor int64) *Tracker {
	return &Tracker{reached: floor, horizon: floor}
}

// Observe takes one probe in: lastValue, and the holders that were read after
// it. It returns the horizon, which never decreases. If lastValue is below an
// earlier one, or below the floor, it returns a [*RegressionError] and changes
// nothing; the tracker's knowledge is void then.
func (t *Tracker) Observe(lastValue int64, holders []Holder) (int64, error) {
	if lastValue < t.reached {
		return 0, &RegressionError{Reached: t.reached, LastValue: lastValue}
	}
	bounds := make(map[string]int64, len(holders))
	for _, h := range holders {
		bound := t.boundOf(h)
		if seen, twice := bounds[h.Name]; twice {
			bound = min(bound, seen)
		}
		bounds[h.Name] = bound
	}
	t.bounds, t.reached, t.started = bounds, lastValue, true
	t.horizon = least(bounds, lastValue)
	return t.horizon, nil
}

// boundOf is the position that all numbers of h are above.
func (t *Tracker) boundOf(h Holder) int64 {
	if bound, known := t.bounds[h.Name]; known {
		return bound
	}
	if h.Prepared {
		return t.boundOfNewPrepared()
	}
	return t.boundOfNew()
}

// boundOfNew bounds a holder that the previous probe did not see: it took the
// lock later, so it draws numbers above what the sequence stood at then. At the
// first probe that is the floor.
func (t *Tracker) boundOfNew() int64 { return t.reached }

// boundOfNewPrepared bounds a prepared transaction with a new name. It may have
// been a holder with another name before, and every such bound was at or above
// the horizon.
func (t *Tracker) boundOfNewPrepared() int64 { return t.horizon }

// least is the lowest of the bounds; lastValue if there are none.
func least(bounds map[string]int64, lastValue int64) int64 {
	low := lastValue
	for _, bound := range bounds {
		low = min(low, bound)
	}
	return low
}

// Settle tells the tracker that every number up to position has been seen
// committed or is dead, whoever holds the lock: all other numbers, of known and of unknown holders, are above it. It returns the
// horizon. position must not exceed what the sequence has given.
func (t *Tracker) Settle(position int64) int64 {
	for name, bound := range t.bounds {
		t.bounds[name] = max(bound, position)
	}
	t.reached = max(t.reached, position)
	t.horizon = max(t.horizon, least(t.bounds, t.reached))
	return t.horizon
}

// Horizon is the result of the latest probe; the floor before the first.
func (t *Tracker) Horizon() int64 { return t.horizon }

// Settled says that every number that the latest probe knew of is settled and
// that it saw no holder. While the last value stays what it was, nothing can
// change then: whoever takes the lock draws numbers above it.
func (t *Tracker) Settled() bool {
	return t.started && len(t.bounds) == 0 && t.horizon == t.reached
}

// Blocking names the holders that keep the horizon from reaching the last
// observed value: those with the least bound. It is empty if nothing does.
func (t *Tracker) Blocking() []string {
	if t.horizon >= t.reached {
		return nil
	}
	var names []string
	for name, bound := range t.bounds {
		if bound == t.horizon {
			names = append(names, name)
		}
	}
	return names
}
