package workload

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/child"
)

// WorkerSpec is all that a worker's process must know. Durations and numbers left zero are the library's defaults.
type WorkerSpec struct {
	Target      Target
	ReplicaSet  string
	Name        string // people's and the log's; unique within a run
	Projections []ProjectionSpec

	HeartbeatInterval   time.Duration
	StaleWorkerTimeout  time.Duration
	CoordinationTimeout time.Duration
	PollInterval        time.Duration
	ShutdownTimeout     time.Duration
	BatchSize           int
	Partitions          int // of each projection
	PollOnly            bool
	PoolSize            int // 8

	// MetricsAddress is where the worker serves its metrics; empty for nowhere.
	MetricsAddress string

	// Through is a command, with its arguments, that runs the process: it must replace itself by it.
	Through []string `json:"-"`
}

// ServeIfAsked makes this process a worker if [Spawn] started it as one; then it does not return. Otherwise it does nothing. The worker leaves at SIGTERM.
func ServeIfAsked() { ServeCustomIfAsked(serve) }

// ServeCustomIfAsked is [ServeIfAsked] for programs whose workers have projections of their own: run is the worker, and is to
// return when ctx ends, which SIGTERM makes it do.
func ServeCustomIfAsked(run func(ctx context.Context, spec WorkerSpec, log *slog.Logger) error) {
	child.Serve(func(ctx context.Context, spec WorkerSpec) error {
		return run(ctx, spec, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	})
}

// serve runs the worker until ctx ends.
func serve(ctx context.Context, s WorkerSpec, log *slog.Logger) error {
	orElse(&s.PoolSize, 8)
	pool, err := s.Target.Pool(ctx, s.PoolSize)
	if err != nil {
		return err
	}
	defer pool.Close()
	orch, err := orchestrator.New(pool, eventstore.New(eventstore.WithLogger(log)), s.ReplicaSet, s.Options(log)...)
	if err != nil {
		return err
	}
	if s.MetricsAddress != "" {
		server := &http.Server{Addr: s.MetricsAddress, Handler: orch.MetricsHandler(), ReadHeaderTimeout: time.Second}
		defer server.Close()
		go func() { log.Info("the worker's metrics are not served any more", "error", server.ListenAndServe()) }()
	}
	projections := make([]projection.Projection, len(s.Projections))
	for i, p := range s.Projections {
		projections[i] = NewRecorder(p, s.Name)
	}
	if err := orch.Run(ctx, projections); err != nil {
		return fmt.Errorf("running worker %s: %w", s.Name, err)
	}
	return nil
}

// Options are the library's options that the spec sets, the logger among them.
func (s WorkerSpec) Options(log *slog.Logger) []orchestrator.Option {
	options := []orchestrator.Option{orchestrator.WithWorkerName(s.Name), orchestrator.WithLogger(log)}
	for _, o := range []struct {
		value time.Duration
		with  func(time.Duration) orchestrator.Option
	}{
		{s.HeartbeatInterval, orchestrator.WithHeartbeatInterval},
		{s.StaleWorkerTimeout, orchestrator.WithStaleWorkerTimeout},
		{s.CoordinationTimeout, orchestrator.WithCoordinationTimeout},
		{s.PollInterval, orchestrator.WithPollInterval},
		{s.ShutdownTimeout, orchestrator.WithShutdownTimeout},
	} {
		if o.value != 0 {
			options = append(options, o.with(o.value))
		}
	}
	if s.BatchSize != 0 {
		options = append(options, orchestrator.WithBatchSize(s.BatchSize))
	}
	if s.Partitions != 0 {
		options = append(options, orchestrator.WithPartitionsPerWorker(s.Partitions))
	}
	if s.PollOnly {
		options = append(options, orchestrator.WithPollOnly())
	}
	return options
}
