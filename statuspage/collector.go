package statuspage

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// collectorPrefix begins the names of the metrics from the tables. Those of workers begin otherwise, so both may be in one registry.
const collectorPrefix = "pupsourcing_orchestrator_set_"

const (
	projectionsMost = 200 // that have series of their own
	scrapeLasts     = time.Second
)

func measured(replicaSet, name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(collectorPrefix+name, help, labels, prometheus.Labels{"replica_set": replicaSet})
}

// collector reads a replica set's metrics from its tables.
type collector struct {
	snapshot func(context.Context) (admin.Snapshot, error)

	workers, drained, abandoned                                         *prometheus.Desc
	generation, generationAge, preparing                                *prometheus.Desc
	position, lag, waits, runBy, held, stopped, parked, letters, beyond *prometheus.Desc
	horizon, allocated, heldBack, horizonAge                            *prometheus.Desc
	regressions, operations                                             *prometheus.Desc

	mu    sync.Mutex
	last  admin.Snapshot
	at    time.Time // when last was read; the process's clock
	ended time.Time // when the last look ended
	err   error     // of the last look
}

// NewCollector returns a collector that reads the state of a replica set from the tables. Register it with your own
// registry. It does not need a worker, so it also shows a replica set whose last worker has died. A scrape costs one
// snapshot, which scrapes within a second share. If the database cannot be read, the scrape fails, which shows as up ==
// 0. Every metric has the label replica_set:
//
//	name                           labels             meaning
//	set_workers                    state              Workers: pending, ready, running or stopping; silent, without a heartbeat for 15 s, or for half of the stale worker timeout if that is longer; dead, declared so in the last 10 minutes.
//	set_workers_drained                               Workers that somebody has drained.
//	set_abandoned_handlers                            Handlers that did not return when they were to stop, and still run.
//	set_generation                                    Number of the current generation; 0 before the first.
//	set_generation_age_seconds                        Time since the current generation was made.
//	set_generation_preparing_seconds                  For how long a generation has been in preparation; 0 if none is.
//	set_projection_position        projection         Position up to which everything was handled.
//	set_projection_lag_events      projection         Events that it has yet to handle, exact up to 2,000.
//	set_projection_lag_seconds     projection         The age of the oldest event that it may still have to handle; 0 if no event waits. Missing if no leader was there to see it.
//	set_projection_workers         projection         Workers that run it; 0 if nobody does.
//	set_projection_held            projection         1 while somebody holds it back, else 0.
//	set_projection_stopped         projection         1 while it is stopped at an event, else 0.
//	set_parked_aggregates          projection         Aggregates whose events are put aside.
//	set_letters                    projection, state  Events that could not be handled: retrying, stopped, parked or skipped.
//	set_projections_left_out                          Projections without series, because there are more than 200.
//	set_horizon_position                              Position up to which no event can still appear, as far as the tables say.
//	set_last_allocated_position                       Highest position that an event was given. Missing if the role may not read the sequence.
//	set_horizon_held_back_seconds                     Age of the oldest open transaction that holds the horizon back; 0 if none does.
//	set_horizon_age_seconds                           Time since a worker stored the horizon last. Missing if none has.
//	set_regressions                                   Regressions of the sequence that are not settled; while there is one nothing is handled.
//	set_operations_waiting                            Operations that workers have yet to do.
//
// A projection that was replaced at a cut-over has no series. The full names begin with pupsourcing_orchestrator_.
// NewCollector panics if a is nil.
func NewCollector(a *admin.Admin) prometheus.Collector {
	if a == nil {
		panic("statuspage.NewCollector: the admin must not be nil")
	}
	set := a.ReplicaSet()
	return &collector{
		snapshot:      a.Snapshot,
		workers:       measured(set, "workers", "Workers by state.", "state"),
		drained:       measured(set, "workers_drained", "Workers that somebody has drained."),
		abandoned:     measured(set, "abandoned_handlers", "Handlers that did not return when they were to stop, and still run."),
		generation:    measured(set, "generation", "Number of the current generation; 0 before the first."),
		generationAge: measured(set, "generation_age_seconds", "Time since the current generation was made."),
		preparing:     measured(set, "generation_preparing_seconds", "For how long a generation has been in preparation; 0 if none is."),
		position:      measured(set, "projection_position", "Position up to which everything was handled.", "projection"),
		lag:           measured(set, "projection_lag_events", "Events that the projection has yet to handle, exact up to 2,000.", "projection"),
		waits:         measured(set, "projection_lag_seconds", "The age of the oldest event that the projection may still have to handle; 0 if no event waits.", "projection"),
		runBy:         measured(set, "projection_workers", "Workers that run the projection.", "projection"),
		held:          measured(set, "projection_held", "1 while somebody holds the projection back, else 0.", "projection"),
		stopped:       measured(set, "projection_stopped", "1 while the projection is stopped at an event, else 0.", "projection"),
		parked:        measured(set, "parked_aggregates", "Aggregates whose events are put aside.", "projection"),
		letters:       measured(set, "letters", "Events that could not be handled, by state.", "projection", "state"),
		beyond:        measured(set, "projections_left_out", "Projections without series, because there are more than 200."),
		horizon:       measured(set, "horizon_position", "Position up to which no event can still appear, as far as the tables say."),
		allocated:     measured(set, "last_allocated_position", "Highest position that an event was given."),
		heldBack:      measured(set, "horizon_held_back_seconds", "Age of the oldest open transaction that holds the horizon back; 0 if none does."),
		horizonAge:    measured(set, "horizon_age_seconds", "Time since a worker stored the horizon last."),
		regressions:   measured(set, "regressions", "Regressions of the sequence that are not settled."),
		operations:    measured(set, "operations_waiting", "Operations that workers have yet to do."),
	}
}

