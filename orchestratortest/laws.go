package orchestratortest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// CheckLaws checks that the projection builds the same read model from the events, however workers handle them:
//
//   - Again: the read model depends on the events only, not on the clock or on anything kept in memory.
//   - After a rollback nothing is left: the projection writes through tx only.
//   - In batches of other sizes. If it has HandleBatch, also one by one through Handle, unless Handle returns
//     projection.ErrBatchOnly or projection.ErrSQLOnly. The same applies to HandleSQLBatch and HandleSQL.
//   - Divided among 2 to 8 partitions, unless it is unpartitioned. They are handled one after the other, in either
//     order, and by turns.
//   - With a crash at any point of a batch, after which the batch is handled again.
//
// read returns the read model in a form that [reflect.DeepEqual] compares, such as a slice of structs. The events form
// one stream, in order, and are completed as by [Handle]. Everything happens in transactions that are rolled back, on
// the tables as they are.
//
// If the projection breaks a law, the test fails and ends. The failure names the law and the smallest part of the events
// that was found to break it. If read returns nil, or something without elements, after each of the events, there is
// nothing to compare, and the test's log says so.
func CheckLaws(tb testing.TB, db *pgxpool.Pool, p projection.Projection, events []es.Event, read func(pgx.Tx) (any, error)) {
	tb.Helper()
	d, err := handling.Describe[projection.Wrapper, projection.ErrorPolicied](p)
	if err != nil {
		tb.Fatalf("the projection cannot be run: %v", err)
	}
	c := checker{db: db, projection: d, read: read}
	var stored []es.PersistedEvent
	of := &stream{versions: map[[3]string]int64{}}
	for i, e := range events {
		if err := check(e); err != nil {
			tb.Fatalf("the event at index %d: %v", i, err)
		}
		if one := of.store(e); wants(d.Scope.AggregateTypes, one.AggregateType) && wants(d.Scope.BoundedContexts, one.BoundedContext) {
			stored = append(stored, one)
		}
	}
	if len(stored) == 0 {
		tb.Fatalf("there must be at least one event in the scope of projection %q", d.Name)
	}
	ctx := tb.Context()
	broken, err := c.firstBroken(ctx, stored, "")
	if err != nil {
		tb.Fatalf("projection %q: %v", d.Name, err)
	}
	if broken == nil {
		if empty, err := c.readsNothing(ctx, stored); empty && err == nil {
			tb.Logf("projection %q: the read model was empty after each of the events, so there was nothing to compare: "+
				"have read return what the handler writes, and give events that make it write", d.Name)
		}
		return
	}
	smallest := c.shrink(ctx, stored, broken)
	tb.Fatalf("projection %q makes a different read model %s:\n  %s: %v\n  then, %s: %v\n%sThe smallest events that show it:%s",
		d.Name, smallest.law, smallest.first(), smallest.want, smallest.law, smallest.got, hints[smallest.law], described(smallest.events))
}

// The laws that have a hint.
const (
	rolledBack = "after a rollback"
	again      = "when it is handled again"
)

// hints say what mostly breaks a law.
var hints = map[string]string{
	rolledBack: "The handler may write outside of tx.\n",
	again:      "The handler may keep something in memory, or read the clock.\n",
}

// checker checks one projection.
type checker struct {
	db         *pgxpool.Pool
	projection handling.Description
	read       func(pgx.Tx) (any, error)
}

// breach is a law that is broken, and the read models that show it.
type breach struct {
	law       string
	events    []es.PersistedEvent
	want, got any
}

// first says which read model the other one is compared with.
func (b breach) first() string {
	if b.law == rolledBack {
		return "before all events"
	}
	return "the first run, in order"
}

// variant is a way to handle events.
type variant struct {
	law     string
	batches [][]es.PersistedEvent
	crash   int  // how many events of each batch are handled, and rolled back, before it is handled; 0 for none
	eager   bool // reads after each batch, and ends with the first read model that has something
	single  bool // through Handle, also where there is a HandleBatch
}

// runTimeout bounds one way to handle the events: a handler that writes elsewhere may wait for its own transaction.
const runTimeout = 10 * time.Second

// usual is how many events the batches of the usual way have.
const usual = 4

// firstBroken is the first law that the events break, or the first with that name; nil if none is.
func (c checker) firstBroken(ctx context.Context, events []es.PersistedEvent, law string) (*breach, error) {
	empty, err := c.run(ctx, variant{law: "without events"})
	if err != nil {
		return nil, err
	}
	want, err := c.run(ctx, variant{law: "in order", batches: cut(events, usual)})
	if err != nil {
		return nil, err
	}
	for _, v := range c.variants(events) {
		if law != "" && v.law != law {
			continue
		}
		got, err := c.run(ctx, v)
		switch {
		case v.single && (errors.Is(err, projection.ErrBatchOnly) || errors.Is(err, projection.ErrSQLOnly)):
			continue
		case err != nil:
			return nil, err
		case len(v.batches) == 0 && !reflect.DeepEqual(got, empty):
			return &breach{law: v.law, events: events, want: empty, got: got}, nil
		case len(v.batches) > 0 && !reflect.DeepEqual(got, want):
			return &breach{law: v.law, events: events, want: want, got: got}, nil
		}
	}
	return nil, nil //nolint:nilnil // no law is broken
}

// readsNothing says whether the read model is empty after each of the events.
func (c checker) readsNothing(ctx context.Context, events []es.PersistedEvent) (bool, error) {
	model, err := c.run(ctx, variant{law: "one by one", batches: cut(events, 1), eager: true})
	return nothing(model), err
}

