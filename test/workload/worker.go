package workload

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
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

// specVariable carries the spec, as JSON, to a worker's process.
const specVariable = "WORKLOAD_WORKER"

// Exit codes of a worker's process.
const (
	ExitOK       = 0
	ExitFailed   = 1
	ExitOrphaned = 3 // the process that started it is gone
)

// ServeIfAsked makes this process a worker if [Spawn] started it as one; then it does not return. Otherwise it does nothing.
func ServeIfAsked() {
	encoded, asked := os.LookupEnv(specVariable)
	if !asked {
		return
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var spec WorkerSpec
	err := json.Unmarshal([]byte(encoded), &spec)
	if err == nil {
		err = serve(spec, log)
	}
	if err != nil {
		log.Error("the worker failed", "error", err)
		os.Exit(ExitFailed)
	}
	os.Exit(ExitOK)
}

// serve runs the worker until SIGTERM. The terminal's SIGINT is for the parent, which stops its workers in its own order.
func serve(spec WorkerSpec, log *slog.Logger) error {
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go exitWithParent(os.Stdin, log)
	return spec.run(ctx, log)
}

// exitWithParent ends the process when the other end of the pipe, which the parent holds, is closed.
func exitWithParent(pipe io.Reader, log *slog.Logger) {
	_, err := io.Copy(io.Discard, pipe)
	log.Warn("the process that started this worker is gone", "error", err)
	os.Exit(ExitOrphaned)
}

// run runs the worker until ctx ends.
func (s WorkerSpec) run(ctx context.Context, log *slog.Logger) error {
	orElse(&s.PoolSize, 8)
	pool, err := s.Target.Pool(ctx, s.PoolSize)
	if err != nil {
		return err
	}
	defer pool.Close()
	orch, err := orchestrator.New(pool, eventstore.New(eventstore.WithLogger(log)), s.ReplicaSet, s.options(log)...)
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

// options are the library's options that the spec sets.
func (s WorkerSpec) options(log *slog.Logger) []orchestrator.Option {
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
