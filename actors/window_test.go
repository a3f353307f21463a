package actors

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
)

// chunkOf is a chunk of events at positions.
func chunkOf(after, upTo, bytes int64, positions ...int64) chunk {
	events := make([]es.PersistedEvent, len(positions))
	for i, p := range positions {
		events[i].GlobalPosition = p
	}
	return chunk{After: after, UpTo: upTo, Events: packed.Pack(events), Bytes: bytes}
}

// Consumers that ask in any order, at any pace: each gets every event, once, in order, from the window or, where it has fallen out
// of it, by reading alone up to where the window begins; and the window keeps to its bytes.
func TestPropertyTheWindowLosesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const eventBytes, most = 10, 200
		w := newWindow(most, 20)
		last := int64(0) // of the stream
		var wanted []int64
		consumers := map[string]int64{}
		got := map[string][]int64{}
		for i := range rapid.IntRange(1, 3).Draw(rt, "consumers") {
			consumers[fmt.Sprint(i)] = 0
			w.ask(fmt.Sprint(i), 0)
		}
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			if rapid.Bool().Draw(rt, "read") {
				after, positions := last, []int64(nil)
				for range rapid.IntRange(0, 6).Draw(rt, "positions") {
					last++
					if rapid.Bool().Draw(rt, "wanted") {
						positions = append(positions, last)
					}
				}
				if last == after {
					continue
				}
				wanted = append(wanted, positions...)
				w.add(chunkOf(after, last, int64(len(positions))*eventBytes, positions...))
			} else {
				name := fmt.Sprint(rapid.IntRange(0, len(consumers)-1).Draw(rt, "consumer"))
				after := consumers[name]
				w.ask(name, after)
				switch w.find(after) {
				case insideWindow:
					k := w.from(after)
					for i := range k.Events.Len() {
						got[name] = append(got[name], k.Events.Position(i))
					}
					require.Greater(rt, k.UpTo, after, "there is progress")
					consumers[name] = k.UpTo
				case behindWindow:
					for _, p := range wanted {
						if p > after && p <= w.start {
							got[name] = append(got[name], p)
						}
					}
					consumers[name] = w.start
				case atHead:
					require.Equal(rt, last, after)
				default:
					rt.Fatalf("beyond the window at %d", after)
				}
			}
			require.Equal(rt, last, w.head)
			if len(w.chunks) > 1 {
				require.LessOrEqual(rt, w.bytes(), int64(most))
			}
			for name, after := range consumers {
				var before []int64
				for _, p := range wanted {
					if p <= after {
						before = append(before, p)
					}
				}
				require.Equal(rt, before, got[name])
			}
		}
	})
}

func TestTheWindowIsCrowdedWhileAConsumerIsAboutToFallOut(t *testing.T) {
	t.Parallel()
	w := newWindow(100, 2)
	w.ask("slow", 0)
	w.ask("fast", 0)
	assert.False(t, w.crowded(50), "empty")
	for i := range int64(5) {
		w.add(chunkOf(i, i+1, 10, i+1))
		w.ask("fast", i+1)
	}
	assert.False(t, w.crowded(50), "half is before the slow one")
	w.add(chunkOf(5, 6, 10, 6))
	assert.True(t, w.crowded(50))
	w.ask("slow", 1)
	assert.False(t, w.crowded(50), "it has come on")
	for i := int64(6); i < 12; i++ {
		w.add(chunkOf(i, i+1, 10, i+1))
		w.ask("fast", i+1)
	}
	assert.Equal(t, behindWindow, w.find(1))
	assert.False(t, w.crowded(50), "who has fallen out holds nobody up")
}
