package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// hostVanished measures one of four workers whose host's link goes down. Each worker runs on a host of its own, a network namespace, so
// that no kernel acknowledges for it. A server's or a cable's failure looks the same.
func hostVanished() scenario {
	v := vanishing{hosts: map[string]*host{}}
	return scenario{
		figures: []string{"host-vanished"}, repetitions: 5, possible: hostsPossible,
		options: stageOptions{load: steadyLoad, settings: map[string]string{"listen_addresses": "*"}, trusted: hostNetwork, worker: v.attach},
		prepare: func(ctx context.Context, s *stage) error { return s.startMany(ctx, 4) },
		repeat:  v.repeat,
		close:   v.close,
	}
}

// vanishing has the workers' hosts, by worker.
type vanishing struct{ hosts map[string]*host }

// attach makes the worker run on a host of its own.
func (v vanishing) attach(spec *workload.WorkerSpec, n int) error {
	dsn, err := url.Parse(spec.Target.DSN)
	if err != nil {
		return fmt.Errorf("reading the server's address: %w", err)
	}
	h, err := newHost(context.Background(), n)
	if err != nil {
		return err
	}
	v.hosts[spec.Name] = h
	dsn.Host = net.JoinHostPort(h.address, dsn.Port())
	spec.Target.DSN, spec.Through = dsn.String(), h.through()
	return nil
}

func (v vanishing) close() error {
	var err error
	for _, h := range v.hosts {
		err = errors.Join(err, h.close())
	}
	return err
}

func (v vanishing) repeat(ctx context.Context, s *stage, i int) error {
	before, err := s.settle(ctx, replicaSet)
	if err != nil {
		return err
	}
	if err := s.pause(ctx, 5*time.Second); err != nil {
		return err
	}
	leader, err := s.leader(ctx)
	if err != nil {
		return err
	}
	victim := s.draw()
	h := v.hosts[victim]
	at := time.Now()
	if err := h.down(ctx); err != nil {
		return err
	}
	took, err := s.awaitRecovery(ctx, at, later(before.generation, victim))
	if err != nil {
		return err
	}
	s.report.addTime("host-vanished", took)
	changed, rejoined, err := s.comeBack(ctx, victim, before.generation, func() error { return h.up(ctx) })
	if err != nil {
		return err
	}
	s.report.add("host-vanished-rows", float64(changed))
	s.report.addTime("host-vanished-rejoin", rejoined)
	s.tell(i, "%s (leader: %t), then changed %d rows and rejoined in %s", took, victim == leader, changed, rejoined)
	return nil
}
