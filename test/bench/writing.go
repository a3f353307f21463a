package main

import "context"

// measureWriting measures write/row, write/sql and write/batch.
func measureWriting(ctx context.Context, b *bench) error {
	d, err := b.filled(ctx)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		figure, byHand, handler string
		divisor                 int
	}{{"write/row", "row", "insert", 20}, {"write/sql", "sql", "insert-sql", 20}, {"write/batch", "batch", "copy", 5}} {
		if !b.env.wants(f.figure) {
			continue
		}
		want := b.part(f.divisor)
		err := b.rounds(func() error {
			hand, err := b.freshRun(ctx, d, f.figure+"/by-hand", job{Kind: f.byHand, Want: want})
			if err != nil {
				return err
			}
			o, err := b.freshRun(ctx, d, f.figure, job{Kind: "worker", Name: "w1", Handler: f.handler, Projections: 1, Want: want})
			if err != nil {
				return err
			}
			b.report.compare(f.figure, o.rate(), hand.rate())
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
