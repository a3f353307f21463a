package actors

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

func TestStragglerBudgetEnds(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	var p stragglerBudget
	now := time.Unix(1, 0)
	at := func(after time.Duration, crowded bool) time.Duration {
		now = now.Add(after)
		return p.wait(crowded, now)
	}
	assert.Zero(t, at(0, false), "nobody is about to fall out")
	assert.Equal(t, mostBudget, at(time.Hour, true))
	assert.Equal(t, mostBudget-30*ms, at(30*ms, true), "the wait goes on")
	assert.Zero(t, at(30*ms, false), "it has come on")
	assert.Equal(t, mostBudget-60*ms+15*ms, at(150*ms, true), "some came back")
	assert.Zero(t, at(mostBudget, true), "it ran out")
	assert.Zero(t, at(490*ms, true), "less than half came back")
	assert.Equal(t, mostBudget/2, at(10*ms, true))
}

// However a window gets crowded, reading waits for one part of the time, beside what was saved up.
func TestPropertyTheStragglerBudgetIsAPartOfTheTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var p stragglerBudget
		began := time.Unix(1, 0)
		now, waited := began, time.Duration(0)
		for range rapid.IntRange(1, 200).Draw(rt, "calls") {
			wait := p.wait(rapid.Bool().Draw(rt, "crowded"), now)
			passed := time.Duration(rapid.IntRange(0, int(300*time.Millisecond)).Draw(rt, "passed"))
			if wait > 0 {
				passed = min(passed, wait) // its timer comes then at the latest
				waited += passed
			}
			now = now.Add(passed)
		}
		if most := mostBudget + now.Sub(began)/budgetShare; waited > most {
			rt.Fatalf("waited %s of %s", waited, now.Sub(began))
		}
	})
}

// Reading waits for those who have just fallen out of the window, but not where all is nearly read, and not for ever.
func TestReadingWaitsForWhoHasJustFallenOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{window: newWindow(windowBytes, windowAhead), fallen: map[string]struct{}{}}
		r.horizon = mostEvents - 1
		r.fallen["one"] = struct{}{}
		assert.Zero(t, r.lenient(true), "events come as they are appended")
		r.horizon = 100 * mostEvents
		assert.Zero(t, r.lenient(false), "and then nobody is waited for")

		r.fallen["one"] = struct{}{}
		assert.Equal(t, mostBudget, r.lenient(false))
		time.Sleep(mostBudget / 2) //nolint:forbidigo // fake time
		delete(r.fallen, "one")
		assert.Zero(t, r.lenient(false), "it is back")
		r.fallen["two"] = struct{}{}
		assert.Equal(t, mostBudget/2, r.lenient(false))
		time.Sleep(mostBudget / 2) //nolint:forbidigo // fake time
		assert.Zero(t, r.lenient(false), "it does not come")
		time.Sleep(time.Hour) //nolint:forbidigo // fake time
		assert.Zero(t, r.lenient(false), "and is not waited for again")
	})
}
