package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/measure"
)

// parkedAggregates is how many aggregates are parked: one in ten of them all, and so of the events.
const parkedAggregates = 1000

// sqlPark parks every tenth aggregate of a projection, as if its events before the first one had failed.
const sqlPark = `
INSERT INTO orchestrator_parked_aggregates (projection, bounded_context, aggregate_type, aggregate_id, replica_set, global_position, letters)
SELECT '%s-1', 'sales', '` + commonType + `', 'order-' || 10 * i + 1, '` + replicaSet + `', 1, 1 FROM generate_series(0, %d) AS i`

// measureParked measures parked and its like.
func measureParked(ctx context.Context, b *bench) error {
	d, err := b.filled(ctx)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		figure, handler string
		divisor         int
	}{{"parked/row", "insert", 10}, {"parked/batch", "copy", 1}} {
		want := b.part(f.divisor)
		err := b.rounds(func() error {
			j := job{Kind: "worker", Name: "w1", Handler: f.handler, Projections: 1, Want: want}
			none, err := b.freshRun(ctx, d, f.figure+"/none", j)
			if err != nil {
				return err
			}
			if err := errors.Join(d.fresh(ctx), d.exec(ctx, fmt.Sprintf(sqlPark, f.handler, parkedAggregates-1))); err != nil {
				return err
			}
			j.Want = want - want/10
			some, err := b.runOn(ctx, d, f.figure, j)
			if err != nil {
				return err
			}
			b.report.compare(f.figure, some.rate(), none.rate())
			return b.tellStatements(ctx, d, some.seconds())
		})
		if err != nil {
			return err
		}
	}
	return b.parkedOthers(ctx)
}

// parkedOthers measures how late other aggregates' events are while one is parked.
func (b *bench) parkedOthers(ctx context.Context) error {
	d, err := b.quiet(ctx)
	if err != nil {
		return err
	}
	return b.inTurn("parked/others", func(figure string, poisoned bool) (float64, error) {
		late, err := b.latencies(ctx, d, figure, 500, poisoned)
		if err != nil {
			return 0, err
		}
		return measure.Percentile(late, 99), nil
	})
}
