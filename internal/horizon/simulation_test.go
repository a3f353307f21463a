package horizon

import (
	"fmt"
	"slices"

	"pgregory.net/rapid"
)

// simulation is as much of PostgreSQL as the horizon depends on: transactions
// that take the table's lock, draw numbers, and end in two steps (first the
// commit becomes visible, then the lock is released), with probers in between.
type simulation struct {
	sequence int64
	names    int
	open     []*transaction
	visible  map[int64]bool
	probers  []*prober

	// clock counts the steps, to order locks and probes.
	clock int
	// published is the highest horizon that any prober returned: readers are past it.
	published int64
	// settled are all horizons returned, which are the possible checkpoints.
	settled []int64
}

// transaction is one writer.
type transaction struct {
	name     string
	locked   bool
	lockedAt int // when it first took the lock; 0 before
	prepared bool
	ended    bool // its outcome is visible, its lock not yet released
	numbers  []int64
}

// prober is a Tracker between the two steps of a probe.
type prober struct {
	tracker *Tracker
	floor   int64
	pending bool
	value   int64
	// first says that no probe was completed; earlier are the completed ones.
	first   bool
	earlier []completed
	last    int64
}

// completed is a probe that was completed at a time, having read value.
type completed struct {
	at    int
	value int64
}

func newSimulation() *simulation {
	return &simulation{visible: map[int64]bool{}, settled: []int64{0}}
}

// writers are the open transactions for which ok holds.
func (s *simulation) writers(ok func(*transaction) bool) []*transaction {
	var some []*transaction
	for _, tx := range s.open {
		if ok(tx) {
			some = append(some, tx)
		}
	}
	return some
}

// action is a step of the simulation. It reports false, having changed nothing,
// if it is not possible now.
type action func(s *simulation, t *rapid.T) bool

// on makes an action of what is done to one of the transactions for which ok holds.
func on(ok func(*transaction) bool, do func(s *simulation, t *rapid.T, tx *transaction)) action {
	return func(s *simulation, t *rapid.T) bool {
		some := s.writers(ok)
		if len(some) == 0 {
			return false
		}
		do(s, t, some[rapid.IntRange(0, len(some)-1).Draw(t, "transaction")])
		return true
	}
}

// by makes an action of what is done by one of the probers that are between the
// steps of a probe, or are not.
func by(pending bool, do func(s *simulation, t *rapid.T, p *prober)) action {
	return func(s *simulation, t *rapid.T) bool {
		some := slices.DeleteFunc(slices.Clone(s.probers), func(p *prober) bool { return p.pending != pending })
		if len(some) == 0 {
			return false
		}
		do(s, t, some[rapid.IntRange(0, len(some)-1).Draw(t, "prober")])
		return true
	}
}

// actions are the steps, the frequent ones several times.
var actions = []struct {
	name string
	do   action
}{
	{"begin", (*simulation).begin},
	{"begin", (*simulation).begin},
	{"draw", on((*transaction).writing, (*simulation).draw)},
	{"draw", on((*transaction).writing, (*simulation).draw)},
	{"roll back to savepoint", on((*transaction).holding, (*simulation).rollbackToSavepoint)},
	{"roll back", on((*transaction).undecided, (*simulation).rollback)},
	{"commit", on((*transaction).undecided, (*simulation).show)},
	{"release", on((*transaction).over, (*simulation).release)},
	{"prepare", on((*transaction).writing, (*simulation).prepare)},
	{"restart", (*simulation).restart},
	{"add prober", (*simulation).addProber},
	{"read value", by(false, (*simulation).readValue)},
	{"read value", by(false, (*simulation).readValue)},
	{"read value", by(false, (*simulation).readValue)},
	{"read holders", by(true, (*simulation).readHolders)},
	{"read holders", by(true, (*simulation).readHolders)},
	{"read holders", by(true, (*simulation).readHolders)},
	{"glance", by(false, (*simulation).glance)},
	{"glance", by(false, (*simulation).glance)},
	{"hear", by(false, (*simulation).hear)},
}

