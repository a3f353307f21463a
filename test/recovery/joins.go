package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// crowdPool is how many connections each worker's pool may have.
const crowdPool = 4

// crowd is many workers in this process, with one projection that does nothing.
type crowd struct {
	pollOnly bool
	members  []*crowdMember
	started  int
}

// crowdMember is one of them.
type crowdMember struct {
	name     string
	pool     *pgxpool.Pool
	registry *prometheus.Registry
	ran      time.Time // when Run was called
	stop     context.CancelFunc
	ended    chan error
}

// nothing handles events by doing nothing.
type nothing struct{}

func (nothing) Name() string                                                   { return replicaSet }
func (nothing) Handle(context.Context, pgx.Tx, es.PersistedEvent) error        { return nil }
func (nothing) HandleBatch(context.Context, pgx.Tx, []es.PersistedEvent) error { return nil }

var _ projection.BatchProjection = nothing{}

// joining measures a worker that joins n others, which are all in this process.
func joining(n int) scenario {
	c := &crowd{}
	name := fmt.Sprintf("join/%d", n)
	return scenario{
		figures: []string{name}, repetitions: 20, unchecked: true,
		options: stageOptions{load: manyLoad},
		prepare: func(ctx context.Context, s *stage) error {
			c.pollOnly = s.env.pollOnly
			for range n {
				if _, err := c.start(ctx, s); err != nil {
					return err
				}
			}
			_, err := c.assemble(ctx, s)
			return err
		},
		repeat: func(ctx context.Context, s *stage, i int) error { return c.join(ctx, s, i, name) },
		leave:  c.end,
	}
}

// join has one worker more join, and then leave again.
func (c *crowd) join(ctx context.Context, s *stage, i int, figure string) error {
	others := slices.Clone(c.members)
	before, err := paused(others)
	if err != nil {
		return err
	}
	if err := s.settled(ctx); err != nil {
		return err
	}
	joiner, err := c.start(ctx, s)
	if err != nil {
		return err
	}
	all, err := c.assemble(ctx, s)
	if err != nil {
		return err
	}
	after, err := paused(others)
	if err != nil {
		return err
	}
	var longest float64
	for k := range before {
		longest = max(longest, after[k]-before[k])
	}
	pause := time.Duration(longest * float64(time.Second))
	s.report.addTime(figure, all.Sub(joiner.ran))
	s.report.addTime(figure+"/pause", pause)
	s.tell(i, "all %d run after %s, the others paused for %s at most", len(c.members), all.Sub(joiner.ran), pause)
	if err := c.leave(joiner); err != nil {
		return err
	}
	_, err = c.assemble(ctx, s)
	return err
}

// start starts one worker more.
func (c *crowd) start(ctx context.Context, s *stage) (*crowdMember, error) {
	c.started++
	m := &crowdMember{name: fmt.Sprintf("c%d", c.started), registry: prometheus.NewRegistry(), ended: make(chan error, 1)}
	var err error
	if m.pool, err = (workload.Target{DSN: s.dsn}).Pool(ctx, crowdPool); err != nil {
		return nil, err
	}
	options := []orchestrator.Option{
		orchestrator.WithLogger(slog.New(slog.DiscardHandler)), orchestrator.WithWorkerName(m.name),
		orchestrator.WithMetricsRegisterer(m.registry),
	}
	if c.pollOnly {
		options = append(options, orchestrator.WithPollOnly())
	}
	orch, err := orchestrator.New(m.pool, eventstore.New(), replicaSet, options...)
	if err != nil {
		m.pool.Close()
		return nil, err
	}
	var run context.Context
	run, m.stop = context.WithCancel(ctx)
	m.ran = time.Now()
	go func() {
		err := orch.Run(run, []projection.Projection{nothing{}})
		m.pool.Close()
		m.ended <- err
	}()
	c.members = append(c.members, m)
	return m, nil
}

const sqlSettled = `
SELECT coalesce(bool_and(now() - activated_at > interval '500 ms'), false) FROM orchestrator_generations WHERE replica_set = $1 AND state <> 'superseded'`

// settled waits until the last change is long enough ago for the next one not to wait for more to come, and a random time.
func (s *stage) settled(ctx context.Context) error {
	err := s.until(ctx, "the last change is over", func() (settled bool, err error) {
		err = s.pool.QueryRow(ctx, sqlSettled, replicaSet).Scan(&settled)
		return settled, err
	})
	if err != nil {
		return err
	}
	return s.pause(ctx, 250*time.Millisecond)
}

// leave has one worker leave.
func (c *crowd) leave(m *crowdMember) error {
	c.members = slices.DeleteFunc(c.members, func(o *crowdMember) bool { return o == m })
	m.stop()
	if err := <-m.ended; err != nil {
		return fmt.Errorf("running worker %s: %w", m.name, err)
	}
	return nil
}

// end has all workers leave.
func (c *crowd) end() (err error) {
	for _, m := range c.members {
		m.stop()
	}
	for _, m := range slices.Clone(c.members) {
		err = errors.Join(err, c.leave(m))
	}
	return err
}

// The members of an active generation that run under it, and when the last of them said so.
const sqlRunning = `
SELECT count(*), coalesce(max(w.state_changed_at), now()) FROM orchestrator_generations AS g
JOIN orchestrator_workers AS w ON w.replica_set = g.replica_set AND w.generation = g.number AND w.state = 'running'
WHERE g.replica_set = $1 AND g.state = 'active' AND cardinality(g.members) = $2`

// assemble waits until all run in one generation, and says since when.
func (c *crowd) assemble(ctx context.Context, s *stage) (since time.Time, err error) {
	err = s.until(ctx, fmt.Sprintf("%d workers run", len(c.members)), func() (bool, error) {
		var running int
		row := s.pool.QueryRow(ctx, sqlRunning, replicaSet, len(c.members))
		if err := row.Scan(&running, &since); err != nil {
			return false, fmt.Errorf("counting the workers that run: %w", err)
		}
		return running == len(c.members), nil
	})
	return since, err
}

// paused is for how many seconds each has paused since it began.
func paused(members []*crowdMember) ([]float64, error) {
	sums := make([]float64, len(members))
	for i, m := range members {
		families, err := m.registry.Gather()
		if err != nil {
			return nil, fmt.Errorf("gathering the metrics of worker %s: %w", m.name, err)
		}
		found := false
		for _, f := range families {
			if f.GetName() == "pupsourcing_orchestrator_paused_seconds_total" {
				found, sums[i] = true, f.GetMetric()[0].GetCounter().GetValue()
			}
		}
		if !found {
			return nil, fmt.Errorf("worker %s has no metric of pauses", m.name)
		}
	}
	return sums, nil
}
