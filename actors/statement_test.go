package actors

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/budget"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
)

// reading is a reader without processors, on a pool of its own that is watched.
type reading struct {
	*fixture
	pool   *pgxpool.Pool
	worker *worker
	run    *run
	system *actor.ActorSystem
	reader *actor.PID
	asked  uint64

	mu     sync.Mutex
	before func(ctx context.Context, after int64) context.Context // a statement is sent; unless nil
	open   map[int]func() error                                   // whether the contexts of the statements have ended, by their numbers
	most   int                                                    // at once that were not given up
	sent   int
}

// tracedKey is the context's for the number of a statement that is counted.
type tracedKey struct{}

func (r *reading) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if !strings.Contains(data.SQL, "ORDER BY global_position LIMIT") {
		return ctx
	}
	r.mu.Lock()
	r.sent++
	r.open[r.sent] = ctx.Err
	open := 0
	for _, ended := range r.open {
		if ended() == nil {
			open++
		}
	}
	r.most = max(r.most, open)
	before := r.before
	ctx = context.WithValue(ctx, tracedKey{}, r.sent)
	r.mu.Unlock()
	if before != nil {
		ctx = before(ctx, data.Args[0].(int64))
	}
	return ctx
}

func (r *reading) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if number, traced := ctx.Value(tracedKey{}).(int); traced {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.open, number)
	}
}

// onSending sets what is called before each statement is sent.
func (r *reading) onSending(before func(ctx context.Context, after int64) context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.before = before
}

// counts is how many statements were open at once, at most, and how many were sent.
func (r *reading) counts() (most, sent int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.most, r.sent
}

// newReading starts a reader with a pool of so many connections, for events of a type, or all.
func newReading(t *testing.T, connections int32, types ...string) *reading {
	t.Helper()
	r := &reading{fixture: newFixture(t), run: newRun(1, time.Second), system: quietSystem(), open: map[int]func() error{}}
	config := r.fixture.pool.Config()
	config.MaxConns, config.ConnConfig.Tracer = connections, r
	var err error
	r.pool, err = pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(r.pool.Close)
	r.worker = &worker{
		Config: Config{
			Pool: r.pool, EventStore: r.events, Logger: slog.New(slog.DiscardHandler), Batch: BatchConfig{Size: 100},
		},
		batches: budget.New(connections).Join(budget.KeptForWorkers, time.Hour),
		db:      dbguard.New(r.pool),
		scopes:  map[string]handling.Scope{"p": {AggregateTypes: types}},
	}
	assignment := messages.Assignment{Generation: 1, Partitions: []messages.PartitionAssignment{{
		Partition: slot.Partition{Key: 0, Total: 1}, Projections: []messages.ProjectionAssignment{{Projection: "p"}},
	}}}
	r.reader = r.system.Root.Spawn(actor.PropsFromProducer(func() actor.Actor { return newReader(r.worker, r.run, assignment) }))
	t.Cleanup(func() {
		r.run.cancel(errStopping)
		assert.NoError(t, r.system.Root.StopFuture(r.reader).Wait())
		r.awaitNothingOpen()
		r.system.Shutdown()
	})
	return r
}

// fill stores events whose aggregate types and payloads' sizes are SQL of i, from 1 to n, and lets the horizon be the last position.
func (r *reading) fill(n int, aggregateType, size string) (horizon int64) {
	r.t.Helper()
	r.exec(`INSERT INTO events (bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type, payload)
		SELECT 'shop', `+aggregateType+`, 'a-' || i, i + 0, gen_random_uuid(), 'Happened', convert_to(repeat('x', `+size+`), 'UTF8')
		FROM generate_series(1, $1) AS i ORDER BY i`, n)
	return query[int64](r.fixture, `SELECT max(global_position) FROM events`)
}

func (r *reading) advance(position int64, epoch uint64) {
	r.system.Root.Send(r.reader, messages.HorizonAdvanced{Position: position, Epoch: epoch})
}

// ask asks for what follows a position.
func (r *reading) ask(after int64, epoch uint64) *actor.Future {
	r.asked++
	return r.system.Root.RequestFuture(r.reader, messages.ReadEvents{
		Consumer: "p", Sequence: r.asked, Epoch: epoch, Pieces: []slot.Piece{{Range: slot.All(), Position: after}},
		AggregateTypes: r.worker.scopes["p"].AggregateTypes,
	}, deadline)
}

