package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
)

// BoundedContext is the context of all events that writers append.
const BoundedContext = "workload"

// errRolledBack ends a transaction that was meant to leave nothing.
var errRolledBack = errors.New("rolled back on purpose")

// step is one append of a transaction.
type step struct {
	aggregateType, aggregateID string
	events                     int
	hold                       time.Duration // after it, with the transaction open
}

// transaction is what a writer does at once, drawn beforehand.
type transaction struct {
	steps    []step
	rollback bool
	rest     time.Duration // after it
}

// newTransaction draws a transaction. Its aggregates are in one order for all writers, so that they cannot deadlock.
func newTransaction(o WriterOptions) transaction {
	t := transaction{rollback: rand.Float64() < o.RollbackShare, rest: upTo(o.MaxPause)}
	hold := upTo(o.MaxHold)
	n := 1 + rand.IntN(o.MaxAppends)
	for range n {
		kind := o.AggregateTypes[rand.IntN(len(o.AggregateTypes))]
		t.steps = append(t.steps, step{
			aggregateType: kind,
			aggregateID:   fmt.Sprintf("%s-%d", kind, rand.IntN(o.Aggregates)),
			events:        1 + rand.IntN(o.MaxEvents),
			hold:          hold / time.Duration(n),
		})
	}
	slices.SortFunc(t.steps, func(a, b step) int { return strings.Compare(a.aggregateID, b.aggregateID) })
	t.steps = slices.CompactFunc(t.steps, func(a, b step) bool { return a.aggregateID == b.aggregateID })
	return t
}

// upTo is a random duration from 0 to d.
func upTo(d time.Duration) time.Duration { return rand.N(d + 1) }

// events is how many the transaction appends.
func (t transaction) events() int {
	n := 0
	for _, s := range t.steps {
		n += s.events
	}
	return n
}

// run performs the transaction. It returns errRolledBack if it was to be rolled back, and was.
func (t transaction) run(ctx context.Context, pool *pgxpool.Pool, store *eventstore.Store) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		for _, s := range t.steps {
			if _, err := store.Append(ctx, tx, es.Any(), s.draw()); err != nil {
				return err
			}
			if err := pause(ctx, s.hold); err != nil {
				return err
			}
		}
		if t.rollback {
			return errRolledBack
		}
		return nil
	})
}

// draw makes the events of the append.
func (s step) draw() []es.Event {
	events := make([]es.Event, s.events)
	for i := range events {
		events[i] = es.Event{
			BoundedContext: BoundedContext,
			AggregateType:  s.aggregateType,
			AggregateID:    s.aggregateID,
			EventType:      s.aggregateType + "Changed",
			Payload:        fmt.Appendf(nil, `{"amount": %d}`, rand.IntN(1000)),
		}
	}
	return events
}
