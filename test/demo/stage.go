package main

import (
	"context"
	"fmt"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// until shows what happens until done, which is asked after every look. It fails if that takes longer than patience, or if a
// process ends that should not.
func (d *demo) until(ctx context.Context, patience time.Duration, what string, done func(workload.Snapshot) bool) error {
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	for {
		snapshot, err := d.look(ctx)
		if err != nil {
			return err
		}
		switch {
		case done(snapshot):
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("waited %s in vain until %s", patience, what)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w while waiting until %s", context.Cause(ctx), what)
		case <-ticker.C:
		}
	}
}

// look reads the tables and shows them.
func (d *demo) look(ctx context.Context) (workload.Snapshot, error) {
	snapshot, err := workload.Observe(ctx, d.pool, replicaSet)
	if err != nil {
		return snapshot, err
	}
	for _, sentence := range d.news.news(snapshot) {
		d.tell("%s", sentence)
	}
	now, stats := time.Now(), d.writers.Stats()
	v := view{Elapsed: now.Sub(d.began), Snapshot: snapshot, Writers: stats, WriteRate: d.speed.update(now, stats.Events)}
	if d.screen.live {
		d.screen.draw(now, v.table(), "")
	} else {
		d.screen.draw(now, nil, v.status())
	}
	return snapshot, d.ended()
}

// ended tells of processes that have ended, and fails if one should not have.
func (d *demo) ended() error {
	for _, p := range d.processes {
		if !p.Ended() || d.reported[p.Name] {
			continue
		}
		d.reported[p.Name] = true
		outcome := p.Outcome()
		switch why := d.expected[p.Name]; {
		case why == kill:
			d.tell("%s's process is gone (%v)", p.Name, outcome)
		case why == terminate && outcome == nil:
			d.tell("%s's process has ended with exit code 0", p.Name)
		default:
			return fmt.Errorf("%s's process has ended, which it should not have (%w); its log is %s", p.Name, outcome, p.LogFile)
		}
	}
	return nil
}

// tell writes a sentence with the time.
func (d *demo) tell(format string, args ...any) {
	d.screen.say(fmt.Sprintf("%5.1f s  ", time.Since(d.began).Seconds()) + fmt.Sprintf(format, args...))
}

// perform does something to a worker.
func (d *demo) perform(ctx context.Context, a action, name string) error {
	if a == start {
		return d.spawn(name)
	}
	p := d.process(name)
	if p == nil {
		return fmt.Errorf("%s %s: it was never started", a, name)
	}
	switch a {
	case kill:
		d.expected[name] = kill
		d.tell(">>> SIGKILL to %s (process %d): it dies without a word", name, p.PID)
		return p.Kill()
	case terminate:
		d.expected[name] = terminate
		d.tell(">>> SIGTERM to %s (process %d): it leaves gracefully", name, p.PID)
		return p.Terminate()
	case freeze:
		return d.freeze(ctx, p)
	case thaw:
		d.tell(">>> SIGCONT to %s (process %d): it goes on where it was, and must find that its time is over", name, p.PID)
		return p.Thaw()
	default:
		return fmt.Errorf("nobody knows how to %s a worker", a)
	}
}

// freeze freezes a worker in the middle of a batch.
func (d *demo) freeze(ctx context.Context, p *workload.Process) error {
	snapshot, err := workload.Observe(ctx, d.pool, replicaSet)
	if err != nil {
		return err
	}
	worker, _ := snapshot.Worker(p.Name)
	ctx, cancel := context.WithTimeoutCause(ctx, freezePatience, fmt.Errorf("tried for %s", freezePatience))
	defer cancel()
	if err := workload.FreezeInBatch(ctx, d.pool, p, worker); err != nil {
		return err
	}
	d.tell(">>> SIGSTOP to %s (process %d): it froze in the middle of a batch, its transaction open; it counts as dead after %s", p.Name, p.PID, staleTimeout)
	return nil
}

// spawn starts a worker.
func (d *demo) spawn(name string) error {
	address, err := d.metricsAddress(name)
	if err != nil {
		return err
	}
	p, err := workload.Spawn(workload.WorkerSpec{
		MetricsAddress:      address,
		Target:              d.database.Target,
		ReplicaSet:          replicaSet,
		Name:                name,
		Projections:         projections,
		HeartbeatInterval:   heartbeatInterval,
		StaleWorkerTimeout:  staleTimeout,
		CoordinationTimeout: coordinationTimeout,
	}, d.dir)
	if err != nil {
		return err
	}
	d.processes = append(d.processes, p)
	d.tell(">>> started %s as process %d", name, p.PID)
	return nil
}

// process is the worker's process; nil if it was never started.
func (d *demo) process(name string) *workload.Process {
	for _, p := range d.processes {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// rate is how fast a count grows, over the last few seconds.
type rate struct{ samples []sample }

type sample struct {
	at    time.Time
	count int64
}

// rateWindow is over how long the rate is taken.
const rateWindow = 2 * time.Second

// update adds a count and returns what it grew by a second; 0 with one sample.
func (r *rate) update(now time.Time, count int64) float64 {
	r.samples = append(r.samples, sample{now, count})
	for len(r.samples) > 2 && now.Sub(r.samples[1].at) >= rateWindow {
		r.samples = r.samples[1:]
	}
	oldest := r.samples[0]
	if now.Equal(oldest.at) {
		return 0
	}
	return float64(count-oldest.count) / now.Sub(oldest.at).Seconds()
}