// answer is the answer to a question.
func (r *reading) answer(f *actor.Future) messages.EventsRead {
	r.t.Helper()
	got, err := f.Result()
	require.NoError(r.t, err)
	return got.(messages.EventsRead)
}

// all asks for one part after the other up to a position, and returns the positions of the events.
func (r *reading) all(after, upTo int64, epoch uint64) (positions []int64) {
	r.t.Helper()
	for after < upTo {
		got := r.answer(r.ask(after, epoch))
		require.NoError(r.t, got.Err)
		require.Greater(r.t, got.UpTo, after)
		for i := range got.Events.Len() {
			positions = append(positions, got.Events.Position(i))
		}
		after = got.UpTo
	}
	return positions
}

// wanted is the positions that are to be read above one.
func (r *reading) wanted(after int64) []int64 {
	return query[[]int64](r.fixture, `SELECT array_agg(global_position ORDER BY global_position) FROM events
		WHERE global_position > $1 AND ($2::text[] IS NULL OR aggregate_type = ANY ($2))`, after, r.worker.scopes["p"].AggregateTypes)
}

// awaitNothingOpen waits until no statement is open, and demands that what they had was given back.
func (r *reading) awaitNothingOpen() {
	r.t.Helper()
	eventually(r.t, func() bool { return r.pool.Stat().AcquiredConns() == 0 && allFree(r.worker.batches) }, "statements are open, or keep batches' places")
}

// The window gets each event once and in order, whichever of two statements the server is done with first, and they are never more
// than two.
func TestReadingAheadLosesNothing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		events              int
		aggregateType, size string
		change              string
		types               []string
		connections         int32
		most                int
	}{
		"small events":           {events: 80_000, size: "20", connections: 12, most: 2},
		"the least that suffice": {events: 3000, size: "16000", connections: budget.KeptForWorkers + batchesToSpare, most: 2},
		"a small pool":           {events: 3000, size: "16000", connections: 4, most: 1},
		"payloads of 1 MiB":      {events: 40, size: "1048576", connections: 12, most: 2},
		"events become larger":   {events: 4000, size: "CASE WHEN i < 1500 THEN 4000 WHEN i % 500 = 0 THEN 2000000 ELSE 20000 END", connections: 12, most: 2},
		"some, then all, then none": {
			events: 60_000, size: "500", aggregateType: "CASE WHEN i < 20000 AND i % 50 > 0 OR i > 50000 THEN 'Other' ELSE 'Order' END",
			types: []string{"Order"}, connections: 12, most: 2,
		},
		"a hole": {
			events: 10_000, size: "4000", connections: 12, most: 2,
			change: `UPDATE events SET global_position = global_position + 1000000000000 WHERE global_position > 5000`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReading(t, tt.connections, tt.types...)
			r.onSending(hesitate(tt.most))
			if tt.aggregateType == "" {
				tt.aggregateType = "'Order'"
			}
			horizon := r.fill(tt.events, tt.aggregateType, tt.size)
			if tt.change != "" {
				r.exec(tt.change)
				horizon = query[int64](r.fixture, `SELECT max(global_position) FROM events`)
			}
			r.advance(horizon, 1)
			require.Equal(t, r.wanted(0), r.all(0, horizon, 1))
			most, sent := r.counts()
			assert.Equal(t, tt.most, most, "statements open at once")
			assert.Less(t, sent, 200)
		})
	}
}

