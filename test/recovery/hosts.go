package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/wire"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// hostGone measures one of four workers whose packets are dropped in both directions, without a reset. Each worker connects through a
// proxy of its own, so the kernels at both ends go on acknowledging: keepalives do not notice, only silence tells. What was sent
// arrives when the way is whole again, as TCP would send it again.
func hostGone() scenario {
	return vanishing("host-gone", stageOptions{}, func(_ *workload.WorkerSpec, dsn *url.URL, _ int) (way, error) {
		p, err := wire.Listen(context.Background(), dsn.Host)
		if err != nil {
			return way{}, err
		}
		dsn.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port()))
		set := func(s wire.State) func(context.Context) error {
			return func(context.Context) error { p.Set(s); return nil }
		}
		return way{set(wire.State{HoldUp: true, HoldDown: true}), set(wire.State{}), p.Close}, nil
	})
}

// hostVanished measures one of four workers whose host's link goes down. Each worker runs on a host of its own, a network namespace, so
// that no kernel acknowledges for it. A server's or a cable's failure looks the same.
func hostVanished() scenario {
	options := stageOptions{settings: map[string]string{"listen_addresses": "*"}, trusted: hostNetwork}
	sc := vanishing("host-vanished", options, func(spec *workload.WorkerSpec, dsn *url.URL, n int) (way, error) {
		h, err := newHost(context.Background(), n)
		if err != nil {
			return way{}, err
		}
		dsn.Host, spec.Through = net.JoinHostPort(h.address, dsn.Port()), h.through()
		return way{h.down, h.up, h.close}, nil
	})
	sc.possible = hostsPossible
	return sc
}

// way is a worker's way to the server, which can be cut without anybody being told.
type way struct {
	cut, heal func(context.Context) error
	close     func() error
}

// ways are the workers' ways, by worker.
type ways map[string]way

// vanishing measures one of four workers whose way to the server is cut. pave makes a worker's way, and changes where it connects to.
func vanishing(figure string, options stageOptions, pave func(spec *workload.WorkerSpec, dsn *url.URL, n int) (way, error)) scenario {
	all := ways{}
	options.load = steadyLoad
	options.worker = func(spec *workload.WorkerSpec, n int) error {
		dsn, err := url.Parse(spec.Target.DSN)
		if err != nil {
			return fmt.Errorf("reading the server's address: %w", err)
		}
		all[spec.Name], err = pave(spec, dsn, n)
		spec.Target.DSN = dsn.String()
		return err
	}
	return scenario{
		figures: []string{figure}, repetitions: 5, options: options,
		prepare: func(ctx context.Context, s *stage) error { return s.startMany(ctx, 4) },
		repeat:  func(ctx context.Context, s *stage, i int) error { return all.repeat(ctx, s, i, figure) },
		close:   all.close,
	}
}

func (w ways) close() error {
	var err error
	for _, way := range w {
		if way.close != nil { // of one that could not be made
			err = errors.Join(err, way.close())
		}
	}
	return err
}

func (w ways) repeat(ctx context.Context, s *stage, i int, figure string) error {
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
	at := time.Now()
	if err := w[victim].cut(ctx); err != nil {
		return err
	}
	took, err := s.awaitRecovery(ctx, at, later(before.generation, victim))
	if err != nil {
		return err
	}
	s.report.addTime(figure, took)
	changed, rejoined, err := s.comeBack(ctx, victim, before.generation, func() error { return w[victim].heal(ctx) })
	if err != nil {
		return err
	}
	s.report.add(figure+"-rows", float64(changed))
	s.report.addTime(figure+"-rejoin", rejoined)
	s.tell(i, "%s (leader: %t), then changed %d rows and rejoined in %s", took, victim == leader, changed, rejoined)
	return nil
}
