package admin

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Snapshot is a replica set at one moment. Its JSON is stable: fields are added, and neither renamed nor removed. A time or position that does not exist is
// null. A list without elements is empty. Times are the database's.
type Snapshot struct {
	At         time.Time `json:"at"`
	ReplicaSet string    `json:"replica_set"`
	// EventsTable is the events table, as schema.table.
	EventsTable string   `json:"events_table"`
	Versions    Versions `json:"versions"`
	// Generation is the current one; null before the first.
	Generation *Generation `json:"generation"`
	// Generations are the latest ten that are kept, newest first, with the current one.
	Generations []Generation `json:"generations"`
	// Workers are those that are there and the last ten that left or died, by name.
	Workers []Worker `json:"workers"`
	// Projections are those that have checkpoints in the replica set, by name.
	Projections []Projection `json:"projections"`

	Horizon Horizon `json:"horizon"`
	// Regressions are the latest ten of the events table, newest first. While one is not settled, workers handle nothing.
	Regressions []Regression `json:"regressions"`
	// Operations are those that wait for workers, oldest first, up to 100.
	Operations []Operation `json:"operations"`
	// Holds are the projections that are held back, and Drains the workers that are drained, by name, with who did it and why.
	Holds  []Hold  `json:"holds"`
	Drains []Drain `json:"drains"`
}

// Versions are what the replica set and this program run on.
type Versions struct {
	// Library is this program's version of the library; that of each worker is with the worker.
	Library string `json:"library"`
	// Schema is the version of the coordination tables: the number of the last migration. LatestSchema is the last one that this program knows.
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
	// Cause is why it was made, in a word, Reason in a sentence, and Changes as data.
	Cause   string   `json:"cause"`
	Reason  string   `json:"reason"`
	Changes []Change `json:"changes"`
	// PreparedBy is the worker that led when it was made, Members those that it was activated with.
	PreparedBy   uuid.UUID   `json:"prepared_by"`
	Members      []uuid.UUID `json:"members"`
	CreatedAt    *time.Time  `json:"created_at"`
	ActivatedAt  *time.Time  `json:"activated_at"`
	SupersededAt *time.Time  `json:"superseded_at"`
}

// Change is one thing that a generation was made for, or with.
type Change struct {
	// Worker is null and Name empty if the change is not about a worker.
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
	// State is "pending", "ready", "running", "stopping", "stopped" or "dead", in that generation. Detail says what happened last.
	State      string `json:"state"`
	Generation int64  `json:"generation"`
	Detail     string `json:"detail"`
	// Leading says whether it leads the replica set by a lock. No worker does so in poll-only mode. Connected says whether its coordination session is connected.
	Leading   bool `json:"leading"`
	Connected bool `json:"connected"`
	// Projections are those that it runs, Unpartitioned those of them that must not be divided, and LeftOut those that it takes no partition of, because of
	// handlers that do not return.
	Projections   []string `json:"projections"`
	Unpartitioned []string `json:"unpartitioned"`
	LeftOut       []string `json:"left_out"`
	// Replaces is what its projections are to replace, by name.
	Replaces map[string]string `json:"replaces"`
	// Drained says that it gets no partitions, since somebody has drained it.
	Drained bool `json:"drained"`
	// PartitionsPerProjection is how many partitions of each projection it takes, Partitions those that it has.
	PartitionsPerProjection int          `json:"partitions_per_projection"`
	Partitions              []Assignment `json:"partitions"`
	Abandoned               []Abandoned  `json:"abandoned"`
	Hostname                string       `json:"hostname"`
	ProcessID               int          `json:"process_id"`
	LibraryVersion          string       `json:"library_version"`
	StartedAt               *time.Time   `json:"started_at"`
	StateChangedAt          *time.Time   `json:"state_changed_at"`
	LastHeartbeat           *time.Time   `json:"last_heartbeat"`
}

// Assignment is a partition that a worker has.
type Assignment struct {
	Projection string `json:"projection"`
	// Partition is such as "0/3".
	Partition string `json:"partition"`
}

// Abandoned is a handler that has not returned when it was to stop, and that its worker has stopped waiting for.
type Abandoned struct {
	Projection  string     `json:"projection"`
	Partition   string     `json:"partition"`
	Position    int64      `json:"position"` // of the event that it handles
	AbandonedAt *time.Time `json:"abandoned_at"`
}

// silentSeconds is after how many seconds without a heartbeat a worker counts as silent, here and for Verify: three heartbeats, by default.
const silentSeconds = 15

const silentAfter = silentSeconds * time.Second

// SilentFor is how long ago the last heartbeat was, at that time, of a worker that is there; 0 if that is less than 15 s, which is three heartbeats by default. Such a worker has
// died or hangs, and is declared dead by the others, if there are any.
func (w Worker) SilentFor(at time.Time) time.Duration {
	if w.State == "stopped" || w.State == "dead" || w.LastHeartbeat == nil || at.Sub(*w.LastHeartbeat) < silentAfter {
		return 0
	}
	return at.Sub(*w.LastHeartbeat)
}

