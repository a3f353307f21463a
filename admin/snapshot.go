package admin

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Snapshot is the state of a replica set at one moment. Its JSON form is stable: fields may be added, but are not
// renamed or removed. A time or position that does not exist is null. A list without elements is empty. Times are the
// database's.
type Snapshot struct {
	At         time.Time `json:"at"`
	ReplicaSet string    `json:"replica_set"`
	// EventsTable is the events table in the form schema.table.
	EventsTable string   `json:"events_table"`
	Versions    Versions `json:"versions"`
	// Generation is the current generation. It is null before the first.
	Generation *Generation `json:"generation"`
	// Generations are the latest ten stored generations, newest first, including the current one.
	Generations []Generation `json:"generations"`
	// Workers are the present workers and the last ten that left or died, ordered by name.
	Workers []Worker `json:"workers"`
	// Projections are the projections with checkpoints in the replica set, ordered by name.
	Projections []Projection `json:"projections"`

	Horizon Horizon `json:"horizon"`
	// Regressions are the latest ten of the events table, newest first. While one is not settled, workers handle
	// nothing.
	Regressions []Regression `json:"regressions"`
	// Operations are those that wait for workers, oldest first, at most 100.
	Operations []Operation `json:"operations"`
	// Holds are the projections that are held back, and Drains the drained workers. They are ordered by name, and say
	// who did it and why.
	Holds  []Hold  `json:"holds"`
	Drains []Drain `json:"drains"`
}

// Versions are the versions of the replica set's tables and server, and of this program.
type Versions struct {
	// Library is this program's version of the library. Each Worker has its own version.
	Library string `json:"library"`
	// Schema is the version of the coordination tables, the number of the last migration. LatestSchema is the last
	// migration that this program knows.
	Schema       int `json:"schema"`
	LatestSchema int `json:"latest_schema"`
	// Server is the database server's version.
	Server string `json:"server"`
}

// Generation is a configuration of the replica set.
type Generation struct {
	Number int64 `json:"number"`
	// State is "preparing", "active" or "superseded".
	State string `json:"state"`
	// Cause is a word that says why the generation was made. Reason says it in a sentence, and Changes as data.
	Cause   string   `json:"cause"`
	Reason  string   `json:"reason"`
	Changes []Change `json:"changes"`
	// PreparedBy is the worker that was the leader when the generation was made. Members are the workers that it was
	// activated with.
	PreparedBy   uuid.UUID   `json:"prepared_by"`
	Members      []uuid.UUID `json:"members"`
	CreatedAt    *time.Time  `json:"created_at"`
	ActivatedAt  *time.Time  `json:"activated_at"`
	SupersededAt *time.Time  `json:"superseded_at"`
}

// Change is one thing that caused a generation, or that it brought.
type Change struct {
	// Worker is null, and Name empty, if the change is not about a worker.
	Worker *uuid.UUID `json:"worker"`
	Name   string     `json:"name"`
	// Change is a word, such as "joined", "left" or "lost".
	Change      string   `json:"change"`
	Projections []string `json:"projections"`
	Detail      string   `json:"detail"`
}

// Worker is a running orchestrator, or one that has ended.
type Worker struct {
	ID   uuid.UUID `json:"id"`
	Name string    `json:"name"`
	// State is "pending", "ready", "running", "stopping", "stopped" or "dead", in the generation Generation. Detail says
	// what happened last.
	State      string `json:"state"`
	Generation int64  `json:"generation"`
	Detail     string `json:"detail"`
	// Leading is true if the worker holds the lock that makes it the replica set's leader. No worker holds it in
	// poll-only mode. Connected is true if the worker's coordination session is connected.
	Leading   bool `json:"leading"`
	Connected bool `json:"connected"`
	// Projections are the projections that the worker runs. Unpartitioned are those of them that must not be divided.
	// LeftOut are those that the worker takes no partition of, because of handlers that do not return.
	Projections   []string `json:"projections"`
	Unpartitioned []string `json:"unpartitioned"`
	LeftOut       []string `json:"left_out"`
	// Replaces maps the worker's projections to the projections that they will replace.
	Replaces map[string]string `json:"replaces"`
	// Drained is true if somebody has drained the worker, so that it gets no partitions.
	Drained bool `json:"drained"`
	// PartitionsPerProjection is how many partitions of each projection the worker takes. Partitions are those that it
	// has.
	PartitionsPerProjection int          `json:"partitions_per_projection"`
	Partitions              []Assignment `json:"partitions"`
	Abandoned               []Abandoned  `json:"abandoned"`
	Hostname                string       `json:"hostname"`
	ProcessID               int          `json:"process_id"`
	LibraryVersion          string       `json:"library_version"`
	StartedAt               *time.Time   `json:"started_at"`
	StateChangedAt          *time.Time   `json:"state_changed_at"`
	LastHeartbeat           *time.Time   `json:"last_heartbeat"`
	// StaleTimeoutSeconds is the age of a heartbeat at which the others declare the worker dead. It is null if the
	// worker's version does not store it.
	StaleTimeoutSeconds *float64 `json:"stale_timeout_seconds"`
}

