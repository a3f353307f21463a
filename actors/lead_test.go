package actors

import (
	"io"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/announcement"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
)

const leadersSession = 71

// follower is a lead of a worker that follows, among so many.
func follower(workers int) *lead {
	l := &lead{}
	l.reset(true)
	l.see(messages.ReplicaSetSeen{Workers: workers, Leader: leadersSession})
	l.probed(5, l.session, time.Now())
	l.heard(5)
	return l
}

func TestOnlyTheLeaderIsHeard(t *testing.T) {
	t.Parallel()
	said := messages.HorizonAnnounced{Session: leadersSession}
	l := follower(3)
	require.True(t, l.hears(said))
	assert.False(t, l.hears(messages.HorizonAnnounced{Session: leadersSession + 1}), "anybody can notify")
	assert.False(t, l.hears(messages.HorizonAnnounced{}))

	l.reset(false)
	assert.False(t, l.hears(said), "what came before the session was lost says nothing of the server that answers next")
	l.reset(true)
	assert.False(t, l.hears(said), "the server may have crashed since the last probe")
	l.probed(5, l.session-1, time.Now())
	assert.False(t, l.hears(said), "and during it")
	l.probed(5, l.session, time.Now())
	assert.True(t, l.hears(said))

	l.see(messages.ReplicaSetSeen{Workers: 3})
	assert.False(t, l.hears(messages.HorizonAnnounced{}), "nobody leads")
}

// The next probe may meet another server before the session's loss is noticed.
func TestWhatWasHeardDuringAFailedProbeIsForgotten(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start(nil, &recorder{name: "p"})
	f.awaitState(r, replicaset.Running)
	h := newHorizon(r.worker, 1)
	h.known, h.probing = false, true
	h.lead.late = []messages.HorizonAnnounced{{Session: leadersSession}}
	props := actor.PropsFromFunc(func(c actor.Context) {
		if m, ok := c.Message().(*probed); ok {
			h.probed(c, m)
			c.Respond(len(h.lead.late))
		}
	})
	pid := r.system.Root.Spawn(props)
	defer r.system.Root.Stop(pid)
	late, err := r.system.Root.RequestFuture(pid, &probed{err: io.ErrUnexpectedEOF}, time.Minute).Result()
	require.NoError(t, err)
	assert.Equal(t, 0, late)
	stopTimers(h.due)
}

func TestFollowersLookRarely(t *testing.T) {
	t.Parallel()
	const alone, poll = 8 * time.Millisecond, 250 * time.Millisecond
	l := follower(3)
	assert.Equal(t, poll, l.probeInterval(alone, poll))
	assert.Equal(t, time.Minute, l.probeInterval(time.Minute, poll), "nothing comes")
	assert.Equal(t, 16*followEach, follower(16).probeInterval(alone, poll))
	assert.Equal(t, followMost, follower(1000).probeInterval(alone, poll))
	l.reset(false)
	assert.Equal(t, alone, l.probeInterval(alone, poll), "nobody is heard")
	l = follower(3)
	l.seen.Leading = true
	assert.Equal(t, alone, l.probeInterval(alone, poll))
	assert.True(t, l.leads())
	l.seen.Workers = 1
	assert.False(t, l.leads(), "nobody waits for it")
}

func TestALeaderThatSaysNothingIsNotReliedUpon(t *testing.T) {
	t.Parallel()
	const alone, poll = 8 * time.Millisecond, 250 * time.Millisecond
	now := time.Now()
	l := follower(3)
	l.probed(9, l.session, now)
	assert.Equal(t, leadGrace, l.probeInterval(alone, poll), "it may be about to say it")
	l.probed(9, l.session, now.Add(leadGrace/2))
	assert.True(t, l.follows())
	l.heard(8)
	assert.Equal(t, leadGrace, l.probeInterval(alone, poll))
	l.heard(9)
	assert.Equal(t, poll, l.probeInterval(alone, poll), "it has said it")
	l.probed(9, l.session, now.Add(time.Hour))
	assert.True(t, l.follows())

	l.probed(12, l.session, now)
	l.probed(13, l.session, now.Add(leadGrace))
	assert.False(t, l.follows())
	assert.Equal(t, alone, l.probeInterval(alone, poll))
	l.heard(13)
	assert.True(t, l.follows(), "it is there again")

	assert.False(t, l.see(messages.ReplicaSetSeen{Workers: 4, Leader: leadersSession}))
	assert.True(t, l.see(messages.ReplicaSetSeen{Workers: 4, Leader: leadersSession + 1}), "another leads")
	assert.False(t, l.follows())
}

