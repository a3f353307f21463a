package actors

import (
	"cmp"
	"log/slog"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
	"github.com/getpup/pupsourcing-orchestrator/v2/slot"
)

// reader reads events for all processors of one generation on this worker: once
// for all those that are near each other, and for each alone that is far behind,
// or whose slots have not met yet after a change of generation.
//
//	receives  ReadEvents        from a processor: answered with EventsRead
//	          HorizonAdvanced   from the supervisor: up to where it may read
//	sends     EventsRead        to the processor that asked
//	itself    windowRead, windowEnded, aloneRead
//
// It runs ahead of the processors, so that reading goes on while they handle:
// when less than windowAhead chunks are left before the first of them, it reads
// several more in one statement, each handed on as soon as it is there. A slow one never holds back the others: what it has not
// asked for is dropped when the window has its bytes, and it reads alone until
// it has caught up.
type reader struct {
	worker *worker
	log    *slog.Logger
	run    *run
	window *window
	union  union
	events *eventstore.ScopedReader

	horizon int64
	epoch   uint64
	reading bool // the window's next chunks are on their way
	chunk   int  // events of a chunk
	limit   int  // events of the next read
	waiting []question
	queue   []question // to be read alone
	alone   int        // such reads on their way
}

// question is a ReadEvents and who asked.
type question struct {
	messages.ReadEvents
	sender *actor.PID
}

type (
	// windowRead is the window's next chunk.
	windowRead struct {
		epoch uint64
		chunk chunk
	}
	// windowEnded follows the last windowRead of a statement.
	windowEnded struct {
		epoch  uint64
		events int
		bytes  int64
		err    error
	}
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
	// windowAhead is how many chunks are kept before the first processor.
	windowAhead = 2
	// firstEvents is the most events of a read, unless batches are larger, as
	// long as it is not known how large they are.
	firstEvents = 2000
	// mostEvents is the most events of a read: between two, a round trip passes in
	// which nothing streams.
	mostEvents = 16_000
	// readBytes is what a read is to take, as far as that can be foreseen, and
	// what bounds it where it cannot.
	readBytes     = 4 << 20
	mostReadBytes = 2 * readBytes
)

func newReader(w *worker, r *run, a messages.Assignment) *reader {
	u := unionOf(w, a)
	return &reader{
		worker: w, run: r, log: w.logger(kindReader).With("generation", r.generation),
		window: newWindow(windowBytes, windowAhead), union: u, events: eventstore.NewScopedReader(w.EventStore),
		chunk: max(w.Batch.Size, min(u.shares*w.Batch.Size, mostEvents)), limit: readLimit(w, firstEvents),
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
	case *aloneRead:
		r.alone--
		r.adapt(m.answer.Events.Len(), m.bytes)
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
		r.waiting = nil // their processors ask again
	}
	r.horizon = max(r.horizon, m.Position)
	r.readOn(c)
}

// asked answers a question from the window, lets it wait at the head, or reads
// for it alone.
func (r *reader) asked(c actor.Context, q question) {
	if q.Epoch != r.epoch {
		return // of before; its processor asks again
	}
	after := slot.Lowest(q.Pieces)
	level := !slices.ContainsFunc(q.Pieces, func(p slot.Piece) bool { return p.Position != after })
	at := r.window.find(after)
	if level && at == beyondWindow && len(r.waiting) == 0 && !r.reading {
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
		r.queue = append(r.queue, q)
		r.readAlone(c)
	}
	r.readOn(c)
}

// answer sends a part of the window.
func (r *reader) answer(c actor.Context, q question, k chunk) {
	c.Send(q.sender, messages.EventsRead{
		Sequence: q.Sequence, Events: k.Events, UpTo: k.UpTo, Filter: r.union.several, FilterSlots: r.union.severalSlots,
	})
}

// readOn reads the window's next chunks if somebody waits for them, or soon
// will. It reads ahead only while all have room: the first of them would run
// away from the others, which compute on the same processors.
func (r *reader) readOn(c actor.Context) {
	if r.reading || r.horizon <= r.window.head {
		return
	}
	limit, crowded := r.limit, r.window.crowded()
	if crowded {
		limit = min(limit, r.chunk)
	}
	ahead := !crowded && len(r.window.chunks) > 0 && r.window.wantsMore()
	if len(r.waiting) == 0 && !ahead {
		return
	}
	r.reading = true
	root, self := c.ActorSystem().Root, c.Self()
	query := eventstore.Query{
		Pieces: r.union.piecesAfter(r.window.head), UpTo: r.horizon, Limit: limit, MaxBytes: mostReadBytes,
		AggregateTypes: r.union.scope.AggregateTypes, BoundedContexts: r.union.scope.BoundedContexts,
		WithSlots: r.union.severalSlots,
	}
	after, size := r.window.head, r.chunk
	ended := &windowEnded{epoch: r.epoch}
	go func() {
		ended.err = r.events.Stream(r.run.hard, r.worker.Pool, query, size, func(p eventstore.Part) {
			root.Send(self, &windowRead{
				epoch: ended.epoch, chunk: chunk{After: after, UpTo: p.UpTo, Events: p.Events, Bytes: p.Bytes},
			})
			after = p.UpTo
			ended.events += p.Events.Len()
			ended.bytes += p.Bytes
		})
		root.Send(self, ended)
	}()
}

// windowRead takes in the next chunk and answers those who wait for it.
func (r *reader) windowRead(c actor.Context, m *windowRead) {
	if m.epoch != r.epoch || m.chunk.After != r.window.head {
		return // of a window before
	}
	r.window.add(m.chunk)
	for _, q := range r.waiting {
		r.answer(c, q, m.chunk)
	}
	r.waiting = nil
}

// windowEnded goes on after a read, or tells those who wait that it failed.
func (r *reader) windowEnded(c actor.Context, m *windowEnded) {
	r.reading = false
	r.adapt(m.events, m.bytes)
	if m.epoch == r.epoch && m.err != nil {
		for _, q := range r.waiting {
			c.Send(q.sender, messages.EventsRead{Sequence: q.Sequence, Err: m.err})
		}
		r.waiting = nil
		return
	}
	r.readOn(c)
}

// adapt sizes the next read by the bytes of this one.
func (r *reader) adapt(events int, bytes int64) {
	if events > 0 {
		most := int64(readLimit(r.worker, mostEvents))
		r.limit = int(min(most, max(1, readBytes*int64(events)/max(1, bytes))))
	}
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
		query := eventstore.Query{
			Pieces: q.Pieces, UpTo: r.aloneUpTo(q.Pieces), Limit: min(r.limit, readLimit(r.worker, firstEvents)), MaxBytes: mostReadBytes,
			AggregateTypes: q.AggregateTypes, BoundedContexts: q.BoundedContexts,
		}
		go func() {
			read := &aloneRead{question: q, answer: messages.EventsRead{Sequence: q.Sequence}}
			read.answer.Err = r.events.Stream(r.run.hard, r.worker.Pool, query, query.Limit, func(p eventstore.Part) {
				read.answer.Events, read.answer.UpTo, read.bytes = p.Events, p.UpTo, p.Bytes
			})
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
