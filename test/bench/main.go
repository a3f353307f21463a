package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// scenario measures some figures together.
type scenario struct {
	figures []string // those that ONLY knows
	measure func(context.Context, *bench) error
}

// scenarios are played in this order; the last ones change the data of those before.
var scenarios = []scenario{
	{[]string{"raw", "catchup/1x1", "catchup/1x8"}, measureCatchUp},
	{[]string{"allocs"}, measureAllocations},
	{[]string{"scoped", "scoped/index"}, measureScoped},
	{[]string{"catchup/4w"}, measureWorkers},
	{[]string{"catchup/16w"}, measureManyWorkers},
	{[]string{"catchup/4p"}, measurePartitions},
	{[]string{"write/row", "write/sql", "write/batch"}, measureWriting},
	{contendedNames(), measureContended},
	{[]string{"parked"}, measureParked},
	{[]string{"metrics", "tracing"}, measureObserving},
	{[]string{"idle"}, measureIdle},
	{[]string{sharedPool}, measureSharedPool},
	{[]string{"latency"}, measureLatency},
	{followNames(), measureFollowing},
	{[]string{"append"}, measureAppending},
	{[]string{"memory"}, measureMemory},
}

func main() {
	serveIfAsked()
	env, err := readSettings(os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = playAll(ctx, env)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// playAll plays the scenarios that were asked for. One that fails does not keep the others from being played.
func playAll(ctx context.Context, env settings) (err error) {
	b, err := newBench(ctx, env)
	defer func() { err = errors.Join(err, b.close()) }()
	if err != nil {
		return err
	}
	var failed error
	for _, s := range scenarios {
		if !env.wantsAny(s.figures) || ctx.Err() != nil {
			continue
		}
		began := time.Now()
		if err := s.measure(ctx, b); err != nil {
			failed = errors.Join(failed, fmt.Errorf("measuring %v: %w", s.figures, err))
		}
		b.tell("%v took %s", s.figures, time.Since(began).Round(time.Second))
	}
	return errors.Join(failed, context.Cause(ctx), printSummaries(os.Stdout, b.report.summarise()))
}
