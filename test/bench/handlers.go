package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// counting is a projection whose handler counts.
type counting struct {
	name    string
	counter *counter
}

// Name is the projection's name.
func (c *counting) Name() string { return c.name }

// Handle counts.
func (c *counting) Handle(context.Context, pgx.Tx, es.PersistedEvent) error {
	c.counter.add(1)
	return nil
}

// doing is a projection whose handler does something, and counts.
type doing struct {
	counting
	do func(context.Context, pgx.Tx, *es.PersistedEvent) error
}

// Handle does it.
func (d *doing) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	if err := d.do(ctx, tx, &event); err != nil {
		return err
	}
	d.counter.add(1)
	return nil
}

// copying is a projection that copies its batches into a table.
type copying struct{ counting }

// HandleBatch copies the batch.
func (c *copying) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	if err := copyRows(ctx, tx, events); err != nil {
		return err
	}
	c.counter.add(int64(len(events)))
	return nil
}

// inserting is a projection that inserts a row for each event through database/sql.
type inserting struct {
	projection.SQLOnly
	counting
}

// Handle is not called.
func (i *inserting) Handle(context.Context, pgx.Tx, es.PersistedEvent) error {
	return projection.ErrSQLOnly
}

// HandleSQL inserts the row.
func (i *inserting) HandleSQL(ctx context.Context, tx *sql.Tx, event es.PersistedEvent) error {
	if err := insertRow(ctx, tx, &event); err != nil {
		return err
	}
	i.counter.add(1)
	return nil
}

// scoped is a projection that wants the rare events.
type scoped struct{ counting }

// AggregateTypes are the wanted types.
func (s *scoped) AggregateTypes() []string { return []string{rareType} }

// handlers make projections, by the word that a job has for them.
var handlers = map[string]func(counting, job, *progress) projection.Projection{
	"nothing": func(c counting, _ job, _ *progress) projection.Projection { return &c },
	"poisoned": func(c counting, _ job, _ *progress) projection.Projection {
		return &doing{c, func(context.Context, pgx.Tx, *es.PersistedEvent) error {
			if strings.HasSuffix(c.name, "-1") {
				return errPoisoned
			}
			return nil
		}}
	},
	"scoped":     func(c counting, _ job, _ *progress) projection.Projection { return &scoped{c} },
	"copy":       func(c counting, _ job, _ *progress) projection.Projection { return &copying{c} },
	"insert":     func(c counting, _ job, _ *progress) projection.Projection { return &doing{c, writeRow} },
	"insert-sql": func(c counting, _ job, _ *progress) projection.Projection { return &inserting{counting: c} },
	"count":      func(c counting, _ job, _ *progress) projection.Projection { return &doing{c, countRow} },
	"count-batch": func(c counting, _ job, _ *progress) projection.Projection {
		return &counters{counting: c, row: contendedRow}
	},
	"count-apart-batch": func(c counting, _ job, _ *progress) projection.Projection { return &apart{c} },
	"count-hot":         func(c counting, _ job, _ *progress) projection.Projection { return &doing{c, countHot} },
	"count-hot-batch": func(c counting, _ job, _ *progress) projection.Projection {
		return &counters{counting: c, row: func(*es.PersistedEvent) int64 { return 0 }}
	},
	"compute": func(c counting, j job, _ *progress) projection.Projection {
		return &doing{c, func(context.Context, pgx.Tx, *es.PersistedEvent) error { spin(j.Spin); return nil }}
	},
	"wait": func(c counting, _ job, _ *progress) projection.Projection {
		return &doing{c, func(ctx context.Context, _ pgx.Tx, _ *es.PersistedEvent) error { return wait(ctx, time.Millisecond) }}
	},
	"note": func(c counting, j job, p *progress) projection.Projection {
		return &noting{doing{c, func(_ context.Context, _ pgx.Tx, e *es.PersistedEvent) error {
			if len(e.Payload) != numberSize {
				return fmt.Errorf("the payload at position %d is not a number", e.GlobalPosition)
			}
			number := int64(binary.BigEndian.Uint64(e.Payload))
			if j.Poisoned && isPoisoned(number) {
				return projection.Permanent(errPoisoned)
			}
			p.note(number)
			return nil
		}}}
	},
}

// noting is a projection that notes when it handles each event. What it cannot handle is parked.
type noting struct{ doing }

// ErrorPolicy parks.
func (*noting) ErrorPolicy() projection.ErrorPolicy {
	return projection.ErrorPolicy{Then: projection.Park}
}

// errPoisoned is what the first projection fails with.
var errPoisoned = errors.New("this event is one that the projection cannot handle")

// numberSize is the size of a payload that is the event's number.
const numberSize = 8

// spin keeps a processor busy.
func spin(iterations int) {
	var sum [sha256.Size]byte
	for range iterations {
		sum = sha256.Sum256(sum[:])
	}
}

// calibrate is how many iterations of spin take d. The quickest of many tries had the processor for itself.
func calibrate(d time.Duration) int {
	const iterations, tries = 1000, 200
	quickest := time.Hour
	for range tries {
		began := time.Now()
		spin(iterations)
		quickest = min(quickest, time.Since(began))
	}
	return int(int64(iterations) * int64(d) / max(1, int64(quickest)))
}

// wait waits for d.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
