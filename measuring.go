package orchestrator

import (
	"runtime"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/actors"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/lag"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
)

// showWorker registers the metrics that are computed at each scrape.
func (o *Orchestrator) showWorker(cfg actors.Config) {
	history, loops := cfg.Lag, cfg.Loops
	cfg.Metrics.ShowWorker(measure.Worker{
		ID: cfg.Membership.ID.String(), Name: cfg.Membership.Name, Version: cfg.Membership.Version, Go: runtime.Version(),
		LagSince: func(position int64) time.Duration { return history.Since(position, lag.Now()) },
		Loops: func() []measure.LoopAge {
			var all []measure.LoopAge
			for _, l := range loops.Status() {
				all = append(all, measure.LoopAge{Name: l.Name, Age: time.Since(l.Last), Stuck: !l.OK})
			}
			return all
		},
		Waits:        cfg.Waits.Waiting,
		EarlierNames: o.config.earlierMetricNames,
	})
}
