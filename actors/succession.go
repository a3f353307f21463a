package actors

import (
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// A projection may replace another one at a cut-over. What this worker believes of that is fenced by the revision of the projection's checkpoints: a cut-over raises it,
// and the rows are read before orchestrator_successions.

// succession is the part that the projection has in a cut-over.
type succession struct {
	replaces   string // what it is to replace; empty if nothing
	replay     bool   // it has not done so yet
	replacedBy string // the projection that has replaced this one; empty if none has
	told       bool   // the log has said so
}

// read takes in which projections have replaced others.
func (s *succession) read(projection string, all []replicaset.Succession) {
	replay, by := replicaset.Replays(projection, s.replaces, all), replicaset.Replaced(projection, all)
	s.told = s.told && replay == s.replay && by == s.replacedBy
	s.replay, s.replacedBy = replay, by
}

// divide is slot.Divide. All of a projection that was replaced rests, even if somebody has released its checkpoints.
func (s *succession) divide(pieces []slot.Piece) (running, resting []slot.Piece) {
	if s.replacedBy != "" {
		return nil, pieces
	}
	return slot.Divide(pieces)
}

// noticeSuccession logs the part that the projection has in a cut-over, when it has changed.
func (p *processor) noticeSuccession() {
	s := &p.succession
	switch {
	case s.replacedBy != "":
		if p.worker.notices.due("replaced "+p.fence.Projection, personInterval) {
			p.log.Warn("the projection was replaced at a cut-over, and no longer handles events: remove it from the projections passed to Run", "replaced_by", s.replacedBy)
		}
	case s.told || s.replaces == "":
	case s.replay:
		p.log.Info("the projection is being built beside the one that it will replace; until the cut-over, Delivery.Replay tells its handlers so", "replaces", s.replaces)
	default:
		p.log.Info("the projection has taken over from the one that it replaces", "replaces", s.replaces)
	}
	s.told = true
}
