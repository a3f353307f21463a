package messages

import "time"

// Leave asks the worker to leave the replica set: finish its batches, say
// goodbye, stop. Orchestrator → supervisor → coordinator, once.
type Leave struct{}

// Joined says that the worker's row has been entered, or made pending again:
// there is a lease to renew. Coordinator → supervisor → heartbeat, which beats
// at once.
type Joined struct{}

// Left says that the worker's row says so, and the others have been told: the
// supervisor stops everything. Coordinator → supervisor.
type Left struct{}

// SessionConnected says that the coordination session is connected, again or for
// the first time: whatever was notified before is lost and must be looked for.
// Session → supervisor → coordinator and heartbeat, which beats at once.
type SessionConnected struct{}

// SessionLost says that the coordination session broke, or could not be
// opened. Session → supervisor → coordinator.
type SessionLost struct{ Err error }

// Notified is a hint that something happened in the replica set. Session →
// supervisor → coordinator.
type Notified struct {
	// Kind is the first word of the notification's payload.
	Kind string
	// Worker is who sent it, as text.
	Worker string
}

// LeaseRenewed says until when the worker may trust itself. Heartbeat →
// supervisor after each success; on to the coordinator only where the worker
// was not trusted before.
type LeaseRenewed struct {
	// Until is on this process's monotonic clock.
	Until time.Time
}

// LeaseExpired says that the last heartbeat is so long ago that others may hold
// this worker for dead: the supervisor cancels its partitions by itself.
// Heartbeat → supervisor → coordinator.
type LeaseExpired struct{}

// DeclaredDead says that the worker's row says it is dead or has left.
// Heartbeat → supervisor → coordinator.
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
