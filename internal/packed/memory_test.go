package packed

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// heap is the memory that is in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// holds checks that lists take about as much memory as they say, and no more than most each.
func holds(t *testing.T, what string, most int64, lists func() []Events) {
	t.Helper()
	before := heap()
	all := lists()
	used, said := heap()-before, int64(0)
	for i := range all {
		said += all[i].Bytes()
	}
	each := used / int64(len(all))
	assert.LessOrEqual(t, each, most, "%s: bytes for each list", what)
	assert.InEpsilon(t, used, said, 0.35, "%s: %d bytes are used, and %d counted", what, used, said)
	runtime.KeepAlive(all)
}

// row is an event of a usual size.
func row(i int) *Row {
	return &Row{
		Position: int64(i + 1), BoundedContext: []byte("shop"), AggregateType: []byte("Order"), EventType: []byte("OrderPlaced"),
		AggregateID: fmt.Appendf(nil, "order-%d", i), Payload: bytes.Repeat([]byte("x"), 150),
	}
}

// A worker may hold thousands of lists for a projection that does not come on: they must take what is counted.
func TestListsTakeWhatIsCounted(t *testing.T) {
	const lists = 2000
	cut := func(expected, events, statements int) func() []Events {
		return func() (all []Events) {
			for range statements {
				b := Builder{Expected: expected}
				for range lists / statements {
					for i := range events {
						b.Add(row(i))
					}
					all = append(all, b.Cut())
				}
			}
			return all
		}
	}
	holds(t, "one event of each statement", 1<<10, cut(1000, 1, lists))
	holds(t, "three events of each statement", 2<<10, cut(1000, 3, lists))
	holds(t, "a statement in lists of one event", 1<<10, cut(1, 1, 1))
	holds(t, "a statement in lists of ten events", 4<<10, cut(10, 10, 1))
	holds(t, "a statement in lists of 100 events", 36<<10, cut(100, 100, 1))
}

// A processor that does not come on may hold what it picked of lists that all others have dropped.
func TestWhatIsPickedTakesWhatIsCounted(t *testing.T) {
	pick := func(every int) func() []Events {
		return func() (all []Events) {
			for range 100 {
				b := Builder{Expected: 1000}
				for i := range 1000 {
					b.Add(row(i))
				}
				all = append(all, b.Cut().Pick(func(i int) bool { return i%every == 0 }))
			}
			return all
		}
	}
	holds(t, "one in 1,000", 1<<10, pick(1000))
	holds(t, "one in 100", 8<<10, pick(100))
	holds(t, "one in two", 300<<10, pick(2))
}

func TestAPickKeepsNoLargeEventThatItDoesNotHave(t *testing.T) {
	t.Parallel()
	var b Builder
	for i := range 10 {
		b.Add(&Row{Position: int64(i), Payload: make([]byte, 1<<20)})
	}
	picked := b.Cut().Pick(func(i int) bool { return i == 3 })
	assert.Less(t, picked.Bytes(), int64(2<<20))
	assert.Len(t, picked.At(0).Payload, 1<<20)
}

// A list that was copied is the same list.
func TestPropertyCopiedListsAreTheSame(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var given []es.PersistedEvent
		for i := range rapid.IntRange(0, 8).Draw(rt, "events") {
			given = append(given, drawEvent(rt, int64(i+1)))
		}
		list := Pack(given)
		from := rapid.IntRange(0, len(given)).Draw(rt, "from")
		part := list.Slice(from, rapid.IntRange(from, len(given)).Draw(rt, "to"))
		copied := part.compact()
		require.Equal(rt, part.All(), copied.All())
		size := int64(0)
		for i := range copied.records {
			size += int64(Overhead + copied.records[i].size())
		}
		names := int64(0)
		for _, n := range copied.names {
			names += int64(len(n)) + 16
		}
		require.LessOrEqual(rt, copied.Bytes(), size+names+int64(len(copied.pieces))*(24+largeEvent))
	})
	// Few events of many names.
	var b Builder
	for i := range 1000 {
		b.Add(&Row{EventType: fmt.Appendf(nil, "type %d", i)})
	}
	copied := b.Cut().Slice(500, 502).compact()
	assert.Equal(t, "type 501", copied.At(1).EventType)
	assert.LessOrEqual(t, len(copied.names), 6)
}
