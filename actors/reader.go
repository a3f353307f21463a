package actors

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/eventread"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/health"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
)

// reader reads events for all processors of one generation on this worker: once
// for all those that are near each other, and for each alone that is far behind,
// or whose slots have not met yet after a change of generation.
//
//	receives  ReadEvents        from a processor: answered with EventsRead
//	          HorizonAdvanced   from the supervisor: up to where it may read
//	          ProgressAsked     from the supervisor: it ends a round
//	sends     EventsRead        to the processor that asked
//	itself    windowRead, windowEnded, aloneRead, waitedEnough
//
// It runs ahead of the processors, so that reading goes on while they handle:
// when less than windowAhead bytes are left ahead of the furthest of them, it reads
// several more in one statement, each handed on as soon as it is there. While the
// horizon is far ahead, the next statement is sent before this one has ended,
// on a connection that no batch needs: the server is at it already when it is taken in. A slow one never holds back the others: what it has not
// asked for is dropped when the window has its bytes, and it reads alone until
// it has caught up.
type reader struct {
	worker *worker
	log    *slog.Logger
	loop   *health.Loop
	run    *run
	window *window
	wants  readSet
	events *eventread.Reader

	horizon int64
	table   uint32 // the horizon's events table, by oid
	epoch   uint64
	reads   []*statement // the window's, on their way: at most two, the second after the first
	chunk   int          // events of a chunk
	sizing  sizing
	waiting []question
	queue   []question // to be read alone
	alone   int        // such reads on their way

	fallen map[string]struct{} // consumers that have just fallen out of the window
	budget stragglerBudget
	wake   *time.Timer // sends waitedEnough
}

// question is a ReadEvents and who asked.
type question struct {
	messages.ReadEvents
	sender *actor.PID
}

type (
	// windowRead is the window's next chunk.
	windowRead struct {
		statement *statement
		chunk     chunk
	}
	// windowEnded follows the last windowRead of a statement.
	windowEnded struct{ statement *statement }
	// waitedEnough says that those who have too much ahead of them were waited for.
	waitedEnough struct{}
	// aloneRead is the answer to one question.
	aloneRead struct {
		question question
		answer   messages.EventsRead
		bytes    int64
	}
)

const (
	// windowBytes bounds the events that are held.
	windowBytes = 16 << 20
	// windowAhead is how many bytes are kept ahead of the furthest processor.
	windowAhead = windowBytes / 4
	// firstEvents is the most events of a read, unless batches are larger, for one
	// processor alone, and as long as it is not known how large they are.
	firstEvents = 2000
	// mostShared is the most events of a chunk that is divided among partitions,
	// unless batches are larger.
	mostShared = 4000
	// mostEvents is the most events of a read: between two, a round trip passes in
	// which nothing streams.
	mostEvents = 16_000
	// readBytes is what a read is to take, as far as that can be foreseen, and
	// what bounds it where it cannot.
	readBytes     = 4 << 20
	mostReadBytes = 2 * readBytes
)

func newReader(w *worker, r *run, a messages.Assignment) *reader {
	u := readSetOf(w, a)
	return &reader{
		worker: w, run: r, log: w.logger(kindReader).With("generation", r.generation), loop: w.Loops.Watch(kindReader, quietRound),
		window: newWindow(windowBytes, windowAhead), wants: u, events: eventread.New(w.EventStore, w.logger(kindReader)),
		fallen: map[string]struct{}{},
		chunk:  max(w.Batch.Size, min(u.shares*w.Batch.Size, mostShared)),
		sizing: sizing{most: readLimit(w, mostEvents), limit: readLimit(w, firstEvents)},
	}
}

// readLimit is the most events of a read, at least a batch.
func readLimit(w *worker, events int) int { return max(w.Batch.Size, events) }

// Receive is the actor's protocol.
func (r *reader) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case messages.ReadEvents:
		r.asked(c, question{ReadEvents: m, sender: c.Sender()})
	case messages.HorizonAdvanced:
		r.advance(c, m)
	case *windowRead:
		r.windowRead(c, m)
	case *windowEnded:
		r.windowEnded(c, m)
	case *waitedEnough:
		r.readOn(c)
	case messages.ProgressAsked:
		r.loop.Round()
	case *actor.Stopping:
		stopTimers(r.wake)
		r.run.endLoop(r.loop)
	case *aloneRead:
		r.alone--
		r.worker.Metrics.Read(measure.FromAlone)
		r.sizing.size(m.answer.Events.Len(), m.bytes)
		c.Send(m.question.sender, m.answer)
		r.readAlone(c)
	default:
		unknown(c, r.worker, kindReader)
	}
}

