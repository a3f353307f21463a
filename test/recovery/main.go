package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// scenario measures some figures together.
type scenario struct {
	figures     []string // main figures
	repetitions int
	options     stageOptions
	prepare     func(context.Context, *stage) error
	repeat      func(ctx context.Context, s *stage, i int) error
	leave       func() error // ends workers in this process, before the server ends; may be nil
	close       func() error // of what the scenario itself opened; may be nil
	possible    func() error // why it cannot be played here; may be nil
	unchecked   bool         // its events are not handled by one projection to the end
}

// scenarios are played in this order.
func scenarios(env settings) []scenario {
	return []scenario{
		firstWorker(), membership(), killing(env), freezing(), hostGone(), hostVanished(), restarting(), bursting(), rolling(), many(env),
		joining(10), joining(50), joining(100),
	}
}

func main() {
	workload.ServeCustomIfAsked(runWorker)
	env, err := readSettings(os.Getenv, time.Now())
	if err != nil {
		fmt.Fprintln(os.Stderr, "recovery:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := playAll(ctx, env); err != nil {
		stop()
		os.Exit(1)
	}
}

// playAll plays the scenarios that were asked for. One that fails does not keep the others from being played.
func playAll(ctx context.Context, env settings) error {
	fmt.Printf("seed %d; the same figures again with SEED=%d\n", env.seed, env.seed)
	var r report
	var failed error
	for _, sc := range scenarios(env) {
		if !env.wantsAny(sc.figures) || ctx.Err() != nil {
			continue
		}
		if sc.possible != nil {
			if err := sc.possible(); err != nil {
				fmt.Fprintf(os.Stderr, "recovery: SKIPPED %v: %v\n", sc.figures, err)
				continue
			}
		}
		if err := sc.play(ctx, env, &r); err != nil {
			fmt.Fprintf(os.Stderr, "recovery: measuring %v: %v\n", sc.figures, err)
			failed = errors.Join(failed, err)
		}
	}
	return errors.Join(failed, context.Cause(ctx), printSummaries(os.Stdout, r.summarise(env)))
}

// play plays one scenario on a stage of its own.
func (sc scenario) play(ctx context.Context, env settings, r *report) (err error) {
	name := sc.figures[0]
	s, err := newStage(ctx, env, r, name, sc.options)
	defer func() {
		keep := err != nil && ctx.Err() == nil
		if keep {
			logs, _ := filepath.Abs(s.dir)
			fmt.Fprintln(os.Stderr, "recovery: the logs are kept in", logs)
		}
		if sc.leave != nil {
			err = errors.Join(err, sc.leave())
		}
		err = errors.Join(err, s.close(keep))
		if sc.close != nil {
			err = errors.Join(err, sc.close())
		}
	}()
	if err != nil {
		return err
	}
	if sc.prepare != nil {
		if err := sc.prepare(ctx, s); err != nil {
			return fmt.Errorf("preparing %s: %w", name, err)
		}
	}
	n := sc.repetitions
	if env.repetitions > 0 {
		n = env.repetitions
	}
	for i := range n {
		if err := sc.repeat(ctx, s, i); err != nil {
			return fmt.Errorf("repetition %d of %d of %s: %w", i+1, n, name, err)
		}
	}
	if sc.unchecked {
		return nil
	}
	return s.exactlyOnce(ctx)
}

// tell prints what a repetition measured, if that was asked for.
func (s *stage) tell(i int, format string, args ...any) {
	if s.env.verbose {
		fmt.Fprintf(os.Stderr, "%s %s %d: %s\n", time.Now().Format("15:04:05"), s.name, i+1, fmt.Sprintf(format, args...))
	}
}
