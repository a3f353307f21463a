package main

import "context"

// measureObserving measures metrics and tracing: what metrics cost, and tracing where it is off.
func measureObserving(ctx context.Context, b *bench) error {
	d, err := b.filled(ctx)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		figure, handler string
		divisor         int
		with, without   func(*job)
	}{
		{"metrics/row", "insert", 20, func(*job) {}, func(j *job) { j.NoMetrics = true }},
		{"metrics/batch", "copy", 5, func(*job) {}, func(j *job) { j.NoMetrics = true }},
		{"tracing/row", "insert", 20, func(*job) {}, func(j *job) { j.Traced = true }},
		{"tracing/batch", "copy", 5, func(*job) {}, func(j *job) { j.Traced = true }},
	} {
		err := b.inTurn(f.figure, func(figure string, first bool) (float64, error) {
			j := job{Kind: "worker", Name: "w1", Handler: f.handler, Projections: 1, Want: b.part(f.divisor)}
			if first {
				f.with(&j)
			} else {
				f.without(&j)
			}
			o, err := b.freshRun(ctx, d, figure, j)
			return o.perProcessor(), err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// inTurn compares two runs in each round. Which is the first alternates, so that what the database keeps of one helps both.
func (b *bench) inTurn(figure string, run func(figure string, first bool) (float64, error)) error {
	round := 0
	return b.rounds(func() error {
		round++
		rates := map[bool]float64{}
		for _, first := range []bool{round%2 == 1, round%2 == 0} {
			rate, err := run(figure, first)
			if err != nil {
				return err
			}
			rates[first] = rate
		}
		b.report.compare(figure, rates[true], rates[false])
		return nil
	})
}

// perProcessor is the events handled in a second of the process' processor time. Other processes of a busy machine change it little.
func (o outcome) perProcessor() float64 { return float64(o.Events) / o.CPU.Seconds() }