// Assignment is a partition that a worker has.
type Assignment struct {
	Projection string `json:"projection"`
	// Partition has the form "0/3".
	Partition string `json:"partition"`
}

// Abandoned is a handler that did not return when it was told to stop, and that its worker no longer waits for.
type Abandoned struct {
	Projection  string     `json:"projection"`
	Partition   string     `json:"partition"`
	Position    int64      `json:"position"` // of the event that it handles
	AbandonedAt *time.Time `json:"abandoned_at"`
}

const (
	// silentAfter is after how long without a heartbeat a worker counts as silent, or half of its stale worker timeout if that is longer: three heartbeats, by default.
	silentAfter = 15 * time.Second
	// silenceSQL is the same for a row w of orchestrator_workers.
	silenceSQL = `greatest(interval '15 s', w.stale_timeout / 2)`
)

// SilentFor returns how long ago the worker's last heartbeat was at the given time. It returns 0 for a worker that has
// ended, and if the heartbeat is younger than 15 s or, if that is longer, half of the worker's stale worker timeout. By
// default that is three heartbeats. A silent worker has died or hangs. The other workers, if there are any, will declare
// it dead.
func (w Worker) SilentFor(at time.Time) time.Duration {
	after := silentAfter
	if w.StaleTimeoutSeconds != nil {
		after = max(after, time.Duration(*w.StaleTimeoutSeconds/2*float64(time.Second)))
	}
	if w.State == "stopped" || w.State == "dead" || w.LastHeartbeat == nil || at.Sub(*w.LastHeartbeat) < after {
		return 0
	}
	return at.Sub(*w.LastHeartbeat)
}

// Projection is the state of a projection.
type Projection struct {
	Name string `json:"name"`
	// Position is the position up to which everything was handled, the lowest of the partitions' positions.
	Position int64 `json:"position"`
	// Lag is how many events the partitions have yet to handle, including those out of the projection's scope. It is
	// exact up to 2,000 events. Above that, LagExact is false, and Lag is an estimate that assumes that no position was
	// lost and that aggregates are spread evenly.
	Lag      int64 `json:"lag_events"`
	LagExact bool  `json:"lag_is_exact"`
	// LagSeconds is the age of the oldest event that the projection may still have to handle, from the leader's samples.
	// The true age may be greater by 5 s, or by a sixteenth. It is 0 if no event waits. It is null if it is unknown
	// because no worker ran when the event was appended.
	LagSeconds *float64 `json:"lag_seconds"`
	// Paused is true if any partition is paused, and Stopped if any is stopped.
	Paused  bool `json:"paused"`
	Stopped bool `json:"stopped"`
	// Replaces is the projection that this one will replace, or has replaced, at a cut-over. It is empty if no worker
	// names one. Replay is true until the cut-over. ReplacedBy is the projection that has replaced this one. A replaced
	// projection handles nothing more: it has no lag, and is not paused.
	Replaces   string `json:"replaces"`
	Replay     bool   `json:"replay"`
	ReplacedBy string `json:"replaced_by"`
	// Workers is the number of present workers that run the projection.
	Workers int `json:"workers"`
	// TurnsUntil is until when the partitions take turns because their batches were in conflict.
	TurnsUntil *time.Time  `json:"turns_until"`
	Parked     Parked      `json:"parked"`
	Letters    Letters     `json:"letters"`
	Partitions []Partition `json:"partitions"`
}

// Parked is how many aggregates are parked, and how many of their events are set aside.
type Parked struct {
	Aggregates int   `json:"aggregates"`
	Events     int64 `json:"events"`
}

// Letters is how many events have failed and were not handled since. Those of parked aggregates are not included.
type Letters struct {
	Retrying int64 `json:"retrying"`
	Stopped  int64 `json:"stopped"`
	Skipped  int64 `json:"skipped"`
}

