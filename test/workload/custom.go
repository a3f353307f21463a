package workload

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
)

// ServeCustomIfAsked is [ServeIfAsked] for programs whose workers have projections of their own: run is the worker, and is to
// return when ctx ends, which SIGTERM makes it do.
func ServeCustomIfAsked(run func(ctx context.Context, spec WorkerSpec, log *slog.Logger) error) {
	encoded, asked := os.LookupEnv(specVariable)
	if !asked {
		return
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	go exitWithParent(os.Stdin, log)
	var spec WorkerSpec
	err := json.Unmarshal([]byte(encoded), &spec)
	if err == nil {
		err = run(ctx, spec, log)
	}
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		log.Error("the worker failed", "error", err)
		os.Exit(ExitFailed)
	}
	os.Exit(ExitOK)
}

// Options are the library's options that the spec sets, the logger among them.
func (s WorkerSpec) Options(log *slog.Logger) []orchestrator.Option { return s.options(log) }
