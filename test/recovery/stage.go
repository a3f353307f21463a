package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// replicaSet is the name of the workers' replica set, and of its projection.
const replicaSet = "probes"

const killPatience = 10 * time.Second

// stageOptions say what a scenario plays on.
type stageOptions struct {
	load     loadOptions
	settings map[string]string                     // of the server
	trusted  string                                // a network whose hosts may connect to it besides this one
	worker   func(*workload.WorkerSpec, int) error // changes the spec of the n-th worker; may be nil
}

// stage is a durable server of its own, a load on it, and the worker processes of a scenario. Only the goroutine that plays uses
// it.
type stage struct {
	name    string
	env     settings
	options stageOptions
	report  *report
	random  *rand.Rand
	dir     string // of the workers' logs

	cluster *pgtest.Cluster
	dsn     string
	pool    *pgxpool.Pool // to observe with
	load    *load
	workers map[string]*workload.Process // that should be alive
	all     []*workload.Process
	started int
}

// newStage sets up the server, the tables and the load. The caller closes it, also after an error.
func newStage(ctx context.Context, env settings, r *report, name string, o stageOptions) (*stage, error) {
	s := &stage{name: name, env: env, options: o, report: r, random: seeded(env.seed, name), workers: map[string]*workload.Process{}}
	var err error
	if s.dir, err = os.MkdirTemp("", "orchestrator-recovery-"); err != nil {
		return s, fmt.Errorf("making a directory for logs: %w", err)
	}
	// The times of commits come from the server: it stamps them with the clock that the processes of this machine share.
	server := map[string]string{"track_commit_timestamp": "on", "max_connections": "700"}
	maps.Copy(server, o.settings)
	if s.cluster, err = pgtest.Start(ctx, pgtest.Options{Durable: true, Settings: server, Trusted: o.trusted}); err != nil {
		return s, fmt.Errorf("starting a PostgreSQL server: %w", err)
	}
	if s.dsn, err = s.cluster.CreateDatabase(ctx, "recovery"); err != nil {
		return s, err
	}
	if s.pool, err = (workload.Target{DSN: s.dsn}).Pool(ctx, 2); err != nil {
		return s, err
	}
	if err := migrate(ctx, s.pool); err != nil {
		return s, err
	}
	s.load, err = startLoad(ctx, s.dsn, o.load)
	return s, err
}

// seeded is the source of all that a scenario draws; it does not depend on which others are played.
func seeded(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// close ends everything. With keep it leaves the logs.
func (s *stage) close(keep bool) error {
	err := workload.KillAll(s.all, killPatience)
	if s.load != nil {
		_ = s.load.Stop()
	}
	if s.pool != nil {
		s.pool.Close()
	}
	if s.cluster != nil {
		if keep {
			err = errors.Join(err, os.WriteFile(filepath.Join(s.dir, "postgresql.log"), []byte(s.cluster.Log()), 0o600))
		}
		err = errors.Join(err, s.cluster.Close())
	}
	if keep || s.dir == "" {
		return err
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// start starts a worker's process in the replica set and returns its name, which is unique.
func (s *stage) start(in string) (string, error) {
	s.started++
	spec := workload.WorkerSpec{
		Target:      workload.Target{DSN: s.dsn},
		ReplicaSet:  in,
		Name:        fmt.Sprintf("w%d", s.started),
		Projections: []workload.ProjectionSpec{{Name: in}},
		PollOnly:    s.env.pollOnly,
	}
	if s.options.worker != nil {
		if err := s.options.worker(&spec, s.started); err != nil {
			return "", err
		}
	}
	p, err := workload.Spawn(spec, s.dir)
	if err != nil {
		return "", err
	}
	s.workers[spec.Name] = p
	s.all = append(s.all, p)
	return spec.Name, nil
}

// startMany starts n workers at once and waits until all handle events.
func (s *stage) startMany(ctx context.Context, n int) error {
	for range n {
		if _, err := s.start(replicaSet); err != nil {
			return err
		}
	}
	_, err := s.settle(ctx, replicaSet)
	return err
}

// names are those of the workers that should be alive, sorted.
func (s *stage) names() []string { return slices.Sorted(maps.Keys(s.workers)) }

// draw draws one of the workers.
func (s *stage) draw() string {
	names := s.names()
	return names[s.random.IntN(len(names))]
}

// kill ends a worker by SIGKILL and returns when that was.
func (s *stage) kill(name string) (time.Time, error) {
	p := s.workers[name]
	delete(s.workers, name)
	at := time.Now()
	return at, p.Kill()
}

// terminate asks a worker to leave, waits until its process has ended, and returns when it was asked and when its Run returned.
func (s *stage) terminate(ctx context.Context, name string) (asked, returned time.Time, err error) {
	p := s.workers[name]
	delete(s.workers, name)
	asked = time.Now()
	if err := p.Terminate(); err != nil {
		return asked, returned, err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return asked, returned, context.Cause(ctx)
	case <-time.After(patience):
		return asked, returned, fmt.Errorf("worker %s has not ended %s after SIGTERM", name, patience)
	}
	if err := p.Outcome(); err != nil {
		return asked, returned, fmt.Errorf("worker %s left with %w, see %s", name, err, p.LogFile)
	}
	err = s.pool.QueryRow(ctx, "SELECT returned_at FROM recovery_returns WHERE worker = $1", name).Scan(&returned)
	if err != nil {
		return asked, returned, fmt.Errorf("reading when worker %s returned: %w", name, err)
	}
	return asked, returned, nil
}

// terminateAll asks all workers to leave at once and waits until they have.
func (s *stage) terminateAll(ctx context.Context) error {
	for _, p := range s.workers {
		if err := p.Terminate(); err != nil {
			return err
		}
	}
	limit := time.After(patience)
	for name, p := range s.workers {
		select {
		case <-p.Done():
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-limit:
			return fmt.Errorf("worker %s has not ended %s after SIGTERM", name, patience)
		}
		if err := p.Outcome(); err != nil {
			return fmt.Errorf("worker %s left with %w, see %s", name, err, p.LogFile)
		}
	}
	clear(s.workers)
	return nil
}

// pause waits for a random time up to most, so that repetitions meet the library's timers at different moments.
func (s *stage) pause(ctx context.Context, most time.Duration) error {
	return wait(ctx, time.Duration(s.random.Int64N(int64(most))))
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
