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
//	itself    windowRead, aloneRead
//
// It runs ahead of the processors by windowAhead chunks, so that reading goes
// on while they handle. A slow one never holds back the others: what it has not
// asked for is dropped when the window has its bytes, and it reads alone until
// it has caught up.
type reader struct {
	worker *worker
	log    *slog.Logger
	run    *run
	window *window
	union  union

	horizon int64
	epoch   uint64
	reading bool // the window's next chunk is on its way
	limit   int  // events of the next chunk
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
		err   error
	}
	// aloneRead is the answer to one question.
	aloneRead struct {
		question question
		answer   messages.EventsRead
		bytes    int64
	}
)

const (
	// windowBytes bounds the decoded events that are held.
	windowBytes = 16 << 20
	// windowAhead is how many chunks are read before they are asked for.
	windowAhead = 2
	// readEvents is the most events of a read, unless batches are larger: each
	// read costs a round trip in which nothing streams.
	readEvents = 2000
	// chunkBytes bounds one read.
	chunkBytes = 4 << 20
)

func newReader(w *worker, r *run, a messages.Assignment) *reader {
	return &reader{
		worker: w, run: r, log: w.logger(kindReader).With("generation", r.generation),
		window: newWindow(windowBytes, windowAhead), union: unionOf(w, a), limit: readLimit(w),
	}
}

// readLimit is the most events of a read.
func readLimit(w *worker) int { return max(w.Batch.Size, readEvents) }

// Receive is the actor's protocol.
func (r *reader) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case messages.ReadEvents:
		r.asked(c, question{ReadEvents: m, sender: c.Sender()})
	case messages.HorizonAdvanced:
		r.advance(c, m)
	case *windowRead:
		r.windowRead(c, m)
	case *aloneRead:
		r.alone--
		r.adapt(len(m.answer.Events), m.bytes)
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
	c.Send(q.sender, messages.EventsRead{Sequence: q.Sequence, Events: k.Events, Slots: k.Slots, UpTo: k.UpTo, Filter: r.union.several})
}

// readOn reads the window's next chunk if somebody waits for it, or soon will.
func (r *reader) readOn(c actor.Context) {
	if r.reading || r.horizon <= r.window.head || (len(r.waiting) == 0 && (len(r.window.chunks) == 0 || !r.window.wantsMore())) {
		return
	}
	r.reading = true
	root, self := c.ActorSystem().Root, c.Self()
	query := eventstore.Query{
		Pieces: r.union.piecesAfter(r.window.head), UpTo: r.horizon, Limit: r.limit, MaxBytes: chunkBytes,
		AggregateTypes: r.union.scope.AggregateTypes, BoundedContexts: r.union.scope.BoundedContexts,
		WithSlots: r.union.severalSlots,
	}
	result := &windowRead{epoch: r.epoch, chunk: chunk{After: r.window.head}}
	go func() {
		page, err := r.worker.EventStore.Read(r.run.hard, r.worker.Pool, query)
		result.chunk.UpTo, result.chunk.Events, result.chunk.Slots, result.chunk.Bytes = page.UpTo, page.Events, page.Slots, page.Bytes
		result.err = err
		root.Send(self, result)
	}()
}

// windowRead takes in the next chunk and answers those who wait for it.
func (r *reader) windowRead(c actor.Context, m *windowRead) {
	r.reading = false
	waiting := r.waiting
	r.waiting = nil
	switch {
	case m.epoch != r.epoch || m.chunk.After != r.window.head:
		r.waiting = waiting
	case m.err != nil:
		for _, q := range waiting {
			c.Send(q.sender, messages.EventsRead{Sequence: q.Sequence, Err: m.err})
		}
		return
	default:
		r.adapt(len(m.chunk.Events), m.chunk.Bytes)
		r.window.add(m.chunk)
		for _, q := range waiting {
			r.answer(c, q, m.chunk)
		}
	}
	r.readOn(c)
}

// adapt sizes the next read by the bytes of this one.
func (r *reader) adapt(events int, bytes int64) {
	if events > 0 {
		r.limit = int(min(int64(readLimit(r.worker)), max(1, chunkBytes*int64(events)/max(1, bytes))))
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
			Pieces: q.Pieces, UpTo: r.aloneUpTo(q.Pieces), Limit: r.limit, MaxBytes: chunkBytes,
			AggregateTypes: q.AggregateTypes, BoundedContexts: q.BoundedContexts,
		}
		go func() {
			page, err := r.worker.EventStore.Read(r.run.hard, r.worker.Pool, query)
			answer := messages.EventsRead{Sequence: q.Sequence, Events: page.Events, UpTo: page.UpTo, Err: err}
			root.Send(self, &aloneRead{question: q, answer: answer, bytes: page.Bytes})
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