// step does one action that is possible.
func (s *simulation) step(t *rapid.T) {
	s.clock++
	at := rapid.IntRange(0, len(actions)-1).Draw(t, "action")
	for !actions[at].do(s, t) {
		at = (at + 1) % len(actions)
	}
	t.Log(actions[at].name)
}

// undecided transactions can be committed or rolled back.
func (tx *transaction) undecided() bool { return !tx.ended }

// writing transactions can insert.
func (tx *transaction) writing() bool { return !tx.prepared && !tx.ended }

// holding transactions have inserted.
func (tx *transaction) holding() bool { return tx.locked && tx.writing() }

// over is a transaction whose lock can be released.
func (tx *transaction) over() bool { return tx.ended }

func (s *simulation) begin(_ *rapid.T) bool {
	if len(s.open) >= 6 {
		return false
	}
	s.names++
	s.open = append(s.open, &transaction{name: fmt.Sprintf("3/%d", s.names)})
	return true
}

// draw inserts: it takes the lock, unless it is held already, and mostly draws
// numbers (the lock may be seen before the first of them).
func (s *simulation) draw(t *rapid.T, tx *transaction) {
	tx.locked = true
	if tx.lockedAt == 0 {
		tx.lockedAt = s.clock
	}
	for range rapid.IntRange(0, 3).Draw(t, "numbers") {
		s.sequence++
		if s.sequence <= s.published {
			t.Fatalf("number %d is drawn after a horizon of %d", s.sequence, s.published)
		}
		tx.numbers = append(tx.numbers, s.sequence)
	}
}

// rollbackToSavepoint gives the lock back and lets the numbers die.
func (s *simulation) rollbackToSavepoint(_ *rapid.T, tx *transaction) {
	tx.locked, tx.numbers = false, nil
}

func (s *simulation) rollback(_ *rapid.T, tx *transaction) {
	tx.ended, tx.numbers = true, nil
}

// show makes the numbers of tx visible. This is where a loss is found: a reader
// that follows the horizon never looks at a number below it again.
func (s *simulation) show(t *rapid.T, tx *transaction) {
	for _, n := range tx.numbers {
		if n <= s.published {
			t.Fatalf("event %d of %s appears after a horizon of %d", n, tx.name, s.published)
		}
		s.visible[n] = true
	}
	tx.ended, tx.numbers = true, nil
}

func (s *simulation) release(_ *rapid.T, tx *transaction) {
	s.open = slices.DeleteFunc(s.open, func(o *transaction) bool { return o == tx })
}

// prepare turns a transaction into a prepared one, which on some servers
// changes its name.
func (s *simulation) prepare(t *rapid.T, tx *transaction) {
	tx.prepared = true
	if rapid.Bool().Draw(t, "renamed") {
		s.rename(tx)
	}
}

func (s *simulation) rename(tx *transaction) {
	s.names++
	tx.name = fmt.Sprintf("-1/%d", s.names)
}

// restart ends all but the prepared transactions, which get new names, and
// skips some numbers of the sequence.
func (s *simulation) restart(t *rapid.T) bool {
	if rapid.IntRange(0, 9).Draw(t, "luck") > 0 {
		return false
	}
	s.open = s.writers(func(tx *transaction) bool { return tx.prepared && !tx.ended })
	for _, tx := range s.open {
		s.rename(tx)
	}
	s.sequence += rapid.Int64Range(0, 32).Draw(t, "skipped")
	return true
}

// addProber starts a prober whose floor is a horizon that some prober may have stored.
func (s *simulation) addProber(t *rapid.T) bool {
	if len(s.probers) >= 4 {
		s.probers = slices.Delete(s.probers, 0, 1)
	}
	floor := rapid.SampledFrom(s.settled).Draw(t, "floor") // what is stored is a horizon that some prober has found
	s.probers = append(s.probers, &prober{tracker: NewTracker(floor), floor: floor, first: true, last: floor})
	return true
}