// hesitate keeps every third statement from being sent until the next one is there, or some time has passed, so that the server
// begins the second before the first.
func hesitate(most int) func(context.Context, int64) context.Context {
	var mu sync.Mutex
	sent, next := 0, make(chan struct{})
	return func(ctx context.Context, _ int64) context.Context {
		mu.Lock()
		sent++
		close(next)
		next = make(chan struct{})
		wait, third := next, sent%3 == 0
		mu.Unlock()
		if third && most > 1 {
			select {
			case <-wait:
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		return ctx
	}
}

// twoOpen is a reader that has read the first 2000 events and has two statements open. The first is not sent
// before proceed is called, which may give it another context.
type twoOpen struct {
	*reading
	first   *actor.Future // the question that waits for it
	horizon int64
	proceed chan func(context.Context) context.Context
}

// twoOpenAfter is where the first of them begins.
const twoOpenAfter = 2000

// unchanged leaves a context as it is, broken lets what has it fail.
func unchanged(ctx context.Context) context.Context { return ctx }

func broken(ctx context.Context) context.Context {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	return ended
}

// newTwoOpen gives the second statement a context by a function.
func newTwoOpen(t *testing.T, change func(context.Context) context.Context) *twoOpen {
	t.Helper()
	r := &twoOpen{reading: newReading(t, 12), proceed: make(chan func(context.Context) context.Context)}
	first, second := make(chan struct{}, 1), make(chan struct{}, 1)
	r.onSending(func(ctx context.Context, after int64) context.Context {
		switch {
		case after < twoOpenAfter:
			return ctx
		case after > twoOpenAfter:
			second <- struct{}{}
			return change(ctx)
		}
		first <- struct{}{}
		select {
		case change := <-r.proceed:
			return change(ctx)
		case <-ctx.Done():
			return ctx
		}
	})
	r.horizon = r.fill(10_000, "'Order'", "4000")
	r.advance(r.horizon, 1)
	require.Len(t, r.all(0, twoOpenAfter, 1), twoOpenAfter)
	r.first = r.ask(twoOpenAfter, 1)
	receive(t, first, "there is no statement")
	receive(t, second, "there is no second statement")
	return r
}

func TestANewEpochDropsWhatIsReadAhead(t *testing.T) {
	t.Parallel()
	r := newTwoOpen(t, unchanged)
	r.advance(r.horizon, 2)
	r.awaitNothingOpen()
	r.onSending(nil)
	require.Equal(t, r.wanted(0), r.all(0, r.horizon, 2))
}

func TestTheEndOfARunEndsWhatIsReadAhead(t *testing.T) {
	t.Parallel()
	r := newTwoOpen(t, unchanged)
	r.run.cancel(errStopping)
	r.awaitNothingOpen()
	require.Error(t, r.answer(r.first).Err)
}

// If the first of two statements fails, nothing of the second is taken in, nothing is sent before somebody asks again, and the answer
// begins where the first began.
func TestAnErrorDropsWhatIsReadAhead(t *testing.T) {
	t.Parallel()
	r := newTwoOpen(t, unchanged)
	r.onSending(nil)
	r.proceed <- broken
	require.ErrorIs(t, r.answer(r.first).Err, context.Canceled)
	r.awaitNothingOpen()
	_, sent := r.counts()
	assert.Equal(t, 3, sent)
	require.Equal(t, r.wanted(twoOpenAfter), r.all(twoOpenAfter, r.horizon, 1))
}

// If the second of two statements fails, what the first reads is taken in, and the error comes after it.
func TestAnErrorOfWhatIsReadAheadComesInItsTurn(t *testing.T) {
	t.Parallel()
	r := newTwoOpen(t, broken)
	r.onSending(nil)
	r.proceed <- unchanged
	var positions []int64
	failed := 0
	for after, asked := int64(twoOpenAfter), r.first; after < r.horizon; asked = r.ask(after, 1) {
		got := r.answer(asked)
		if got.Err != nil {
			failed++
			require.Greater(t, after, int64(twoOpenAfter))
			require.Equal(t, 1, failed, "it is tried again")
			continue
		}
		for i := range got.Events.Len() {
			positions = append(positions, got.Events.Position(i))
		}
		after = got.UpTo
	}
	require.Equal(t, r.wanted(twoOpenAfter), positions)
}

// A statement that fails before its query is sent, as where looking for the scope index fails, ends after the one before all the same:
// the reader takes an end that comes out of turn for one that it has given up, and would wait for this one for ever.
func TestAStatementEndsInTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ended []*statement
		send := func(m *windowEnded) { ended = append(ended, m.statement) }
		first := &statement{ended: make(chan struct{})}
		second := &statement{before: first, ended: make(chan struct{})}
		failed := errors.New("no index to be found")
		go second.run(func() error { return failed }, send)
		synctest.Wait()
		require.Empty(t, ended)
		first.run(func() error { return nil }, send)
		<-second.ended
		require.Equal(t, []*statement{first, second}, ended)
		require.Equal(t, failed, second.err)
	})
}

// allFree says whether no batch has a place.
func allFree(s *budget.Share) bool {
	taken := 0
	for range s.AtOnce() {
		if release, ok := s.Try(); ok {
			defer release()
			taken++
		}
	}
	return taken == s.AtOnce()
}
