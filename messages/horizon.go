package messages

import "github.com/getpup/pupsourcing-orchestrator/v2/internal/announcement"

// HorizonAdvanced says up to which position events can be read: no event at or below it can still appear. Horizon →
// supervisor → partition → processor. The supervisor repeats the last one to new partitions.
type HorizonAdvanced struct {
	// Position never goes back within an epoch. It is 0 in a new epoch while the horizon is not known.
	Position int64
	// Table is the oid of the horizon's events table.
	Table uint32
	// Epoch changes when the server may have crashed or been replaced. Events that were read before and not handled must
	// then be read again.
	Epoch uint64
	// News are the events between the previous horizon and Position, or nil if they are not known. Nobody changes it.
	News *announcement.News
}

// HorizonAnnounced is a horizon that another worker has found. Session → supervisor → horizon.
type HorizonAnnounced struct {
	// Session is the backend that sent it.
	Session      int
	Announcement announcement.Horizon
}

// ReplicaSetSeen tells the horizon about the replica set. Coordinator → supervisor → horizon, when it changes.
type ReplicaSetSeen struct {
	// Leading says whether this worker is the leader.
	Leading bool
	// Workers is how many workers are present.
	Workers int
	// Leader is the backend of the leader's session, or 0 if there is no leader.
	Leader int
}

// Informed says that a processor has received a HorizonAdvanced or ReaderReady. Processor → partition. Until then the
// partition sends it no other, so its mailbox does not grow while a handler runs. Only the last message of each kind
// counts.
type Informed struct{}

// EventsAppended says that events were appended or will be soon, so the horizon should look. The session sends it
// because of the wake-up trigger or because the leader has seen an append. The coordinator sends it if it has seen one
// itself. Session or coordinator → supervisor → horizon.
type EventsAppended struct{}

// AppendsWatched says whether the coordinators' looks at the replica set show appends as often as the poll interval
// requires. Coordinator → supervisor → horizon, when it changes.
type AppendsWatched struct{ Watched bool }

// WakeUps says whether appends can be notified from now on. If not, the horizon must poll for them. Supervisor →
// horizon, when the session is connected or lost.
type WakeUps struct{ Connected bool }

// WakeUpsDeclined says that a worker no longer asks for the notification of appends. A worker that relied on this must
// now ask, and look. Session → supervisor → horizon.
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
