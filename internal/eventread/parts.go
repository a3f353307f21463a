package eventread

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/eventrow"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
)

// collectParts scans the rows of a filtered read, hands them over in parts, and
// closes it. Where they have the query's bytes before they end it calls abandon,
// which must end the query: closing it would fetch the rest. With fewer rows than complete, none that is wanted is missing.
func collectParts(rows pgx.Rows, q Query, complete, size int, take func(Part), abandon context.CancelFunc) error {
	defer rows.Close()
	scan := eventrow.Scanner{WithSlot: q.WithSlots, List: packed.Builder{Expected: min(size, q.Limit, eventrow.MostExpected)}}
	events, bytes := 0, int64(0) // of the parts before
	for rows.Next() {
		if err := scan.Scan(rows); err != nil {
			return fmt.Errorf("scanning an event: %w", err)
		}
		n := scan.List.Len()
		switch {
		case events+n == q.Limit:
			take(part(&scan, scan.List.LastPosition()))
			rows.Close()
			return rows.Err()
		case q.MaxBytes > 0 && bytes+scan.List.Bytes() >= q.MaxBytes:
			take(part(&scan, scan.List.LastPosition()))
			abandon()
			return nil
		case n == size:
			events, bytes = events+n, bytes+scan.List.Bytes()
			take(part(&scan, scan.List.LastPosition()))
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	switch n := scan.List.Len(); {
	case events+n < complete:
		take(part(&scan, q.UpTo))
	case n > 0: // else the part before has ended there
		take(part(&scan, scan.List.LastPosition()))
	}
	return nil
}

// part is the events since the part before, which reach upTo.
func part(s *eventrow.Scanner, upTo int64) Part {
	size := s.List.Bytes()
	list := s.List.Cut()
	return Part{Events: list, UpTo: upTo, Bytes: list.Bytes(), size: size}
}