// readerAfter is a reader of some slots, as its window is after a position.
func readerAfter(after int64, slots ...slot.Range) *reader {
	r := &reader{window: newWindow(windowBytes, windowAhead), wants: readSet{slots: slots}, horizon: after, fallen: map[string]struct{}{}, worker: &worker{}}
	r.window.restart(after)
	return r
}

func TestEventsOfOtherSlotsAreNotRead(t *testing.T) {
	t.Parallel()
	own := slot.Range{From: 100, To: 200}
	for name, test := range map[string]struct {
		news  *announcement.News
		known bool
	}{
		"none":               {&announcement.News{Known: true, After: 5}, true},
		"of others":          {&announcement.News{Known: true, After: 5, Slots: []int32{99, 200}}, true},
		"known for longer":   {&announcement.News{Known: true, After: 3, Slots: []int32{7}}, true},
		"one of its own":     {&announcement.News{Known: true, After: 5, Slots: []int32{99, 100}}, false},
		"its last":           {&announcement.News{Known: true, After: 5, Slots: []int32{199}}, false},
		"some are not known": {&announcement.News{Known: true, After: 6}, false},
		"unknown":            {nil, false},
	} {
		r := readerAfter(5, own)
		assert.Equal(t, test.known, r.passes(messages.HorizonAdvanced{Position: 8, News: test.news}), name)
	}
	r := readerAfter(5, own)
	assert.False(t, r.passes(messages.HorizonAdvanced{Position: 5, News: &announcement.News{Known: true, After: 5}}), "it does not move")
	r.reads = []*statement{{}}
	assert.False(t, r.passes(messages.HorizonAdvanced{Position: 8, News: &announcement.News{Known: true, After: 5}}), "a statement is on its way")
}

// Of several workers one looks for events, and the others hear of them.
func TestFollowersHearOfEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	workers := make([]*testWorker, 3)
	for i := range workers {
		workers[i] = f.start(func(c *Config) { c.Timing.Poll = time.Minute }, &recorder{name: "p"})
	}
	eventually(t, func() bool { return f.active(len(workers)) > 0 }, "all workers are in a generation")
	heard := func() (n int) {
		for _, w := range workers {
			if w.count("notifications_total", "kind", "horizon") > 0 {
				n++
			}
		}
		return n
	}
	var all []int64
	eventually(t, func() bool {
		all = append(all, f.append("Order", 1)...)
		return heard() == len(workers)-1
	}, "the followers hear of events")
	eventually(t, func() bool { return len(f.handled("p")) >= len(all) }, "all events are handled")
	assert.ElementsMatch(t, all, f.handled("p"))
}

// finds is a finding with news.
func finds(position int64, news announcement.News) finding {
	return finding{announcement: announcement.Horizon{Position: position, News: news}}
}

func TestWhatWaitsIsAnnouncedTogether(t *testing.T) {
	t.Parallel()
	first := finds(5, announcement.News{Known: true, After: 3, Slots: []int32{7, 8}})
	next := announcement.News{Known: true, After: 5, Slots: []int32{9}}
	l := &lead{}
	l.add(first, false)
	assert.Equal(t, first, l.waiting)
	l.add(finds(6, next), false)
	assert.Equal(t, finds(6, announcement.News{Known: true, After: 3, Slots: []int32{7, 8, 9}}), l.waiting)

	l.waiting = first
	l.add(finds(8, announcement.News{Known: true, After: 6}), false)
	assert.False(t, l.waiting.announcement.News.Known, "there may be an event in between")
	l.waiting = first
	l.add(finds(6, next), true)
	assert.Equal(t, finds(6, next), l.waiting, "the events before may be gone, and their positions given again")
}

func TestManySessionsAreNotWokenTooOften(t *testing.T) {
	t.Parallel()
	var few, many pace
	for range 300 { // 100 appends a second, for three seconds
		few.add(1, 10*time.Millisecond, 2)
		many.add(1, 10*time.Millisecond, 32)
	}
	assert.False(t, few.high)
	assert.True(t, many.high)
	many.add(0, 500*time.Millisecond, 32)
	assert.True(t, many.high, "a pause is no end")
	many.add(0, 10*time.Second, 32)
	assert.False(t, many.high)
}
