package replicaset

import (
	"time"

	"github.com/google/uuid"
)

// Action is something that the coordinator is to do. Those that change tables
// are done in order, and the first that fails ends the round.
type Action interface{ action() }

type (
	// Join enters the worker's row.
	Join struct{}
	// Rejoin makes the worker, which was declared dead, pending again.
	Rejoin struct{}
	// RequestGeneration asks for a new generation, since the checkpoints contradict the
	// active one: somebody has changed them by hand. Projections are those that the last look named.
	RequestGeneration struct{ Projections []string }
	// Report records the worker's state.
	Report struct {
		State      WorkerState
		Generation int64
	}
	// RecordAbandoned records which handlers the worker has abandoned.
	RecordAbandoned struct{ Handlers []AbandonedHandler }
	// Leave records that the worker has left.
	Leave struct{}
	// StopPartitions asks the supervisor to stop them after the delay After.
	StopPartitions struct {
		Generation int64
		Now        bool
		Reason     string
		After      time.Duration
	}
	// StartPartitions reads the assignment and asks the supervisor to start it.
	StartPartitions struct{ Generation int64 }
	// Prepare supersedes the generation.
	Prepare struct{ Preparation Preparation }
	// DeclareDead marks workers dead while a generation is in preparation.
	DeclareDead struct{ Losses []Loss }
	// Activate activates the generation in preparation.
	Activate struct{ Activation Activation }
	// EndLeader ends the session of a leader that is frozen or cut off.
	EndLeader struct {
		PID    int
		Worker uuid.UUID
	}
	// WarnOfLockHolder tells people who holds the leader's lock.
	WarnOfLockHolder struct{}
	// Prune deletes old rows.
	Prune struct{}
	// WakeHorizon tells the horizon that events were appended.
	WakeHorizon struct{}
	// AnnounceAppends tells the other workers.
	AnnounceAppends struct{}
	// LookAgain asks for another look sooner than usual.
	LookAgain struct{ After time.Duration }
)

func (Join) action()              {}
func (Rejoin) action()            {}
func (RequestGeneration) action() {}
func (Report) action()            {}
func (RecordAbandoned) action()   {}
func (Leave) action()             {}
func (StopPartitions) action()    {}
func (StartPartitions) action()   {}
func (Prepare) action()           {}
func (DeclareDead) action()       {}
func (Activate) action()          {}
func (EndLeader) action()         {}
func (WarnOfLockHolder) action()  {}
func (Prune) action()             {}
func (WakeHorizon) action()       {}
func (AnnounceAppends) action()   {}
func (LookAgain) action()         {}
