package health

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pass lets fake time pass. It is for synctest bubbles only.
func pass(d time.Duration) { <-time.After(d) }

func TestALoopIsStuckWhenItsRoundTakesTooLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		loops := NewLoops(time.Second, nil)
		loop := loops.Watch("one", 10*time.Second)
		ok := func() bool { return loop.Status().OK }
		pass(10 * time.Second)
		assert.True(t, ok(), "its first round may take so long")
		pass(time.Nanosecond)
		assert.False(t, ok())
		loop.Round()
		assert.True(t, ok())

		loop.Allow(time.Minute)
		pass(time.Minute)
		assert.True(t, ok(), "this round may take longer")
		loop.Allow(time.Second)
		assert.False(t, ok(), "none is shorter than usual, and the time that has passed counts")
		loop.Round()
		pass(11 * time.Second)
		assert.False(t, ok(), "the next one is as usual")

		loop.Rest()
		pass(time.Hour)
		assert.True(t, ok(), "it waits for others")
		assert.Zero(t, loop.Status().Allowed)
		loop.Round()
		pass(11 * time.Second)
		assert.False(t, ok())
	})
}

func TestAnotherLifeOfALoopGoesOnWithItsWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		loops := NewLoops(100*time.Millisecond, nil)
		first := loops.Watch("one", time.Second)
		loops.Watch("another", time.Second)
		pass(80 * time.Millisecond)
		assert.Same(t, first, loops.Watch("one", time.Second), "an actor that crashes again and again makes no progress")
		pass(21 * time.Millisecond)
		require.Len(t, loops.Status(), 2)
		assert.Equal(t, Status{Name: "another", Last: loops.began, Allowed: 100 * time.Millisecond}, loops.Status()[0])
		first.End()
		require.Len(t, loops.Status(), 1)
		second := loops.Watch("one", time.Second)
		first.End() // of a watch that has ended
		assert.Len(t, loops.Status(), 2)
		assert.True(t, second.Status().OK)
		loops.End()
		assert.Empty(t, loops.Status())
	})
}

func TestNobodyNeedsToWatch(t *testing.T) {
	t.Parallel()
	var loops *Loops
	loop := loops.Watch("one", time.Second)
	loop.Round()
	loop.Allow(time.Second)
	loop.Rest()
	loop.End()
	loops.End()
	assert.Empty(t, loops.Status())
	assert.Equal(t, time.Second, loops.Unit())
	var m *Membership
	m.Trust(true)
}

func TestReady(t *testing.T) {
	t.Parallel()
	now := time.Now()
	const patience = time.Minute
	well := Member{Phase: Running, State: "running", Generation: 3, Trusted: true, Looked: now, Handled: now}
	for _, c := range []struct {
		name   string
		change func(*Member)
		why    string // "" if it is ready
	}{
		{"it handles its partitions", func(*Member) {}, ""},
		{"a generation changes", func(m *Member) { m.State, m.Handled = "ready", now.Add(-patience) }, ""},
		{"a generation changes for too long", func(m *Member) { m.State, m.Handled = "ready", now.Add(-patience-1) }, "the generation has been changing for longer than 1m0s"},
		{"no look succeeds", func(m *Member) { m.Looked, m.Handled = now.Add(-patience-1), now.Add(-patience-1) }, "the replica set could not be looked at for 1m0s"},
		{"no heartbeat succeeds", func(m *Member) { m.Trusted = false }, "no heartbeat has succeeded for too long"},
		{"it was declared dead", func(m *Member) { m.State = "dead" }, "the worker was declared dead, and joins again"},
		{"it was never a member", func(m *Member) { m.State, m.Handled, m.Trusted = "pending", time.Time{}, false }, "the worker is not yet a member of an active generation"},
		{"before Run", func(m *Member) { *m = Member{Phase: New} }, "Run has not been called"},
		{"at the start", func(m *Member) { m.Phase = Starting }, "the database and the tables are being looked for"},
		{"when it leaves", func(m *Member) { m.Phase = Leaving }, "the worker is leaving"},
		{"after Run", func(m *Member) { m.Phase = Ended }, "Run has returned"},
		{"after an error", func(m *Member) { m.Phase = Failed }, "Run has returned an error"},
	} {
		m := well
		c.change(&m)
		why, ready := m.Ready(now, patience)
		assert.Equal(t, c.why, why, c.name)
		assert.Equal(t, c.why == "", ready, c.name)
	}
}

func TestAWorkerThatHasEndedIsForgotten(t *testing.T) {
	t.Parallel()
	var m Membership
	assert.Equal(t, Member{Phase: New}, m.Now())
	m.Begin()
	m.Enter(Running)
	m.Look("running", 7, true)
	m.Trust(true)
	_, ready := m.Now().Ready(time.Now(), time.Minute)
	assert.True(t, ready)
	m.Look("ready", 8, false)
	assert.Equal(t, int64(8), m.Now().Generation)
	_, ready = m.Now().Ready(time.Now(), time.Minute)
	assert.True(t, ready)
	m.Enter(Ended)
	assert.Equal(t, Member{Phase: Ended}, m.Now())
	m.Begin()
	assert.Equal(t, Member{Phase: Starting}, m.Now())
}
