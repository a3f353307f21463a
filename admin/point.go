package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Point is where a projection starts again: see Start, Position and Time. The zero value is the beginning of the stream.
type Point struct {
	position int64
	at       time.Time
	timed    bool // at counts
}

// Start returns the beginning of the stream.
func Start() Point { return Point{} }

// Position is just after the event with that global position: the next one is handled first. 0 is the beginning.
func Position(n int64) Point { return Point{position: n} }

// Time returns the highest position such that every event up to it was created before t. It compares the events'
// created_at, which clients may set, so some events after that position may be older than t. Finding it reads the events
// in order from the beginning, unless created_at has an index.
func Time(t time.Time) Point { return Point{at: t, timed: true} }

// String describes the point for messages.
func (p Point) String() string {
	switch {
	case p.timed:
		return "the time " + p.at.Format(time.RFC3339Nano)
	case p.position == 0:
		return "the beginning"
	}
	return fmt.Sprintf("position %d", p.position)
}

// check says what is wrong with the point.
func (p Point) check() error {
	switch {
	case p.timed && p.at.IsZero():
		return wrong("the point must not be the zero time")
	case p.timed && (p.at.Year() < 0 || p.at.Year() > lastYear):
		return wrong("the point must be a time between the years 0 and %d", lastYear)
	case p.position < 0:
		return wrong("the point must not be a negative position, got %d", p.position)
	}
	return nil
}

// described is the point for a row of orchestrator_operations, which leads to a position.
func (p Point) described(position int64) map[string]any {
	set := map[string]any{"position": position}
	if p.timed {
		set["time"] = p.at.UTC().Format(time.RFC3339Nano)
	}
	return set
}

const sqlFirstSince = `SELECT global_position FROM {{events}} WHERE created_at >= $1 ORDER BY global_position LIMIT 1`

// resolve is the point's position. It is an error if events would be skipped there.
func (c change) resolve(ctx context.Context, projection string, p Point) (int64, error) {
	position := p.position
	if p.timed {
		err := c.tx.QueryRow(ctx, c.admin.inEvents(sqlFirstSince), p.at).Scan(&position)
		if errors.Is(err, pgx.ErrNoRows) {
			return 0, fmt.Errorf("no event was created at %s or later", p.at.Format(time.RFC3339Nano))
		}
		if err != nil {
			return 0, fmt.Errorf("looking for the first event since %s: %w", p.at.Format(time.RFC3339Nano), err)
		}
		position--
	}
	lowest, err := c.store.Lowest(ctx, c.tx, projection)
	if err != nil {
		return 0, fmt.Errorf("reading how far the projection is: %w", err)
	}
	if position > lowest {
		return 0, fmt.Errorf("position %d is above %d, where the projection, or a part of it, is: a reset must not skip events", position, lowest)
	}
	last, known, err := c.store.LastAllocated(ctx, c.tx)
	if err != nil {
		return 0, fmt.Errorf("reading the sequence of positions: %w", err)
	}
	if known && position > last {
		return 0, fmt.Errorf("position %d is above %d, the last that the events table has given out: events would be skipped", position, last)
	}
	return position, nil
}
