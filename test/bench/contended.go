package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// contendedRows is how many rows the contended handlers change, each event one of them. Events of all partitions change all of them.
const contendedRows = 1000

// contendedRow is the row that an event changes. Neighbours change rows that are far apart.
func contendedRow(e *es.PersistedEvent) int64 { return e.GlobalPosition * 7919 % contendedRows }

const (
	sqlCountOne = `UPDATE bench_counters SET n = n + 1 WHERE id = $1`
	sqlCountAll = `UPDATE bench_counters AS c SET n = c.n + d.n FROM unnest($1::bigint[], $2::bigint[]) AS d (id, n) WHERE c.id = d.id`
	sqlCounted  = `SELECT coalesce(sum(n), 0)::bigint FROM bench_counters`
)

// countRow counts an event in its row.
func countRow(ctx context.Context, tx pgx.Tx, e *es.PersistedEvent) error {
	_, err := tx.Exec(ctx, sqlCountOne, contendedRow(e))
	return err
}

// countHot counts an event in the one row that all events change.
func countHot(ctx context.Context, tx pgx.Tx, _ *es.PersistedEvent) error {
	_, err := tx.Exec(ctx, sqlCountOne, 0)
	return err
}

// counters is a projection that counts its batches' events in their rows, in no order.
type counters struct {
	counting
	row func(*es.PersistedEvent) int64
}

// HandleBatch counts the batch.
func (c *counters) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	counts := map[int64]int64{}
	for i := range events {
		counts[c.row(&events[i])]++
	}
	ids := slices.Collect(maps.Keys(counts))
	added := make([]int64, len(ids))
	for i, id := range ids {
		added[i] = counts[id]
	}
	_, err := tx.Exec(ctx, sqlCountAll, ids, added)
	return err
}

// apart counts as counters does, but each partition has rows of its own: nothing is in conflict.
type apart struct{ counting }

// HandleBatch counts the batch.
func (a *apart) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	d, ok := projection.DeliveryFrom(ctx)
	if !ok {
		return errors.New("the handler's context carries no delivery")
	}
	rows := int64(contendedRows / d.TotalPartitions)
	own := counters{counting: a.counting, row: func(e *es.PersistedEvent) int64 { return int64(d.PartitionKey)*rows + contendedRow(e)%rows }}
	return own.HandleBatch(ctx, tx, events)
}

// contendedTime is how long a run may take at most. What is counted until then gives the rate.
const contendedTime = 30 * time.Second

// mixes are the contended figures. Each compares some workers, or partitions of one, with one worker of one partition.
var mixes = []mix{
	{"contended/4w", "count", 4, 1, 4, false},
	{"contended/4w/batch", "count-batch", 4, 1, 1, false},
	{"contended/2w", "count", 2, 1, 4, false},
	{"contended/2w/batch", "count-batch", 2, 1, 1, false},
	{"contended/apart/batch", "count-apart-batch", 4, 1, 1, false},
	{"contended/4p", "count", 1, 4, 4, false},
	{"contended/hot", "count-hot", 4, 1, 4, false},
	{"contended/hot/batch", "count-hot-batch", 4, 1, 1, false},
	{"contended/hot/batch/index", "count-hot-batch", 4, 1, 1, true},
}

type mix struct {
	figure, handler     string
	workers, partitions int
	divisor             int  // of the events
	index               bool // with the slot index
}

// contendedNames are the names that ONLY knows: contended for all mixes, or that of one.
func contendedNames() []string {
	names := []string{"contended"}
	for _, m := range mixes {
		names = append(names, m.figure)
	}
	return names
}

// measureContended measures contended/4w and its like.
func measureContended(ctx context.Context, b *bench) error {
	d, err := b.filled(ctx)
	if err != nil {
		return err
	}
	for _, m := range mixes {
		if !b.env.wantsAny([]string{"contended", m.figure}) {
			continue
		}
		if err := b.mixed(ctx, d, m); err != nil {
			return fmt.Errorf("measuring %s: %w", m.figure, err)
		}
	}
	return nil
}

// mixed measures a mix.
func (b *bench) mixed(ctx context.Context, d *database, m mix) (err error) {
	if m.index {
		if err := d.slotIndex(ctx, true); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.slotIndex(ctx, false)) }()
	}
	want := b.part(m.divisor)
	return b.rounds(func() error {
		one, err := b.contended(ctx, d, m.handler, 1, 1, want)
		if err != nil {
			return fmt.Errorf("with one worker: %w", err)
		}
		all, err := b.contended(ctx, d, m.handler, m.workers, m.partitions, want)
		if err != nil {
			return err
		}
		b.report.compare(m.figure, all, one)
		return nil
	})
}

// contended runs workers until they have handled so many events, or for contendedTime, and returns how many they handled a second. What is
// committed counts, from when a tenth of it is: by then they know each other.
func (b *bench) contended(ctx context.Context, d *database, handler string, workers, partitions int, want int64) (rate float64, err error) {
	err = errors.Join(d.fresh(ctx), d.exec(ctx, fmt.Sprintf(`TRUNCATE bench_counters; INSERT INTO bench_counters SELECT generate_series(0, %d), 0`, contendedRows-1)))
	if err != nil {
		return 0, err
	}
	release, err := d.held(ctx)
	if err != nil {
		return 0, err
	}
	var processes []*process
	for i := range workers {
		j := job{Kind: "worker", Name: "w" + string(rune('1'+i)), Handler: handler, Projections: 1, Partitions: partitions, DSN: d.dsn}
		p, err := start(j)
		if err != nil {
			return 0, errors.Join(err, release())
		}
		defer p.kill()
		processes = append(processes, p)
	}
	if err := errors.Join(d.awaitRunning(ctx, workers), release()); err != nil {
		return 0, err
	}
	var first, last struct {
		at     time.Time
		events int64
	}
	began := time.Now()
	for last.events < want && time.Since(began) < contendedTime {
		if err := d.pool.QueryRow(ctx, sqlCounted).Scan(&last.events); err != nil {
			return 0, fmt.Errorf("reading what is counted: %w", err)
		}
		last.at = time.Now()
		if first.events == 0 && last.events >= want/10 {
			first = last
		}
		if err := wait(ctx, askEvery); err != nil {
			return 0, err
		}
	}
	if first.events == 0 {
		first.at = began
	}
	for _, p := range processes {
		if _, err := p.stop(); err != nil {
			return 0, err
		}
	}
	rate = float64(last.events-first.events) / max(last.at.Sub(first.at), askEvery).Seconds()
	b.tell("%s, %d workers of %d partitions: %d events in %.3f s: %.0f/s after a tenth", handler, workers, partitions, last.events, last.at.Sub(began).Seconds(), rate)
	return rate, b.tellStatements(ctx, d, last.at.Sub(began).Seconds())
}
