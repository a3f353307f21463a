package actors

// sizing sizes the reads of the window by what those before have found: how large events are, and how many of the positions are
// wanted events'. It is a value of the reader's goroutine and does no I/O.
type sizing struct {
	most  int   // events of a read, whatever their size
	limit int   // events of the next read
	span  int64 // positions in which about limit wanted events are; 0 if it is not known
}

const (
	// mostSpan bounds the positions of a read that is to end before the horizon. They are passed over in some 30 ms.
	mostSpan = 1 << 17
	// widestSpan bounds what spans without events grow to.
	widestSpan = 1 << 62
)

// size sizes reads by one that found events of so many bytes.
func (p *sizing) size(events int, bytes int64) {
	if events > 0 {
		p.limit = int(min(int64(p.most), max(1, readBytes*int64(events)/max(1, bytes))))
	}
}

// learn sizes reads by one of the window's, which found events of so many bytes in so many positions. A span in which there were
// none is doubled, without a bound: it may be a hole that is wider than any stretch of events.
func (p *sizing) learn(positions int64, events int, bytes int64) {
	p.size(events, bytes)
	switch {
	case events > 0:
		perEvent := float64(positions) / float64(events)
		p.span = max(int64(p.limit), int64(min(mostSpan, perEvent*float64(p.limit))))
	case positions > 0 && positions >= p.span:
		p.span = max(int64(p.limit), 2*min(positions, widestSpan/2))
	}
}

// next is the next read after a position: a span, while there are two before the horizon, so that the read after it can
// begin before it has ended; else all up to the horizon, as far as the limit goes. A span may have twice the
// events that are expected.
func (p *sizing) next(after, horizon int64) (upTo int64, limit int, bounded bool) {
	if p.span == 0 || (horizon-after)/2 < p.span {
		return horizon, p.limit, false
	}
	return after + p.span, 2 * p.limit, true
}