// Describe sends what there is.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.workers, c.drained, c.abandoned, c.generation, c.generationAge, c.preparing, c.position, c.lag, c.waits, c.runBy, c.held, c.stopped, c.parked, c.letters, c.beyond,
		c.horizon, c.allocated, c.heldBack, c.horizonAge, c.regressions, c.operations,
	} {
		to <- d
	}
}

// Collect reads the tables.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s, err := c.latest(time.Now())
	if err != nil {
		to <- prometheus.NewInvalidMetric(c.workers, fmt.Errorf("collecting the metrics of a replica set: %w", err))
		return
	}
	tell := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	c.tellWorkers(s, tell)
	c.tellProjections(s, tell)
	c.tellStream(s, tell)
}

// latest is a snapshot that is at most a second old, for a scrape that came at a time. Scrapes that came while another one looked share what it saw, and
// its error: otherwise each would wait for all before it while the database does not answer, and they would pile up.
func (c *collector) latest(came time.Time) (admin.Snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case time.Since(c.at) < scrapeLasts:
		return c.last, nil
	case c.ended.After(came):
		return c.last, c.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readPatience)
	defer cancel()
	began := time.Now()
	s, err := c.snapshot(ctx)
	if err == nil {
		c.last, c.at = s, began
	}
	c.err, c.ended = err, time.Now()
	return s, err
}

type teller func(d *prometheus.Desc, value float64, labels ...string)

func (c *collector) tellWorkers(s admin.Snapshot, tell teller) {
	states := map[string]int{"pending": 0, "ready": 0, "running": 0, "stopping": 0, "silent": 0, "dead": 0}
	abandoned, drained := 0, 0
	for _, w := range s.Workers {
		abandoned += len(w.Abandoned)
		if w.Drained && !ended(w) { // a drain by name is of all workers that have it, and stays when they have gone
			drained++
		}
		switch {
		case w.SilentFor(s.At) > 0:
			states["silent"]++
		case w.State == "dead" && (w.StateChangedAt == nil || s.At.Sub(*w.StateChangedAt) > recentlyAfter), w.State == "stopped":
		default:
			states[w.State]++
		}
	}
	for state, n := range states {
		tell(c.workers, float64(n), state)
	}
	tell(c.drained, float64(drained))
	tell(c.abandoned, float64(abandoned))
	g := s.Generation
	if g == nil {
		g = &admin.Generation{}
	}
	tell(c.generation, float64(g.Number))
	age := since(g.CreatedAt, s.At)
	tell(c.generationAge, age)
	if g.State != "preparing" {
		age = 0
	}
	tell(c.preparing, age)
}

func (c *collector) tellProjections(s admin.Snapshot, tell teller) {
	// One that another has replaced handles nothing any more, and nobody need run it.
	shown := slices.DeleteFunc(slices.Clone(s.Projections), func(p admin.Projection) bool { return p.ReplacedBy != "" })
	for _, p := range shown[:min(len(shown), projectionsMost)] {
		tell(c.position, float64(p.Position), p.Name)
		tell(c.lag, float64(p.Lag), p.Name)
		if p.LagSeconds != nil {
			tell(c.waits, *p.LagSeconds, p.Name)
		}
		tell(c.runBy, float64(p.Workers), p.Name)
		tell(c.held, truth(p.Paused), p.Name)
		tell(c.stopped, truth(p.Stopped), p.Name)
		tell(c.parked, float64(p.Parked.Aggregates), p.Name)
		for state, n := range map[string]int64{"retrying": p.Letters.Retrying, "stopped": p.Letters.Stopped, "parked": p.Parked.Events, "skipped": p.Letters.Skipped} {
			tell(c.letters, float64(n), p.Name, state)
		}
	}
	tell(c.beyond, float64(max(0, len(shown)-projectionsMost)))
}

func (c *collector) tellStream(s admin.Snapshot, tell teller) {
	h := s.Horizon
	tell(c.horizon, float64(h.Position))
	if h.LastAllocated != nil {
		tell(c.allocated, float64(*h.LastAllocated))
	}
	heldBack := 0.0
	for _, t := range h.HeldBackBy {
		heldBack = max(heldBack, since(t.Since, s.At))
	}
	tell(c.heldBack, heldBack)
	if h.StoredAt != nil {
		tell(c.horizonAge, since(h.StoredAt, s.At))
	}
	open := 0
	for _, r := range s.Regressions {
		if r.SettledAt == nil {
			open++
		}
	}
	tell(c.regressions, float64(open))
	tell(c.operations, float64(len(s.Operations)))
}

// since is the time since a moment, in seconds; 0 if there is no moment.
func since(at *time.Time, now time.Time) float64 {
	if at == nil {
		return 0
	}
	return max(0, now.Sub(*at).Seconds())
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
