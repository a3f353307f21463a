package replicaset

import "github.com/google/uuid"

// Preparation is the request for a new generation.
type Preparation struct {
	// From is the current generation's number as the leader saw it, 0 for none.
	From int64
	// Changes say why.
	Changes []Change
	// By is the worker that prepares it.
	By uuid.UUID
	// Lost are workers to be declared dead with it.
	Lost []Loss
}

// Loss is a worker that the leader wants to declare dead, with the evidence.
type Loss struct {
	Worker uuid.UUID
	// Detail says why, for people.
	Detail string
	// SessionGone says that the evidence is the missing session lock; otherwise
	// it is that the last heartbeat is still Heartbeat, as Worker has it.
	SessionGone bool
	Heartbeat   string
}

// Activation is the request to activate a generation in preparation.
type Activation struct {
	Number int64
	By     uuid.UUID
	// Exclude are workers that are not ready and are not waited for any longer;
	// Detail says why, for people.
	Exclude []uuid.UUID
	Detail  string
}
