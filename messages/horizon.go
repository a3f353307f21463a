package messages

import "github.com/getpup/pupsourcing-orchestrator/v2/internal/announcement"

// HorizonAdvanced says up to which position events can be read: no event at or
// below it can still appear. Horizon → supervisor → partition → processor; the
// supervisor repeats the last one to new partitions.
type HorizonAdvanced struct {
	// Position never goes back within an epoch. It is 0, in a new one, while the
	// horizon is not known.
	Position int64
	// Table is the oid of the events table of which this is the horizon.
	Table uint32
	// Epoch changes when the server may have crashed or been replaced: events
	// that were read before and not handled must be read again.
	Epoch uint64
	// News are the events between the horizon before and Position; nil if they are not known. It is not changed.
	News *announcement.News
}

// HorizonAnnounced is a horizon that another worker has found. Session → supervisor → horizon.
type HorizonAnnounced struct {
	// Session is the backend that has sent it.
	Session      int
	Announcement announcement.Horizon
}

// ReplicaSetSeen is what the horizon needs to know of the replica set. Coordinator → supervisor → horizon, when it changes.
type ReplicaSetSeen struct {
	// Leading says whether this worker leads.
	Leading bool
	// Workers is how many workers are there.
	Workers int
	// Leader is the backend of the leader's session; 0 if there is none.
	Leader int
}

// Informed says that a processor has taken in a HorizonAdvanced or ReaderReady.
// Processor → partition, which sends it no other before, so that its mailbox does not
// grow while a handler runs: only the last of each kind counts.
type Informed struct{}

// EventsAppended says that events were or will soon be appended: look. Session
// (by the wake-up trigger, or because the leader has seen it) or coordinator (which
// has seen it itself) → supervisor → horizon.
type EventsAppended struct{}

// AppendsWatched says whether the coordinators' looks at the replica set show
// appends, as often as the poll interval asks. Coordinator → supervisor → horizon,
// when it changes.
type AppendsWatched struct{ Watched bool }

// WakeUps says whether appends can be notified from now on. If not, they must be
// looked for. Supervisor → horizon, when the session is connected or lost.
type WakeUps struct{ Connected bool }

// WakeUpsDeclined says that the worker that had asked for the notification of
// appends has declined it: whoever relies on its having asked must ask now, and look.
// Session → supervisor → horizon.
type WakeUpsDeclined struct{}

func (Informed) toPartition()          {}
func (HorizonAnnounced) toSupervisor() {}
func (HorizonAnnounced) toHorizon()    {}
func (ReplicaSetSeen) toSupervisor()   {}
func (ReplicaSetSeen) toHorizon()      {}
func (EventsAppended) toSupervisor()   {}
func (EventsAppended) toHorizon()      {}
func (AppendsWatched) toSupervisor()   {}
func (AppendsWatched) toHorizon()      {}
func (WakeUps) toHorizon()             {}
func (WakeUpsDeclined) toSupervisor()  {}
func (WakeUpsDeclined) toHorizon()     {}
func (HorizonAdvanced) toSupervisor()  {}
func (HorizonAdvanced) toPartition()   {}
func (HorizonAdvanced) toProcessor()   {}