// advance takes in the horizon. In a new epoch, what is held may be gone.
func (r *reader) advance(c actor.Context, m messages.HorizonAdvanced) {
	if m.Epoch != r.epoch {
		r.epoch, r.horizon = m.Epoch, 0
		r.window.restart(0)
		r.dropReads()
		r.waiting = nil // their processors ask again
	}
	r.horizon, r.table = max(r.horizon, m.Position), m.Table
	if r.passes(m) {
		r.add(c, chunk{After: r.window.head, UpTo: m.Position, Bytes: chunkBytes})
	}
	r.readOn(c)
}

// passes says whether nothing is to be read up to a horizon: no event between the window's head and it is of the slots that are wanted.
func (r *reader) passes(m messages.HorizonAdvanced) bool {
	n := m.News
	return n != nil && len(r.reads) == 0 && n.After <= r.window.head && r.window.head < m.Position && !r.wants.wantsSlots(n.Slots)
}

// add takes in the window's next chunk and answers those who wait for it.
func (r *reader) add(c actor.Context, k chunk) {
	r.window.add(k)
	for _, q := range r.waiting {
		r.answer(c, q, k)
	}
	r.waiting = nil
}

// asked answers a question from the window, lets it wait at the head, or reads
// for it alone.
func (r *reader) asked(c actor.Context, q question) {
	if q.Epoch != r.epoch {
		return // of before; its processor asks again
	}
	after := slot.Lowest(q.Pieces)
	level := !q.Partial && !slices.ContainsFunc(q.Pieces, func(p slot.Piece) bool { return p.Position != after })
	at := r.window.find(after)
	delete(r.fallen, q.Consumer)
	if level && at == beyondWindow && len(r.waiting) == 0 && len(r.reads) == 0 {
		r.window.restart(after)
		at = atHead
	}
	switch {
	case level && at == insideWindow:
		r.window.ask(q.Consumer, after)
		r.answer(c, q, r.window.from(after))
	case level && at == atHead:
		r.window.ask(q.Consumer, after)
		r.waiting = append(r.waiting, q)
	default:
		// The window keeps what comes next for it, as long as it has room, so that
		// one read alone brings it back.
		r.window.ask(q.Consumer, after)
		if level && at == behindWindow && r.window.start-after <= r.window.head-r.window.start {
			r.fallen[q.Consumer] = struct{}{}
		}
		r.queue = append(r.queue, q)
		r.readAlone(c)
	}
	r.readOn(c)
}

// answer sends a part of the window.
func (r *reader) answer(c actor.Context, q question, k chunk) {
	r.worker.Metrics.Read(measure.FromWindow)
	c.Send(q.sender, messages.EventsRead{
		Sequence: q.Sequence, Events: k.Events, UpTo: k.UpTo, Filter: r.wants.several, FilterSlots: r.wants.severalSlots,
	})
}

// readOn reads the window's next chunks if somebody waits for them, or soon
// will. It waits a little, and never reads ahead, while one has too much before it: the first of them would run
// away from the others, which compute on the same processors.
func (r *reader) readOn(c actor.Context) {
	crowded := r.window.crowded(windowBytes / 2)
	if wait := r.lenient(crowded); wait > 0 {
		r.readAfter(c, wait)
		return
	}
	ahead := !crowded && len(r.window.chunks) > 0 && r.window.wantsMore()
	if len(r.waiting) == 0 && !ahead {
		return
	}
	if len(r.reads) == 0 && r.horizon > r.window.head {
		upTo, limit, bounded := r.sizing.next(r.window.head, r.horizon)
		if crowded {
			upTo, limit, bounded = r.horizon, min(r.sizing.limit, r.chunk), false
		}
		r.read(c, &statement{after: r.window.head, upTo: upTo, bounded: bounded, giveBack: func() {}}, limit, r.worker.db)
	}
	r.readAhead(c)
}

// lenient is how long to wait for projections that are about to fall out of the window, or
// have just done so, while there is much to read for all. A projection that is still behind then is permanently slower.
func (r *reader) lenient(crowded bool) time.Duration {
	if r.horizon-r.window.head < mostEvents {
		clear(r.fallen)
		return 0
	}
	wait := r.budget.wait(crowded || len(r.fallen) > 0, time.Now())
	if wait == 0 {
		clear(r.fallen)
	}
	return wait
}

// readAfter reads on after a while, if not earlier.
func (r *reader) readAfter(c actor.Context, d time.Duration) {
	stopTimers(r.wake)
	root, self := c.ActorSystem().Root, c.Self()
	r.wake = time.AfterFunc(d, func() { root.Send(self, &waitedEnough{}) })
}

