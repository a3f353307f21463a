package main

import (
	"math/rand/v2"
	"slices"
	"time"
)

// step is a fault to come: what, when, to whom.
type step struct {
	At    time.Duration // after the beginning
	Fault fault
	// Pick chooses among the workers that are there at the time.
	Pick uint64
	// Kind chooses among the fault's kinds.
	Kind int
	// For is how long it lasts, where it does.
	For time.Duration
}

// Timings of the workers. They are short, so that much happens, and long enough that a machine under load kills nobody.
const (
	heartbeatInterval   = 200 * time.Millisecond
	staleTimeout        = 2 * time.Second
	coordinationTimeout = 2500 * time.Millisecond
	shutdownTimeout     = 5 * time.Second
)

// character is how a fault is drawn.
type character struct {
	weight      int // how often, of about 40
	kinds       int
	least, most time.Duration
	apart       time.Duration // from the one before of its sort, at least
}

var characters = map[fault]character{
	faultJoin:      {weight: 8},
	faultBurst:     {weight: 1, least: 2 * time.Second, most: 4 * time.Second, apart: 15 * time.Second},
	faultLeave:     {weight: 7},
	faultKill:      {weight: 7},
	faultFreeze:    {weight: 4, kinds: 4, least: 100 * time.Millisecond, most: staleTimeout / 2},
	faultLeader:    {weight: 6, kinds: 8, least: staleTimeout, most: staleTimeout + time.Second},
	faultRestart:   {weight: 2, kinds: 3, apart: 5 * time.Second},
	faultTerminate: {weight: 3, kinds: 3},
	faultCut:       {weight: 3, least: 0, most: time.Second},
	faultDelay:     {weight: 2, least: 500 * time.Millisecond, most: 2 * time.Second},
	faultHalfOpen:  {weight: 3, kinds: 3, least: 200 * time.Millisecond, most: staleTimeout + time.Second},
	faultSettings:  {weight: 2, kinds: len(hostileSettings), least: 500 * time.Millisecond, most: 4 * time.Second, apart: 5 * time.Second},
	faultRevoke:    {weight: 1, least: 100 * time.Millisecond, most: time.Second, apart: 8 * time.Second},
	faultHide:      {weight: 1, least: 100 * time.Millisecond, most: time.Second, apart: 8 * time.Second},
	faultRetry:     {weight: 9, kinds: 5, least: 20 * time.Millisecond, most: 200 * time.Millisecond},
	faultPause:     {weight: 4, kinds: 2, least: 100 * time.Millisecond, most: 1500 * time.Millisecond},
	faultDrain:     {weight: 3, least: 200 * time.Millisecond, most: 3 * time.Second},
	faultReset:     {weight: 2, apart: 10 * time.Second},
	faultStranger:  {weight: 1, least: time.Second, most: 4 * time.Second, apart: 10 * time.Second},
}

// calm is the time before the first fault: everything that happens then happens without one.
const calm = 1500 * time.Millisecond

// mood is how long the schedule keeps to one kind of faults: all of them, or, in turn and twice as dense, only those that change
// the members at once, since a generation that waits for a frozen worker keeps the next ones from beginning.
const mood = 5 * time.Second

// brisk are the faults that nobody has to wait for.
var brisk = []fault{faultJoin, faultLeave, faultKill}

// schedule draws the steps of a run: the same for the same options. Faults are dealt from shuffled decks, so that each comes
// before any comes much too often.
func schedule(o options) []step {
	rng := rand.New(rand.NewPCG(o.Seed, 1))
	var steps []step
	var decks [2][]fault
	lists := [2][]fault{o.Faults, slices.DeleteFunc(slices.Clone(o.Faults), func(f fault) bool { return !has(brisk, f) })}
	last := map[fault]time.Duration{}
	for at := calm; at < o.Duration; {
		turn, interval := int(at/mood)%2, o.Interval
		if len(lists[turn]) == 0 {
			turn = 0
		}
		if turn == 1 {
			interval /= 2
		}
		if len(decks[turn]) == 0 {
			if decks[turn] = newDeck(rng, lists[turn]); len(decks[turn]) == 0 {
				return nil
			}
		}
		f := decks[turn][0]
		decks[turn] = decks[turn][1:]
		c := characters[f]
		if before, seen := last[f]; !seen || at-before >= c.apart {
			last[f] = at
			steps = append(steps, step{At: at, Fault: f, Pick: rng.Uint64(), Kind: rng.IntN(max(1, c.kinds)), For: between(rng, c.least, c.most)})
		}
		at += between(rng, interval/4, interval*7/4)
	}
	return steps
}

// newDeck is each fault as often as its weight says, shuffled.
func newDeck(rng *rand.Rand, faults []fault) []fault {
	var deck []fault
	for _, f := range faults {
		for range characters[f].weight {
			deck = append(deck, f)
		}
	}
	rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	return deck
}

// between draws a duration.
func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rng.Int64N(int64(most-least)+1))
}
