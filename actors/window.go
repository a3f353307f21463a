package actors

import (
	"sort"
	"unsafe"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
)

// The window is what the reader keeps of the stream in memory, for all processors of the worker: what it has, how far each has asked, and what may be dropped. It is a value of the
// reader's goroutine and does no I/O.

// chunk is decoded events of one read: all that the worker's partitions want of
// the positions above After, up to and including UpTo. It is never changed.
type chunk struct {
	After, UpTo int64
	Events      packed.Events
	Bytes       int64 // that are held for it
	before      int64 // bytes of all earlier chunks that the window has had
}

// chunkBytes is what a chunk takes besides its events.
const chunkBytes = int64(unsafe.Sizeof(chunk{}))

// tail is the part of the chunk above a position.
func (k chunk) tail(after int64) chunk {
	n := k.Events.Len()
	first := sort.Search(n, func(i int) bool { return k.Events.Position(i) > after })
	return chunk{After: after, UpTo: k.UpTo, Events: k.Events.Slice(first, n)}
}

// window is the stretch of the stream that a worker holds decoded for all its
// processors: chunks without a gap, bounded in bytes. It knows how far each
// consumer has asked, to run ahead of the furthest and to drop what the last has
// behind it. It is a value of the reader's goroutine and does no I/O.
type window struct {
	limit     int64 // bytes
	ahead     int64 // bytes that are read before anybody asks
	start     int64 // position before the first chunk
	head      int64 // position that the last chunk reaches
	dropped   int64 // bytes of the chunks before those that are held
	added     int64 // bytes of all chunks
	chunks    []chunk
	consumers map[string]int64 // the position after which each asked last
}

func newWindow(limit, ahead int64) *window {
	return &window{limit: limit, ahead: ahead, consumers: map[string]int64{}}
}

// place says where a position is, seen from the window.
type place int

const (
	behindWindow place = iota // below what is held: read for it alone
	insideWindow              // held
	atHead                    // held next
	beyondWindow              // further on than the window
)

// find says where the position is.
func (w *window) find(after int64) place {
	switch {
	case after == w.head:
		return atHead
	case after > w.head:
		return beyondWindow
	case after < w.start:
		return behindWindow
	default:
		return insideWindow
	}
}

// from is what is held above a position inside the window, up to the end of a
// chunk.
func (w *window) from(after int64) chunk {
	i := sort.Search(len(w.chunks), func(i int) bool { return w.chunks[i].UpTo > after })
	return w.chunks[i].tail(after)
}

// ask takes note of how far a consumer has come.
func (w *window) ask(consumer string, after int64) {
	w.consumers[consumer] = after
	w.drop()
}

// restart empties the window and lets it begin at a position.
func (w *window) restart(after int64) {
	w.start, w.head, w.dropped, w.added, w.chunks = after, after, 0, 0, nil
}

// add appends a chunk that begins at the head.
func (w *window) add(k chunk) {
	w.head = k.UpTo
	if k.Events.Len() == 0 && len(w.chunks) > 0 { // a stretch without wanted events
		w.chunks[len(w.chunks)-1].UpTo = k.UpTo
		return
	}
	k.before = w.added
	w.chunks = append(w.chunks, k)
	w.added += k.Bytes
	w.drop()
}

// drop lets go of the chunks that every consumer has behind it, and of the
// oldest while there are too many bytes. The last one stays.
func (w *window) drop() {
	passed := w.head
	for _, after := range w.consumers {
		passed = min(passed, after)
	}
	gone := 0
	for gone < len(w.chunks)-1 && (w.chunks[gone].UpTo <= passed || w.bytes() > w.limit) {
		w.dropped += w.chunks[gone].Bytes
		w.start = w.chunks[gone].UpTo
		w.chunks[gone] = chunk{}
		gone++
	}
	w.chunks = w.chunks[gone:]
}

// bytes is what is held.
func (w *window) bytes() int64 { return w.added - w.dropped }

// wantsMore says whether it is worth to read on: the consumer that is furthest
// has fewer than ahead bytes ahead of it.
func (w *window) wantsMore() bool {
	furthest := w.start
	for _, after := range w.consumers {
		furthest = max(furthest, after)
	}
	i := sort.Search(len(w.chunks), func(i int) bool { return w.chunks[i].UpTo > furthest })
	return i == len(w.chunks) || w.added-w.chunks[i].before < w.ahead
}

// crowded says whether a consumer has more than so many bytes ahead of it: if the others read on as fast as
// they can, it falls out of the window and must read again what they have read.
func (w *window) crowded(bytes int64) bool {
	// The last chunk that is followed by so many bytes, with its own.
	i := sort.Search(len(w.chunks), func(i int) bool { return w.added-w.chunks[i].before <= bytes }) - 1
	if i < 0 {
		return false
	}
	for _, after := range w.consumers {
		if after >= w.start && after < w.chunks[i].UpTo {
			return true
		}
	}
	return false
}