// readAhead begins the statement after the one under way, if that is known to
// end far before the horizon. There must be room for both in the window.
func (r *reader) readAhead(c actor.Context) {
	if len(r.reads) != 1 || !r.reads[0].bounded || r.window.crowded(windowAhead) {
		return
	}
	before := r.reads[0]
	if r.horizon-before.upTo < r.sizing.span {
		return
	}
	giveBack, ok := r.worker.spareConnection()
	if !ok {
		return
	}
	upTo, limit, bounded := r.sizing.next(before.upTo, r.horizon)
	own := &statement{after: before.upTo, upTo: upTo, bounded: bounded, before: before, giveBack: giveBack}
	r.read(c, own, limit, inTurn{DB: r.worker.db, own: own})
}

// read begins a statement. Its chunks come to the window in their order, and then its end.
func (r *reader) read(c actor.Context, s *statement, limit int, db eventread.DB) {
	ctx, cancel := context.WithCancel(r.run.hard)
	s.cancel, s.ended, s.reached = cancel, make(chan struct{}), s.after
	r.reads = append(r.reads, s)
	root, self, size := c.ActorSystem().Root, c.Self(), r.chunk
	query := eventread.Query{
		Pieces: r.wants.piecesAfter(s.after), UpTo: s.upTo, Table: r.table, Limit: limit, MaxBytes: mostReadBytes,
		AggregateTypes: r.wants.scope.AggregateTypes, BoundedContexts: r.wants.scope.BoundedContexts,
		WithSlots: r.wants.severalSlots,
	}
	take := func(p eventread.Part) {
		if p.UpTo == s.reached {
			return // the rest of the range, of which nothing is left
		}
		root.Send(self, &windowRead{statement: s, chunk: chunk{After: s.reached, UpTo: p.UpTo, Events: p.Events, Bytes: p.Bytes + chunkBytes}})
		s.reached = p.UpTo
		s.events += p.Events.Len()
		s.bytes += p.Bytes
	}
	go func() {
		defer cancel()
		defer s.giveBack()
		s.run(func() error { return r.events.Stream(ctx, db, query, size, take) }, func(m *windowEnded) { root.Send(self, m) })
	}()
}

// dropReads gives up the statements under way: what they send from now on is
// not taken in.
func (r *reader) dropReads() {
	for _, s := range r.reads {
		s.cancel()
	}
	r.reads = nil
}

// windowRead takes in the next chunk and answers those who wait for it.
func (r *reader) windowRead(c actor.Context, m *windowRead) {
	if !slices.Contains(r.reads, m.statement) || m.chunk.After != r.window.head {
		return // of a window before
	}
	r.add(c, m.chunk)
}

// windowEnded goes on after a read, or tells those who wait that it failed.
func (r *reader) windowEnded(c actor.Context, m *windowEnded) {
	s := m.statement
	if len(r.reads) == 0 || r.reads[0] != s {
		return // it was dropped
	}
	r.reads = r.reads[1:]
	r.sizing.learn(s.reached-s.after, s.events, s.bytes)
	if s.err != nil || s.reached != s.upTo {
		r.dropReads() // what follows begins elsewhere
	}
	if s.err != nil {
		for _, q := range r.waiting {
			c.Send(q.sender, messages.EventsRead{Sequence: q.Sequence, Err: s.err})
		}
		r.waiting = nil
		return
	}
	r.readOn(c)
}

// readAlone begins the next read for one processor alone, if there is a
// connection for it.
func (r *reader) readAlone(c actor.Context) {
	most := max(1, int(r.worker.Pool.Config().MaxConns)/4)
	root, self := c.ActorSystem().Root, c.Self()
	for len(r.queue) > 0 && r.alone < most {
		q := r.queue[0]
		r.queue = r.queue[1:]
		r.alone++
		query := eventread.Query{
			Pieces: q.Pieces, UpTo: r.aloneUpTo(q.Pieces), Table: r.table, Limit: min(r.sizing.limit, readLimit(r.worker, firstEvents)), MaxBytes: mostReadBytes,
			AggregateTypes: q.AggregateTypes, BoundedContexts: q.BoundedContexts,
		}
		go func() {
			read := &aloneRead{question: q, answer: messages.EventsRead{Sequence: q.Sequence}}
			p, err := r.events.Next(r.run.hard, r.worker.db, query)
			read.answer.Events, read.answer.UpTo, read.answer.Err, read.bytes = p.Events, p.UpTo, err, p.Bytes
			root.Send(self, read)
		}()
	}
}

// aloneUpTo is up to where a processor reads alone: to where its slots meet, or
// to where the window begins, so that it goes on with the others.
func (r *reader) aloneUpTo(pieces []slot.Piece) int64 {
	low := slot.Lowest(pieces)
	high := slices.MaxFunc(pieces, func(a, b slot.Piece) int { return cmp.Compare(a.Position, b.Position) }).Position
	upTo := r.horizon
	if high > low {
		upTo = min(upTo, high)
	}
	if r.window.start > low {
		upTo = min(upTo, r.window.start)
	}
	return upTo
}
