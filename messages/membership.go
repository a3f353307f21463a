package messages

import "time"

// Leave asks the worker to leave the replica set: finish its batches, record its departure, and stop. Orchestrator →
// supervisor → coordinator, once.
type Leave struct{}

// Joined says that the worker's row was entered, or made pending again, so there is a lease to renew. Coordinator →
// supervisor → heartbeat, which beats at once.
type Joined struct{}

// Left says that the worker's departure is recorded in its row, and that the other workers have been told. The
// supervisor stops everything. Coordinator → supervisor.
type Left struct{}

// SessionConnected says that the coordination session has connected, for the first time or again. Earlier notifications
// are lost, so the receivers look for changes. Session → supervisor → coordinator and heartbeat, which beats at once.
type SessionConnected struct{}

// SessionLost says that the coordination session broke, or could not be
// opened. Session → supervisor → coordinator.
type SessionLost struct{ Err error }

// Notified is a hint that something happened in the replica set. Session →
// supervisor → coordinator.
type Notified struct {
	// Kind is the first word of the notification's payload.
	Kind string
	// Worker is the id of the sender, as text.
	Worker string
}

// LeaseRenewed says until when the worker may trust itself. Heartbeat → supervisor, after each success. The supervisor
// passes it to the coordinator only if the worker was not trusted before.
type LeaseRenewed struct {
	// Until is on this process's monotonic clock.
	Until time.Time
}

// LeaseExpired says that the last heartbeat is so old that other workers may declare this one dead. The supervisor
// cancels its partitions itself. Heartbeat → supervisor → coordinator.
type LeaseExpired struct{}

// DeclaredDead says that, according to its row, the worker is dead or has left. Heartbeat → supervisor → coordinator.
type DeclaredDead struct{}

func (Leave) toSupervisor()             {}
func (Leave) toCoordinator()            {}
func (Joined) toSupervisor()            {}
func (Joined) toHeartbeat()             {}
func (Left) toSupervisor()              {}
func (SessionConnected) toSupervisor()  {}
func (SessionConnected) toCoordinator() {}
func (SessionConnected) toHeartbeat()   {}
func (SessionLost) toSupervisor()       {}
func (SessionLost) toCoordinator()      {}
func (Notified) toSupervisor()          {}
func (Notified) toCoordinator()         {}
func (LeaseRenewed) toSupervisor()      {}
func (LeaseRenewed) toCoordinator()     {}
func (LeaseExpired) toSupervisor()      {}
func (LeaseExpired) toCoordinator()     {}
func (DeclaredDead) toSupervisor()      {}
func (DeclaredDead) toCoordinator()     {}
