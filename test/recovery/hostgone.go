package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// hostGone measures one of four workers whose packets are dropped in both directions, without a reset. Each worker connects
// through a proxy of its own.
func hostGone() scenario {
	h := hosts{proxies: map[string]*proxy{}}
	return scenario{
		figures: []string{"host-gone"}, repetitions: 5,
		options: stageOptions{load: steadyLoad, worker: h.attach},
		prepare: func(ctx context.Context, s *stage) error { return s.startMany(ctx, 4) },
		repeat:  h.repeat,
		close:   h.close,
	}
}

// hosts are the workers' ways to the server, by worker.
type hosts struct{ proxies map[string]*proxy }

// attach makes the worker connect through a proxy.
func (h hosts) attach(spec *workload.WorkerSpec, _ int) error {
	dsn, err := url.Parse(spec.Target.DSN)
	if err != nil {
		return fmt.Errorf("reading the server's address: %w", err)
	}
	p, err := newProxy(context.Background(), dsn.Host)
	if err != nil {
		return err
	}
	h.proxies[spec.Name] = p
	dsn.Host = p.address()
	spec.Target.DSN = dsn.String()
	return nil
}

func (h hosts) close() error {
	var err error
	for _, p := range h.proxies {
		err = errors.Join(err, p.close())
	}
	return err
}

func (h hosts) repeat(ctx context.Context, s *stage, i int) error {
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
	way := h.proxies[victim]
	at := time.Now()
	way.drop()
	took, err := s.awaitRecovery(ctx, at, later(before.generation, victim))
	if err != nil {
		return err
	}
	s.report.addTime("host-gone", took)
	changed, rejoined, err := s.comeBack(ctx, victim, before.generation, func() error { way.heal(); return nil })
	if err != nil {
		return err
	}
	s.report.add("host-gone-rows", float64(changed))
	s.report.addTime("host-gone-rejoin", rejoined)
	s.tell(i, "%s (leader: %t), then changed %d rows and rejoined in %s", took, victim == leader, changed, rejoined)
	return nil
}
