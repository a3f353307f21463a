package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/lag"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
)

// survey is what the horizon looks up for people, now and then. Nothing else depends on it.
type survey struct {
	busy    bool
	leading bool      // the worker was, at the last one
	ended   time.Time // when the last one did
	seeded  bool      // the samples of before this worker are known
	sampled int64     // the position of the last sample that was stored
	stored  int       // how many were
}

// surveyed is what came of a survey.
type surveyed struct {
	seeded   bool
	position int64 // that was stored; 0 if none was
	err      error
}

const (
	// surveyPolls is how many poll intervals pass between two surveys, and so how far the samples that are stored are apart at least; surveyLeast and
	// surveyMost bound that.
	surveyPolls             = 20
	surveyLeast, surveyMost = time.Second, 5 * time.Second
	// surveyStill is for how long nothing has come before surveys are rarer, and surveyRarer by how much.
	surveyStill = 10 * time.Second
	surveyRarer = 3
	// surveyTimeout bounds one.
	surveyTimeout = 10 * time.Second
	// surveyShown is for how long what a survey has found is shown, at least. The leader looks again before that unless it cannot, as while the horizon has a
	// fault, and what it knew is not what is then.
	surveyShown = 30 * time.Second
	// thinEvery is how many samples are stored between two times that they are thinned.
	thinEvery = 20
)

// sample notes up to where the stream goes now.
func (h *horizonActor) sample() { h.worker.Lag.Add(lag.Sample{At: lag.Now(), Position: h.position}) }

// survey begins a survey if it is time for one, or if the worker has begun to lead, or does not any more.
func (h *horizonActor) survey(c actor.Context) {
	s, leads := &h.surveys, h.lead.seen.Leading
	if s.busy || leads == s.leading && time.Since(s.ended) < h.surveyEvery() {
		return
	}
	s.busy, s.leading = true, leads
	root, self, w, position := c.ActorSystem().Root, c.Self(), h.worker, h.position
	result, thin := &surveyed{seeded: s.seeded}, s.stored%thinEvery == 0
	if position == s.sampled {
		position = 0
	}
	ctx, cancel := context.WithTimeout(h.ctx, surveyTimeout)
	go func() {
		defer cancel()
		defer func() { root.Send(self, result) }()
		db := w.db.InTransactions()
		if !result.seeded {
			var stored []lag.Sample
			if stored, result.err = w.Store.Samples(ctx, db, lag.Now()); result.err != nil {
				return
			}
			w.Lag.Precede(stored)
			result.seeded = true
		}
		if !leads {
			w.Metrics.Survey(nil)
			return
		}
		if position > 0 {
			if result.err = w.Store.Sample(ctx, db, position, thin); result.err != nil {
				return
			}
			result.position = position
		}
		found := measure.Survey{Shown: max(surveyShown, 3*w.Timing.Poll)}
		if found.Unowned, found.Requests, result.err = w.Store.Survey(ctx, db); result.err == nil {
			w.Metrics.Survey(&found)
		}
	}()
}

// surveyEvery is how long after a survey the next one is: longer where nothing has come for a while.
func (h *horizonActor) surveyEvery() time.Duration {
	every := max(surveyLeast, min(surveyMost, surveyPolls*h.worker.Timing.Poll))
	if time.Since(h.moved) > surveyStill {
		return surveyRarer * every
	}
	return every
}

// surveyed takes in what came of a survey. One that failed is made again when it is time for the next.
func (h *horizonActor) surveyed(m *surveyed) {
	s := &h.surveys
	s.busy, s.ended, s.seeded = false, time.Now(), m.seeded
	if m.position > 0 {
		s.sampled = m.position
		s.stored++
	}
	if m.err != nil && h.ctx.Err() == nil {
		h.worker.aidFailed(h.log, "the metrics lag_seconds, unowned_slots and requests_waiting could not be updated (orchestrator_samples, orchestrator_requests); "+
			"handling goes on, and the worker keeps trying", "survey", m.err)
	}
}
