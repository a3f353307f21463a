package packed

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// drawEvent draws an event as a database could hold it.
func drawEvent(rt *rapid.T, position int64) es.PersistedEvent {
	text := rapid.OneOf(rapid.SampledFrom([]string{"", "a", "b"}), rapid.String())
	value := rapid.OneOf(rapid.Just([]byte(nil)), rapid.SliceOfN(rapid.Byte(), 0, 20), rapid.Map(
		rapid.SampledFrom([]int{minPiece - 1, minPiece, maxPiece / 4, maxPiece/4 + 1, maxPiece, maxPiece + 1, 1 << 20}),
		func(size int) []byte { return bytes.Repeat([]byte{byte(size)}, size) }))
	null := func(label string) es.NullString {
		if !rapid.Bool().Draw(rt, label) {
			return es.NullString{}
		}
		return es.String(text.Draw(rt, label))
	}
	return es.PersistedEvent{
		GlobalPosition: position, AggregateVersion: rapid.Int64().Draw(rt, "version"),
		EventVersion:   rapid.Int().Draw(rt, "event version"),
		CreatedAt:      time.UnixMicro(rapid.Int64Range(-210_866_803_200_000_000, 9_223_371_331_199_999_999-1).Draw(rt, "created")).UTC(),
		BoundedContext: text.Draw(rt, "context"), AggregateType: text.Draw(rt, "type"), EventType: text.Draw(rt, "event type"),
		AggregateID: text.Draw(rt, "id"), Payload: value.Draw(rt, "payload"), Metadata: value.Draw(rt, "metadata"),
		TraceID: null("trace"), CorrelationID: null("correlation"), CausationID: null("causation"),
		EventID: uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "event id")),
	}
}

// What is packed comes out as it went in, whatever lists it is cut into, and stays so while later ones are filled.
func TestPropertyUnpackedIsWhatWasPacked(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := Builder{Expected: rapid.IntRange(0, 5).Draw(rt, "expected")}
		var given, got []es.PersistedEvent
		var cut []Events
		for i := range rapid.IntRange(0, 12).Draw(rt, "events") {
			e := drawEvent(rt, int64(i+1))
			given = append(given, e)
			row := RowOf(&e)
			row.Slot = uint16(i)
			before := b.Bytes()
			b.Add(&row)
			require.Equal(rt, e.GlobalPosition, b.LastPosition())
			require.GreaterOrEqual(rt, b.Bytes()-before, int64(Overhead+len(e.Payload)+len(e.Metadata)))
			if rapid.Bool().Draw(rt, "cut") {
				cut = append(cut, b.Cut())
				require.Zero(rt, b.Len())
				require.Zero(rt, b.Bytes())
			}
		}
		cut = append(cut, b.Cut())
		n := 0
		for _, list := range cut {
			for i := range list.Len() {
				require.Equal(rt, given[n], list.At(i))
				require.Equal(rt, given[n].GlobalPosition, list.Position(i))
				require.Equal(rt, given[n].AggregateType, list.AggregateType(i))
				require.Equal(rt, given[n].BoundedContext, list.BoundedContext(i))
				require.Equal(rt, n, list.Slot(i))
				n++
			}
			got = append(got, list.All()...)
		}
		require.Equal(rt, given, got)
		require.Equal(rt, given, Pack(given).All())
	})
}

// Slices and picks of a list are what they would be of an ordinary one.
func TestPropertySlicesAndPicksAreThoseOfAList(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var given []es.PersistedEvent
		for i := range rapid.IntRange(0, 8).Draw(rt, "events") {
			given = append(given, drawEvent(rt, int64(i+1)))
		}
		list := Pack(given)
		from := rapid.IntRange(0, len(given)).Draw(rt, "from")
		to := rapid.IntRange(from, len(given)).Draw(rt, "to")
		chosen := rapid.SliceOfN(rapid.Bool(), to-from, to-from).Draw(rt, "chosen")
		var want []es.PersistedEvent
		for i, c := range chosen {
			if c {
				want = append(want, given[from+i])
			}
		}
		got := list.Slice(from, to).Pick(func(i int) bool { return chosen[i] })
		require.Equal(rt, len(want), got.Len())
		require.Equal(rt, want, got.All())
		require.Len(rt, list.All(), len(given), "the list has changed")
	})
}