// Partition is a partition of a projection in its generation.
type Partition struct {
	// Partition has the form "0/3". For ranges without an owner it is empty, and Worker is null.
	Partition  string     `json:"partition"`
	Worker     *uuid.UUID `json:"worker"`
	WorkerName string     `json:"worker_name"`
	Generation int64      `json:"generation"`
	Position   int64      `json:"position"` // the lowest of the ranges'
	Lag        int64      `json:"lag_events"`
	LagExact   bool       `json:"lag_is_exact"`
	Parked     Parked     `json:"parked"`
	Letters    Letters    `json:"letters"`
	// Ranges has several elements after a change of the number of partitions, until their positions meet.
	Ranges []Range `json:"ranges"`
}

// Range is a range of slots of one projection with the same position. It is a row of orchestrator_checkpoints.
type Range struct {
	SlotFrom int   `json:"slot_from"`
	SlotTo   int   `json:"slot_to"` // exclusive
	Position int64 `json:"position"`
	Lag      int64 `json:"lag_events"`
	LagExact bool  `json:"lag_is_exact"`
	// HoldAt is the last position that may be handled, until HoldUntil. If HoldUntil is null, the hold lasts until the
	// projection is resumed. Both are null if the range is not held, or no longer held.
	HoldAt    *int64     `json:"hold_at"`
	HoldUntil *time.Time `json:"hold_until"`
	// StoppedAt is the position of the event at which the projection has stopped.
	StoppedAt *int64     `json:"stopped_at"`
	Revision  int64      `json:"revision"`
	Parked    Parked     `json:"parked"`
	Letters   Letters    `json:"letters"`
	UpdatedAt *time.Time `json:"updated_at"`
}

// Horizon is the position up to which the stream is settled: no event can still appear at or below it.
type Horizon struct {
	// Position is the horizon, as far as it can be known without a worker. While transactions are open that may have
	// appended, it is the horizon that a worker stored, which is at most a second old if a worker runs.
	Position int64 `json:"position"`
	// LastAllocated is the highest position that was allocated to an event. Its transaction may still be open, or rolled
	// back. It is null if the role may not read the sequence.
	LastAllocated *int64 `json:"last_allocated"`
	// StoredAt is when a worker last stored the horizon, and StoredPosition is what it stored.
	StoredAt       *time.Time `json:"stored_at"`
	StoredPosition int64      `json:"stored_position"`
	// HeldBackBy are the open transactions that may have appended, oldest first. Until they end, the horizon stays below
	// the events that they append.
	HeldBackBy []Transaction `json:"held_back_by"`
}

// Transaction is an open transaction that may have appended events.
type Transaction struct {
	// PID is the process id of its session on the server. It is 0 for a prepared transaction, which Prepared names.
	PID      int32  `json:"pid"`
	Prepared string `json:"prepared"`
	// Application is the session's application_name. Since is when the transaction began or was prepared. They are empty
	// and null if the role may not see other roles' sessions. To allow it, grant pg_read_all_stats.
	Application string     `json:"application"`
	Since       *time.Time `json:"since"`
}

// Regression is a sequence regression: the sequence of positions was found below a checkpoint.
type Regression struct {
	Number int64 `json:"number"`
	// LastPosition is the sequence's position at that time, and Checkpoint the highest checkpoint.
	LastPosition int64      `json:"last_position"`
	Checkpoint   int64      `json:"checkpoint"`
	NoticedAt    *time.Time `json:"noticed_at"`
	SettledAt    *time.Time `json:"settled_at"`
}

// Operation is a request that workers have yet to carry out.
type Operation struct {
	ID int64 `json:"id"`
	// Projection is empty if the operation concerns all projections.
	Projection string `json:"projection"`
	// Kind is a word for what was requested, and Arguments are its arguments.
	Kind        string          `json:"kind"`
	Arguments   json.RawMessage `json:"arguments"`
	Actor       string          `json:"actor"`
	Reason      string          `json:"reason"`
	RequestedAt *time.Time      `json:"requested_at"`
	// Waiting, Succeeded and Failed count the operation's parked aggregates.
	Waiting   int `json:"waiting"`
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
}

// Snapshot reads everything about the replica set at one moment. It needs SELECT on the coordination tables and the
// events table. If a right is missing, the error names the GRANT.
func (a *Admin) Snapshot(ctx context.Context) (Snapshot, error) {
	s, err := a.snapshot(ctx)
	if err != nil {
		return Snapshot{}, a.explainReading(ctx, "reading a snapshot", err)
	}
	return s, nil
}
