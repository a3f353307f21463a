package horizon

import (
	"context"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/announcement"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// glanceMost is how many events a glance reads at most. If more were appended since the probe before, it costs more than to look at the locks.
const glanceMost = 256

// glanceRest is for how long no glance is tried after one that a lock on the events table excluded.
const glanceRest = time.Second

// noHole is no position.
const noHole = -1

// partitioned is the relkind of a table whose key may include more than the position. Then a row that was entered by hand at a position that
// an open transaction has drawn would seem to be that transaction's, so a glance is not enough.
const partitioned = "p"

const lockNotAvailable = "55P03" // SQLSTATE

// quietAfter is how many probes in a row must have found nothing new before the next one reads the sequence only.
const quietAfter = 8

// glancesLong is how many times as long as a glance transactions are given to end, and how many times Options.HoleAfter at most.
const glancesLong = 4

// holeAfter is how long a position may be missing. Where the server takes long to answer, it takes long to commit too, and a look at the locks makes it slower.
func (p *Prober) holeAfter() time.Duration {
	return max(p.opts.HoleAfter, min(glancesLong*p.glanced, glancesLong*p.opts.HoleAfter))
}

// glance finds the horizon without a look at all locks, which is one cheap statement, where that is possible: no number was drawn
// since all were settled, or all numbers drawn since have become visible. In front of a hole, where a transaction is
// open or was rolled back, it finds the horizon for a moment, since most transactions end soon; if the hole is still
// there then, the locks are looked at.
//
// What it saw is forgotten if it finds nothing: the look that follows finds out.
func (p *Prober) glance(ctx context.Context) (reading Reading, found bool, err error) {
	before := p.tracker.Horizon()
	if !p.tracker.started || p.count.on || p.facts.kind == partitioned || time.Since(p.locked) < glanceRest || (p.hole == before && time.Since(p.holeSince) >= p.holeAfter()) {
		return Reading{}, false, nil
	}
	began := time.Now()
	seen, err := p.see(ctx, before)
	p.glanced = time.Since(began)
	if dbfault.Code(err) == lockNotAvailable || dbfault.IsCutShort(err) {
		p.locked = time.Now()
		return Reading{}, false, nil
	}
	if err != nil {
		return Reading{}, false, err
	}
	lastValue := seen.lastValue()
	if seen.facts != p.facts || !seen.mayRead || !seen.server.follows(p.server) || lastValue < p.tracker.reached {
		return Reading{}, false, nil
	}
	if lastValue > before || !p.tracker.Settled() {
		if lastValue-before > glanceMost || p.known.Regression.stands() {
			return Reading{}, false, nil
		}
		if outdated, err := p.outdated(ctx); err != nil || outdated {
			return Reading{}, false, err
		}
	}
	if lastValue < p.extent.highest {
		return Reading{}, false, p.behind(lastValue)
	}
	p.server = seen.server.after(p.server)
	end, slots := seen.withoutHole(before)
	reading = Reading{Position: p.tracker.Settle(end), LastValue: lastValue, Table: p.target.table, Epoch: p.epoch}
	if p.opts.Slot != "" && reading.Position == end {
		reading.News = announcement.News{Known: true, After: before, Slots: slots}
	}
	if reading.Position < lastValue {
		if reading.Holders = 1; p.hole != reading.Position {
			p.hole, p.holeSince = reading.Position, time.Now()
		}
	}
	if p.quiet++; lastValue > before {
		p.quiet = 0
	}
	if reading.Position > before || reading.Position == lastValue {
		p.stuck = stuck{at: reading.Position, since: time.Now()}
	}
	return reading, true, nil
}

// see reads the target's state and the events above the horizon. Where none have come for a while it reads the sequence first, which needs one statement
// and no lock on the table: if no number was drawn there is nothing more to see.
func (p *Prober) see(ctx context.Context, before int64) (sight, error) {
	if p.quiet >= quietAfter && p.tracker.Settled() {
		if seen, err := p.target.look(ctx, p.db); err != nil || seen.lastValue() <= before {
			return seen, err
		}
	}
	return p.target.glance(ctx, p.db, before)
}