// Projection is how far a projection is.
type Projection struct {
	Name string `json:"name"`
	// Position is up to where everything was handled: the lowest of the partitions'.
	Position int64 `json:"position"`
	// Lag is how many events the partitions have yet to handle, those out of the projection's scope included. It is exact up to 2,000 events. Beyond, LagExact
	// is false, and Lag is what to expect if no position was lost and aggregates are spread evenly.
	Lag      int64 `json:"lag_events"`
	LagExact bool  `json:"lag_is_exact"`
	// LagSeconds is the age of the oldest event that it may still have to handle, by the leader's samples. The true age may be greater by 5 s, or by a sixteenth.
	// It is 0 if no event waits, and null if it is not known: no worker ran when the event was appended.
	LagSeconds *float64 `json:"lag_seconds"`
	// Paused, and Stopped, say whether any partition is.
	Paused  bool `json:"paused"`
	Stopped bool `json:"stopped"`
	// Replaces is the projection that it is to replace, or has replaced, at a cut-over. It is empty if no worker names one. Replay says that it has
	// yet to do so. ReplacedBy is the projection that has replaced this one, which handles nothing any more: it has no lag, and is not paused.
	Replaces   string `json:"replaces"`
	Replay     bool   `json:"replay"`
	ReplacedBy string `json:"replaced_by"`
	// Workers is how many workers are there that run it.
	Workers int `json:"workers"`
	// TurnsUntil is until when its partitions take turns, because their batches were in conflict.
	TurnsUntil *time.Time  `json:"turns_until"`
	Parked     Parked      `json:"parked"`
	Letters    Letters     `json:"letters"`
	Partitions []Partition `json:"partitions"`
}

// Parked is how many aggregates are parked, and how many events of them are put aside.
type Parked struct {
	Aggregates int   `json:"aggregates"`
	Events     int64 `json:"events"`
}

// Letters is how many events have failed and were not handled since, apart from those of parked aggregates.
type Letters struct {
	Retrying int64 `json:"retrying"`
	Stopped  int64 `json:"stopped"`
	Skipped  int64 `json:"skipped"`
}

// Partition is a partition of a projection in its generation.
type Partition struct {
	// Partition is such as "0/3". It is empty, and Worker null, for ranges that nobody owns.
	Partition  string     `json:"partition"`
	Worker     *uuid.UUID `json:"worker"`
	WorkerName string     `json:"worker_name"`
	Generation int64      `json:"generation"`
	Position   int64      `json:"position"` // the lowest of the ranges'
	Lag        int64      `json:"lag_events"`
	LagExact   bool       `json:"lag_is_exact"`
	Parked     Parked     `json:"parked"`
	Letters    Letters    `json:"letters"`
	// Ranges has more than one element after a change of the number of partitions, until their positions meet.
	Ranges []Range `json:"ranges"`
}

// Range is slots of one projection that are equally far: a row of orchestrator_checkpoints.
type Range struct {
	SlotFrom int   `json:"slot_from"`
	SlotTo   int   `json:"slot_to"` // exclusive
	Position int64 `json:"position"`
	Lag      int64 `json:"lag_events"`
	LagExact bool  `json:"lag_is_exact"`
	// HoldAt is the last position that may be handled, until HoldUntil or, if that is null, until it is resumed. Both are null if it is not held, or not
	// any more.
	HoldAt    *int64     `json:"hold_at"`
	HoldUntil *time.Time `json:"hold_until"`
	// StoppedAt is the event at which the projection has stopped.
	StoppedAt *int64     `json:"stopped_at"`
	Revision  int64      `json:"revision"`
	Parked    Parked     `json:"parked"`
	Letters   Letters    `json:"letters"`
	UpdatedAt *time.Time `json:"updated_at"`
}

// Horizon is up to where the stream is settled: no event can still appear there.
type Horizon struct {
	// Position is the horizon as far as it can be known without a worker. While transactions are open that may have appended, it is what workers have
	// stored, at most a second old if one runs.
	Position int64 `json:"position"`
	// LastAllocated is the highest position that an event has been given. That event's transaction may be open or rolled back. It is null if the role may not read
	// the sequence.
	LastAllocated *int64 `json:"last_allocated"`
	// StoredAt is when a worker last stored the horizon, and StoredPosition where it was.
	StoredAt       *time.Time `json:"stored_at"`
	StoredPosition int64      `json:"stored_position"`
	// HeldBackBy are open transactions that may have appended, oldest first. The horizon is below what they append until they end.
	HeldBackBy []Transaction `json:"held_back_by"`
}

// Transaction is an open transaction that may have appended events.
type Transaction struct {
	// PID is its session's process on the server; 0 for a prepared transaction, which Prepared names.
	PID      int32  `json:"pid"`
	Prepared string `json:"prepared"`
	// Application is the session's application_name, and Since when the transaction began or was prepared. They are empty and null where the role may not see
	// other roles' sessions: grant it pg_read_all_stats.
	Application string     `json:"application"`
	Since       *time.Time `json:"since"`
}

// Regression is that the sequence of positions was found below a checkpoint.
type Regression struct {
	Number int64 `json:"number"`
	// LastPosition is where the sequence stood, Checkpoint the highest checkpoint then.
	LastPosition int64      `json:"last_position"`
	Checkpoint   int64      `json:"checkpoint"`
	NoticedAt    *time.Time `json:"noticed_at"`
	SettledAt    *time.Time `json:"settled_at"`
}

// Operation is what somebody asked for that workers have yet to do.
type Operation struct {
	ID int64 `json:"id"`
	// Projection is empty if it concerns all projections.
	Projection string `json:"projection"`
	// Kind is what was asked for, in a word, and Arguments with what.
	Kind        string          `json:"kind"`
	Arguments   json.RawMessage `json:"arguments"`
	Actor       string          `json:"actor"`
	Reason      string          `json:"reason"`
	RequestedAt *time.Time      `json:"requested_at"`
	// Waiting, Succeeded and Failed are how many of its parked aggregates are.
	Waiting   int `json:"waiting"`
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
}

// Snapshot reads everything about the replica set at one moment. It needs SELECT on the coordination tables and the events table, and names the GRANT that is
// missing.
func (a *Admin) Snapshot(ctx context.Context) (Snapshot, error) {
	s, err := a.snapshot(ctx)
	if err != nil {
		return Snapshot{}, a.explainReading(ctx, "reading a snapshot", err)
	}
	return s, nil
}
