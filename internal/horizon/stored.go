package horizon

import (
	"context"
	"fmt"
	"time"
)

// Stored is a horizon that some Prober has found and stored for others. It is the floor of a Prober that starts.
type Stored struct {
	// Term counts how often what was stored turned out to be void.
	Term int64
	// Position is the horizon; 0 if none is stored.
	Position int64
	// Sequence and Filenode say which sequence it speaks of. ALTER SEQUENCE gives a sequence another filenode, and so do TRUNCATE with
	// RESTART IDENTITY and a restore.
	Sequence, Filenode uint32
	// Table is the oid of the events table of which it was found, and Event the last event up to Position. Both stay when the position turns
	// out to be void: by them a table that takes the name is recognized.
	Table uint32
	Event Event
	// Fresh says that it was stored within the last second.
	Fresh bool
}

// Event is an event that was stored at a position. The zero value is none.
type Event struct {
	Position int64
	ID       string
}

// Known is what Probers with the same Checkpoints know, as of one moment.
type Known struct {
	// Checkpoint is the highest position that any reader has stored, 0 if there is none. People may write
	// checkpoints too, so it is no floor: it only shows that the sequence is below.
	Checkpoint int64
	// Regression is the latest regression.
	Regression Regression
	// Stored is the stored horizon.
	Stored Stored
}

// mine is a horizon that this Prober has found, for its next start. It holds while the server has not crashed
// and nobody has found it void.
type mine struct {
	position int64
	stored   Stored // its term and sequence
}

// storing is when and how the horizon is stored.
type storing struct {
	last     time.Time     // when it was stored last, or could not be
	rest     time.Duration // for how long it is not tried again after a failure
	failures int           // in a row
}

const (
	// storeTimeout bounds storing the horizon: somebody may have locked the table.
	storeTimeout = 2 * time.Second
	// storeRest is the longest time after failures in which nothing is stored.
	storeRest = time.Minute
)

// rememberMine keeps the horizon and the last event over a start where the server that was seen is surely still of the run in which they were
// found.
func (p *Prober) rememberMine(ctx context.Context, seen sight) error {
	if p.mine.position == 0 && p.last == (Stored{}) {
		return nil
	}
	same, err := p.sameRun(ctx, seen.server)
	if err != nil {
		return err
	}
	if !same {
		p.last = Stored{}
	}
	of := p.mine.stored
	if !same || seen.facts.sequence != of.Sequence || seen.facts.filenode != of.Filenode || seen.facts.table != of.Table {
		p.mine = mine{}
	}
	return nil
}

// floor is a position that is settled already: the horizon that was stored, or a higher one that this Prober has found. While a
// regression stands it is no higher than where the sequence stood.
func (p *Prober) floor(ctx context.Context) (int64, error) {
	if err := p.readKnown(ctx); err != nil {
		return 0, err
	}
	if err := p.verifyTable(ctx); err != nil {
		return 0, err
	}
	stored := &p.known.Stored
	if stored.Position > 0 && (stored.Sequence != p.facts.sequence || stored.Filenode != p.facts.filenode || stored.Table != p.facts.table) {
		if err := p.void(ctx); err != nil {
			return 0, err
		}
	}
	floor := stored.Position
	if p.mine.stored.Term == stored.Term {
		floor = max(floor, p.mine.position)
	} else {
		p.mine = mine{}
	}
	if p.known.Regression.stands() {
		floor = min(floor, p.known.Regression.Low)
	}
	return floor, nil
}

// void takes back what is stored, since it speaks of another sequence or of positions that are given again. It is
// read once more, since another Prober may have been first.
func (p *Prober) void(ctx context.Context) error {
	void := p.known.Stored
	void.Position, void.Sequence, void.Filenode, void.Table = 0, p.facts.sequence, p.facts.filenode, p.facts.table
	if err := p.checkpoints.Void(ctx, void); err != nil {
		return fmt.Errorf("taking the stored horizon back: %w", err)
	}
	p.mine = mine{}
	return p.readKnown(ctx)
}

// storeHorizon stores the horizon for others, now and then while it moves, and once more when it has come to rest. Failing to
// do so only makes other Probers' starts slower, so it is no failure of the probe. It remembers the horizon for the next start in any case.
//
// began is when the probe did: what has been read since is not read again.
func (p *Prober) storeHorizon(ctx context.Context, position int64, began time.Time) error {
	if p.known.Regression.stands() {
		return nil
	}
	stored := Stored{Term: p.known.Stored.Term, Position: position, Sequence: p.facts.sequence, Filenode: p.facts.filenode, Table: p.facts.table}
	p.mine = mine{position: position, stored: stored}
	now := time.Now()
	if position <= p.known.Stored.Position || now.Sub(p.store.last) < max(p.store.rest, p.every(p.opts.RegressionsEvery)) {
		return nil
	}
	p.store.last, p.store.rest = now, 0
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := p.storeNow(ctx, stored, began)
	if err == nil {
		p.store.failures = 0
		return nil
	}
	p.store.failures++
	p.store.rest = min(p.opts.RegressionsEvery<<min(p.store.failures, 16), storeRest)
	return fmt.Errorf("storing the horizon: %w", err)
}

// storeNow stores the horizon if nobody has stored a higher one, or any within a second.
func (p *Prober) storeNow(ctx context.Context, stored Stored, began time.Time) error {
	there := p.known.Stored
	if p.asked.Before(began) {
		var err error
		if _, there, err = p.checkpoints.Latest(ctx); err != nil {
			return err
		}
	}
	switch {
	case there.Term != stored.Term || there.Fresh:
		return nil // the next probe that looks finds out what it means
	case there.Position < stored.Position:
		var err error
		if stored.Event, err = p.target.lastEvent(ctx, p.db, stored.Position); err != nil {
			return err
		}
		p.last = stored
		done, err := p.checkpoints.Store(ctx, stored, p.server.run())
		if err != nil || !done {
			return err
		}
		there = stored
	}
	p.known.Stored = there
	return nil
}