func TestWhatIsAddedIsCopied(t *testing.T) {
	t.Parallel()
	var b Builder
	var given, got [][]byte
	random := rand.New(rand.NewPCG(1, 2))
	buffer := make([]byte, 1<<18)
	for i := range 2000 {
		value := buffer[:random.IntN(1<<random.IntN(18))]
		for j := range value {
			value[j] = byte(i)
		}
		given = append(given, bytes.Clone(value))
		b.Add(&Row{AggregateID: value, Payload: value})
	}
	list := b.Cut()
	for i := range list.Len() {
		e := list.At(i)
		_ = append(e.Payload, "written over a neighbour"...)
		got = append(got, e.Payload)
	}
	for i := range got {
		require.True(t, bytes.Equal(given[i], got[i]), "value %d of %d bytes", i, len(given[i]))
		require.Equal(t, string(given[i]), list.At(i).AggregateID)
		require.NotNil(t, got[i])
	}
}

func TestManyNamesAreAllKept(t *testing.T) {
	t.Parallel()
	var b Builder
	name := func(i int) []byte { return fmt.Appendf(nil, "name %d", i%(2*maxKnown)) }
	for i := range 5 * maxKnown {
		b.Add(&Row{BoundedContext: name(i), AggregateType: name(i + 1), EventType: name(i + 2)})
	}
	list := b.Cut()
	for i := range list.Len() {
		e := list.At(i)
		require.Equal(t, []string{string(name(i)), string(name(i + 1)), string(name(i + 2))}, []string{e.BoundedContext, e.AggregateType, e.EventType})
	}
}

func TestAListMakesRoomForWhatItHas(t *testing.T) {
	t.Parallel()
	tests := []struct{ events, expected, most int }{
		{1, 1, 1}, {1, 1000, firstCapacity}, {64, 1000, firstCapacity}, {65, 1000, 1000}, {1000, 1000, 1000}, {65, 70, 70}, {65, 0, 1024}, {3000, 0, 5000},
	}
	for _, tt := range tests {
		b := Builder{Expected: tt.expected}
		for i := range tt.events {
			b.Add(&Row{Position: int64(i + 1)})
		}
		list := b.Cut()
		assert.Equal(t, tt.events, list.Len())
		assert.Equal(t, int64(tt.events), list.Position(tt.events-1))
		assert.LessOrEqual(t, cap(list.records), tt.most, "%d events of about %d", tt.events, tt.expected)
	}
}

func TestEventsAreFewAllocations(t *testing.T) {
	const events = 1000
	rows := make([]Row, events)
	for i := range rows {
		rows[i] = Row{AggregateID: fmt.Appendf(nil, "order-%d", i), Payload: make([]byte, 200), EventType: []byte("OrderPlaced")}
	}
	var list Events
	filling := testing.AllocsPerRun(10, func() {
		b := Builder{Expected: events}
		for i := range rows {
			b.Add(&rows[i])
		}
		list = b.Cut()
	})
	assert.LessOrEqual(t, filling, 30.0)
	length := 0
	assert.Zero(t, testing.AllocsPerRun(10, func() {
		for i := range list.Len() {
			e := list.At(i)
			length += len(e.Payload)
		}
	}))
	assert.NotZero(t, length)
}

func TestMicrosecondsAreThoseOfPostgreSQL(t *testing.T) {
	t.Parallel()
	assert.Zero(t, Microseconds(time.Date(2000, 1, 1, 0, 0, 0, 999, time.UTC)))
	assert.Equal(t, int64(-1), Microseconds(time.Date(1999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)))
	assert.Equal(t, int64(3_600_000_000), Microseconds(time.Date(2000, 1, 1, 0, 0, 0, 0, time.FixedZone("west", -3600))))
	last := Pack([]es.PersistedEvent{{CreatedAt: time.Unix(epoch2000+math.MaxInt64/1_000_000, 0)}}).At(0)
	assert.Equal(t, 294277, last.CreatedAt.Year())
}

// BenchmarkAt is what unpacking adds to each call of a handler.
func BenchmarkAt(b *testing.B) {
	given := make([]es.PersistedEvent, 1000)
	for i := range given {
		given[i] = es.PersistedEvent{AggregateID: "order-1", Payload: make([]byte, 200), EventType: "OrderPlaced", CorrelationID: es.String("process-1")}
	}
	list := Pack(given)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if e := list.At(i % 1000); len(e.Payload) != 200 {
			b.Fatal(e)
		}
	}
}
