package messages

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

func (Informed) toPartition()         {}
func (EventsAppended) toSupervisor()  {}
func (EventsAppended) toHorizon()     {}
func (AppendsWatched) toSupervisor()  {}
func (AppendsWatched) toHorizon()     {}
func (WakeUps) toHorizon()            {}
func (WakeUpsDeclined) toSupervisor() {}
func (WakeUpsDeclined) toHorizon()    {}
func (HorizonAdvanced) toSupervisor() {}
func (HorizonAdvanced) toPartition()  {}
func (HorizonAdvanced) toProcessor()  {}
