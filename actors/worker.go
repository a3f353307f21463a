package actors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/announcement"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/budget"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/lag"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/wakeup"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// Worker is a running worker. It has an actor system and a coordination session of its own.
type Worker struct {
	worker  *worker
	system  *actor.ActorSystem
	top     *actor.PID
	done    chan struct{}
	cleanup sync.Once
}

// Start starts a worker. It joins its replica set in the background, and keeps trying until it succeeds.
func Start(cfg Config) (*Worker, error) {
	w := &worker{
		Config:   cfg,
		db:       dbguard.NewPatient(cfg.Pool, cfg.Timing.Answer),
		batches:  budget.Join(cfg.Pool, budget.KeptForWorkers, cmp.Or(cfg.Timing.Place, budget.Slow), cfg.Membership.Projections...),
		handlers: cfg.Handlers,
		scopes:   map[string]handling.Scope{},
		turns:    map[string]*turnPlace{},
	}
	if w.handlers == nil {
		w.handlers = NewHandlers(cfg.Batch.HangAfter, cfg.Metrics)
	}
	if w.Lag == nil {
		w.Lag = &lag.History{}
	}
	w.Store = cfg.Store.Notifying(cfg.Connect != nil, func(ctx context.Context, err error) {
		cfg.Metrics.NotificationFailed()
		w.logger(kindCoordinator).ErrorContext(ctx, "the other workers could not be notified, and find the change at their next look: if the notification queue is full, "+
			"end the session that holds it up, which the server's log names", "error", err)
	})
	if atOnce, n := w.batches.AtOnce(), w.batches.Projections(); atOnce < n {
		cfg.Logger.Warn("the pool has too few connections for a batch of each projection: projections whose handlers hang hold up the others; set the pool's MaxConns to pool_connections_needed or more",
			"pool_connections", cfg.Pool.Config().MaxConns, "pool_connections_needed", n+budget.KeptForWorkers, "batches_at_once", atOnce, "projections", n)
	}
	for i, name := range cfg.Membership.Projections {
		w.scopes[name] = cfg.Projections[i].Scope
		w.turns[name] = newTurnPlace()
	}
	w.hook = startHook(w)
	system := actor.NewActorSystem(
		actor.WithDeadLetterThrottleInterval(time.Millisecond), // the default keeps a goroutine asleep for a second
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }),
	)
	system.EventStream.Subscribe(func(event any) {
		if _, ok := event.(*actor.DeadLetterEvent); ok {
			cfg.Metrics.ActorUndelivered()
		}
	})
	started := &Worker{worker: w, system: system, done: make(chan struct{})}
	ready := make(chan struct{})
	if cfg.Connect != nil {
		w.session = pgcoord.OpenSession(context.Background(), started.sessionConfig(ready))
	}
	stopped := make(chan struct{})
	name := "worker." + cfg.Membership.ID.String()
	props := properties(kindSupervisor, name, cfg.Metrics,
		func() actor.Actor { return newSupervisor(w, stopped) }, actor.WithGuardian(guardian{log: cfg.Logger}))
	top, err := system.Root.SpawnNamed(props, name)
	started.top = top
	w.handlers.notify(func() { system.Root.Send(top, messages.HandlersChanged{}) })
	close(ready)
	if err != nil {
		close(stopped)
		started.close()
		return nil, fmt.Errorf("starting the worker's supervisor: %w", err)
	}
	go func() {
		<-stopped
		started.close()
		close(started.done)
	}()
	return started, nil
}

// sessionConfig sends the session's events to the supervisor, once there is one.
func (w *Worker) sessionConfig(ready <-chan struct{}) pgcoord.SessionConfig {
	send := func(m messages.ToSupervisor) {
		<-ready
		if w.top != nil {
			w.system.Root.Send(w.top, m)
		}
	}
	cfg := w.worker.Config
	connected := false
	loop := cfg.Loops.Watch("session", pgcoord.SessionRound)
	return pgcoord.SessionConfig{
		Connect: cfg.Connect,
		Channel: cfg.Store.Channel(),
		Appends: wakeup.Channel(cfg.EventStore.EventsTable()),
		Key:     cfg.Store.SessionKey(cfg.Membership.ID),
		Logger:  w.worker.logger("session"),

		WakeUpKey: wakeup.Key(cfg.EventStore.EventsTable()),
		Events: pgcoord.SessionEvents{
			Connected: func() {
				cfg.Metrics.SessionConnected(true)
				if connected {
					cfg.Metrics.SessionReconnected()
				}
				connected = true
				send(messages.SessionConnected{})
			},
			Lost: func(err error) {
				cfg.Metrics.SessionConnected(false)
				w.worker.db.Suspect() // what ended it may have ended more
				send(messages.SessionLost{Err: err})
			},
			Notified: func(kind, worker string) {
				switch {
				case worker == cfg.Membership.ID.String():
				case kind == pgcoord.NotifyFlush:
					cfg.Metrics.Notification(kind)
					cfg.Waits.Flush(worker) // a projection's name follows
				case kind == pgcoord.NotifyAppended:
					send(messages.EventsAppended{})
				default:
					send(messages.Notified{Kind: kind, Worker: worker})
				}
			},
			Announced: func(session int, a announcement.Horizon) {
				cfg.Metrics.Notification(pgcoord.NotifyHorizon)
				send(messages.HorizonAnnounced{Session: session, Announcement: a})
			},
			Progress: loop.Round,
			Proved:   cfg.Metrics.NotificationProof,
			Appended: func() { send(messages.EventsAppended{}) },
			Declined: func() { send(messages.WakeUpsDeclined{}) },
		},
	}
}

// close ends the session and the actor system, after the last actor.
func (w *Worker) close() {
	w.cleanup.Do(func() {
		w.worker.handlers.notify(nil)
		if w.worker.session != nil {
			w.worker.session.Close()
		}
		w.system.Shutdown()
		w.worker.Loops.End()
		w.worker.batches.Leave()
		w.worker.hook.End()
	})
}

// Leave asks the worker to leave its replica set: to finish the work in flight, record its departure, and end. Done is
// closed when it has ended.
func (w *Worker) Leave() { w.system.Root.Send(w.top, messages.Leave{}) }

// Stop ends the worker without recording its departure. Work in flight is cancelled, and handlers that ignore this are
// abandoned. Done is closed when it has ended.
func (w *Worker) Stop() { w.system.Root.Stop(w.top) }

// Done is closed when every part of the worker has ended, except abandoned handlers. If neither Leave nor Stop was
// called before, the supervisor has panicked.
func (w *Worker) Done() <-chan struct{} { return w.done }

// Busy describes the handlers that are running now, including abandoned ones.
func (w *Worker) Busy() []string { return w.worker.handlers.running() }

// guardian stops a supervisor that panicked. Run waits for Done, and then starts
// everything again.
type guardian struct{ log *slog.Logger }

// HandleFailure stops the supervisor.
func (g guardian) HandleFailure(_ *actor.ActorSystem, parent actor.Supervisor, pid *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	attrs := []any{"error", reason}
	var crashed *crash
	if err, ok := reason.(error); ok && errors.As(err, &crashed) {
		attrs = append(attrs, "stack", string(crashed.Stack))
	}
	g.log.Error("the supervisor panicked; the worker starts again", attrs...)
	parent.StopChildren(pid)
}
