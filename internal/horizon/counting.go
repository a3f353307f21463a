package horizon

import (
	"context"
	"fmt"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

const (
	// countSpan is how many rows one statement reads to find out whether they are without a hole. It takes some 20 ms.
	countSpan = 50_000
	// leastSpan is how few rows it reads at least, where the server cuts longer statements short.
	leastSpan = 100
	// countLimit is up to how many events are counted for a RegressionError.
	countLimit = 10_000
)

// counting is how far the positions above the floor turned out to be visible without a hole. While transactions that the first probe met
// hold the horizon back, it shows what they don't own.
type counting struct {
	on   bool      // they do
	from int64     // all positions up to here are visible or settled
	span int64     // how many rows the next statement reads
	next time.Time // not before, after a hole was met
}

// countOn raises the horizon to where the positions from the floor on are visible without a hole, if it stands there for want of
// anything better. One call reads a bounded number of rows; the next probe goes on.
func (p *Prober) countOn(ctx context.Context, lastValue, position int64) (int64, error) {
	c := &p.count
	if c.on = c.on && position <= c.from; !c.on || position >= lastValue || time.Now().Before(c.next) {
		return position, nil
	}
	upTo, err := p.withoutHole(ctx, c.from, lastValue)
	switch {
	case dbfault.IsCutShort(err):
		c.span = max(c.span/4, leastSpan)
		c.next = time.Now().Add(p.opts.RegressionsEvery)
		return position, nil
	case err != nil:
		return 0, err
	case upTo < min(c.from+c.span, lastValue):
		c.next = time.Now().Add(p.opts.RegressionsEvery)
	}
	c.from = upTo
	return p.tracker.Settle(upTo), nil
}

// withoutHole returns up to where the events above one position, up to another, are visible without a hole.
func (p *Prober) withoutHole(ctx context.Context, after, upTo int64) (end int64, err error) {
	if err := p.db.QueryRow(ctx, sqlWithoutHole(p.target.tableName, p.target.table), after, p.count.span, upTo).Scan(&end); err != nil {
		return 0, p.target.hidden(fmt.Errorf("looking for a hole above position %d: %w", after, err))
	}
	return end, nil
}

// countVisible is how many events are visible above one position, up to and
// including another, but no more than countLimit.
func (p *Prober) countVisible(ctx context.Context, after, upTo int64) (visible int64, err error) {
	if err := p.db.QueryRow(ctx, sqlCountVisible(p.target.tableName, p.target.table), after, upTo, int64(countLimit)).Scan(&visible); err != nil {
		return 0, p.target.hidden(fmt.Errorf("counting the events above position %d: %w", after, err))
	}
	return visible, nil
}