// nothing says whether a read model is nil, or has no elements.
func nothing(model any) bool {
	v := reflect.ValueOf(model)
	switch v.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer:
		return v.IsNil()
	case reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	default:
		return false
	}
}

// variants are all ways to handle the events.
func (c checker) variants(events []es.PersistedEvent) []variant {
	all := []variant{
		{law: rolledBack},
		{law: again, batches: cut(events, usual)},
	}
	for _, size := range []int{1, 2, 7, len(events)} {
		all = append(all, variant{law: fmt.Sprintf("in batches of %d", size), batches: cut(events, size)})
	}
	if _, whole := c.projection.Projection.(handling.BatchHandler); whole {
		all = append(all, variant{law: "through Handle", batches: cut(events, usual), single: true})
	}
	for crash := 1; crash <= usual; crash++ {
		all = append(all, variant{law: fmt.Sprintf("after crashes behind %d events", crash), batches: cut(events, usual), crash: crash})
	}
	for n := 2; n <= 8 && !c.projection.Unpartitioned; n++ {
		parts := divide(events, n)
		backwards := slices.Clone(parts)
		slices.Reverse(backwards)
		all = append(all,
			variant{law: fmt.Sprintf("when divided into %d partitions", n), batches: cut(slices.Concat(parts...), usual)},
			variant{law: fmt.Sprintf("when divided into %d partitions, handled last first", n), batches: cut(slices.Concat(backwards...), usual)},
			variant{law: fmt.Sprintf("when divided into %d partitions, handled by turns", n), batches: byTurns(backwards)})
	}
	return all
}

// run handles events in a transaction that is rolled back, and returns the read model.
func (c checker) run(ctx context.Context, v variant) (model any, err error) {
	limited, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	tx, err := c.db.Begin(limited)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	for _, batch := range v.batches {
		if v.crash > 0 {
			if err := c.handle(limited, tx, v, batch[:min(v.crash, len(batch))], false); err != nil {
				return nil, err
			}
		}
		if err := c.handle(limited, tx, v, batch, true); err != nil {
			return nil, err
		}
		if !v.eager {
			continue
		}
		if model, err = c.read(tx); err != nil || !nothing(model) {
			return model, err
		}
	}
	if model, err = c.read(tx); err != nil {
		return nil, fmt.Errorf("reading the read model %s: %w", v.law, err)
	}
	return model, nil
}

// handle has a batch handled, and keeps or undoes what was written.
func (c checker) handle(ctx context.Context, tx pgx.Tx, v variant, batch []es.PersistedEvent, keep bool) error {
	own, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	p := c.projection.Projection
	if v.single {
		p = oneByOne{p}
	}
	if handled, err := handling.Handle(ctx, p, batchtx.Guard(own), handling.List(batch), nil); err != nil {
		return fmt.Errorf("it failed %s: %w\nThe event, and those after it in its batch:%s", v.law, err, described(batch[min(handled, len(batch)-1):]))
	}
	if keep {
		return own.Commit(ctx)
	}
	return own.Rollback(ctx)
}

// oneByOne hides HandleBatch.
type oneByOne struct{ handling.Projection }

// shrink returns the breach of the law by as few of its events as are found soon.
func (c checker) shrink(ctx context.Context, events []es.PersistedEvent, found *breach) *breach {
	until := time.Now().Add(runTimeout)
	for size := len(events) / 2; size >= 1; size /= 2 {
		for from := 0; from < len(found.events) && time.Now().Before(until); {
			fewer := slices.Delete(slices.Clone(found.events), from, min(from+size, len(found.events)))
			if smaller := c.breaks(ctx, fewer, found.law); smaller != nil {
				found = smaller
				continue
			}
			from += size
		}
	}
	return found
}

// breaks is the breach of a law by events; nil if they do not break it, or cannot be handled.
func (c checker) breaks(ctx context.Context, events []es.PersistedEvent, law string) *breach {
	if len(events) == 0 {
		return nil
	}
	found, err := c.firstBroken(ctx, events, law)
	if err != nil {
		return nil
	}
	return found
}

// cut cuts events into batches.
func cut(events []es.PersistedEvent, size int) [][]es.PersistedEvent {
	return slices.Collect(slices.Chunk(events, size))
}

// divide divides events among n partitions, by their aggregates.
func divide(events []es.PersistedEvent, n int) [][]es.PersistedEvent {
	parts := make([][]es.PersistedEvent, n)
	for _, e := range events {
		h := fnv.New32a()
		_, _ = h.Write([]byte(e.AggregateID))
		k := int(h.Sum32() % uint32(n))
		parts[k] = append(parts[k], e)
	}
	return parts
}

// byTurns takes two events of each partition in turn.
func byTurns(parts [][]es.PersistedEvent) (batches [][]es.PersistedEvent) {
	const each = 2
	rest := slices.Clone(parts)
	for more := true; more; {
		more = false
		for k, part := range rest {
			if len(part) > 0 {
				n := min(each, len(part))
				batches, rest[k], more = append(batches, part[:n]), part[n:], true
			}
		}
	}
	return batches
}

// described lists events.
func described(events []es.PersistedEvent) string {
	const most = 20
	var text strings.Builder
	for i, e := range events {
		if i == most {
			fmt.Fprintf(&text, "\n  and %d more", len(events)-most)
			break
		}
		fmt.Fprintf(&text, "\n  %d: %s of %s %q, version %d: %.80q", e.GlobalPosition, e.EventType, e.AggregateType, e.AggregateID, e.AggregateVersion, e.Payload)
	}
	return text.String()
}