// readValue is the first step of a probe, and all of one that finds nothing
// drawn since everything was settled.
func (s *simulation) readValue(t *rapid.T, p *prober) {
	if p.tracker.Settled() && s.sequence == p.tracker.Horizon() && rapid.Bool().Draw(t, "spare the locks") {
		p.earlier = append(p.earlier, completed{at: s.clock, value: s.sequence})
		return
	}
	p.pending, p.value = true, s.sequence
}

func (s *simulation) readHolders(t *rapid.T, p *prober) {
	p.pending = false
	holding := s.writers(func(tx *transaction) bool { return tx.locked })
	holders := make([]Holder, 0, len(holding))
	for _, tx := range holding {
		holders = append(holders, Holder{Name: tx.name, Prepared: tx.prepared})
	}
	got, err := p.tracker.Observe(p.value, holders)
	if err != nil {
		t.Fatal(err)
	}
	if rapid.Bool().Draw(t, "count") { // at any probe
		if end := s.withoutHole(p.floor, p.value); end >= got {
			got = p.tracker.Settle(end)
			if got < end {
				t.Fatalf("all up to %d is visible, yet the horizon is %d", end, got)
			}
		}
	} else {
		p.checkProgress(t, got, holding)
	}
	if got < p.last {
		t.Fatalf("the horizon went back from %d to %d", p.last, got)
	}
	p.first, p.last = false, got
	p.earlier = append(p.earlier, completed{at: s.clock, value: p.value})
	s.publish(got)
}

// glance reads the events above the horizon, in place of a probe.
func (s *simulation) glance(t *rapid.T, p *prober) {
	if p.first {
		return
	}
	end := s.withoutHole(p.last, s.sequence)
	got := p.tracker.Settle(end)
	if got < end {
		t.Fatalf("all up to %d is visible, yet the horizon is %d", end, got)
	}
	p.last = got
	p.earlier = append(p.earlier, completed{at: s.clock, value: end})
	s.publish(got)
}

// hear takes in a horizon that some prober has announced at some time.
func (s *simulation) hear(t *rapid.T, p *prober) {
	position := rapid.SampledFrom(s.settled).Draw(t, "announced")
	if p.first || position <= p.last {
		return
	}
	got := p.tracker.Settle(position)
	if got < position {
		t.Fatalf("%d is settled, yet the horizon is %d", position, got)
	}
	p.last = got
	p.earlier = append(p.earlier, completed{at: s.clock, value: position})
	s.publish(got)
}

// withoutHole is up to where all numbers from a position on are visible.
func (s *simulation) withoutHole(from, to int64) int64 {
	for n := from + 1; n <= to; n++ {
		if !s.visible[n] {
			return n - 1
		}
	}
	return to
}

func (s *simulation) publish(horizon int64) {
	s.published = max(s.published, horizon)
	if !slices.Contains(s.settled, horizon) {
		s.settled = append(s.settled, horizon)
	}
}

// checkProgress fails if the horizon is lower than the rule allows, as computed
// from when each lock was taken. Of prepared transactions it makes no demand,
// nor after a first probe was settled, which allows more.
func (p *prober) checkProgress(t *rapid.T, got int64, holding []*transaction) {
	want := p.value
	for _, tx := range holding {
		if tx.prepared {
			return
		}
		want = min(want, p.boundAt(tx.lockedAt))
	}
	if got < want {
		t.Fatalf("the horizon is %d where %d holders and a last value of %d allow %d", got, len(holding), p.value, want)
	}
}

// boundAt is the value of the last probe completed before a lock was taken.
func (p *prober) boundAt(lockedAt int) int64 {
	bound := p.floor
	for _, c := range p.earlier {
		if c.at < lockedAt {
			bound = c.value
		}
	}
	return bound
}

// finish commits all that is open, so that whatever was skipped appears, and
// demands that every prober then reaches the end of the sequence.
func (s *simulation) finish(t *rapid.T) {
	for _, tx := range s.open {
		if !tx.ended {
			s.show(t, tx)
		}
	}
	s.open = nil
	for _, p := range s.probers {
		got, err := p.tracker.Observe(s.sequence, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got != s.sequence {
			t.Fatalf("with no holder the horizon is %d instead of %d", got, s.sequence)
		}
	}
}
