package pgcoord

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// Membership is how a worker describes itself when it joins.
type Membership struct {
	ID            uuid.UUID
	Name          string
	Projections   []string
	Unpartitioned []string
	Resettable    []string
	Replaces      map[string]string // what a projection is to replace, by its name
	Partitions    int               // how many partitions of each projection it takes
	HasSession    bool              // false in poll-only mode
	StaleTimeout  time.Duration     // how old its heartbeat may be; 0 if that is left to others
	Hostname      string
	ProcessID     int
	Version       string
}

// ClaimedError means that a projection belongs to another replica set, or was fed from another events table.
type ClaimedError struct {
	Projection  string
	ReplicaSet  string // that has the projection
	EventsTable string // that its checkpoints speak of
	Own         string // the events table of the replica set that asks
}

// Error names the projection and its owner.
func (e *ClaimedError) Error() string {
	if e.EventsTable != e.Own {
		return fmt.Sprintf("projection %q: its checkpoints in replica set %q speak of the events table %s, this replica set reads %s", e.Projection, e.ReplicaSet, e.EventsTable, e.Own)
	}
	return fmt.Sprintf("projection %q belongs to replica set %q already; a projection runs in one replica set only", e.Projection, e.ReplicaSet)
}

// The insert is the claim: the row that begins at slot 0 exists for every
// projection that was ever claimed, whatever its ranges are now, so of two
// replica sets only one inserts. Rows that are seen are not tried: an insert
// would wait for whatever batch is in flight on them, one after the other.
const sqlClaim = `
INSERT INTO {{schema}}orchestrator_checkpoints (projection, slot_from, slot_to, replica_set, events_table)
SELECT name, 0, 65536, $2, $3 FROM unnest($1::text[]) AS name
WHERE NOT EXISTS (SELECT 1 FROM {{schema}}orchestrator_checkpoints WHERE projection = name AND slot_from = 0)
ORDER BY name
ON CONFLICT DO NOTHING`

const sqlWhichEntered = `
SELECT DISTINCT projection FROM {{schema}}orchestrator_checkpoints WHERE projection = ANY($1) AND ` + dbguard.Primary + ` ORDER BY projection`

// Entered returns those of the projections that have checkpoints in any replica set.
func (s *Store) Entered(ctx context.Context, db DB, projections []string) ([]string, error) {
	rows, err := db.Query(ctx, s.q(sqlWhichEntered), projections)
	var entered []string
	if err == nil {
		entered, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return nil, fmt.Errorf("looking for the checkpoints of %q: %w", projections, err)
	}
	return entered, nil
}

const sqlClaims = `
SELECT DISTINCT projection, replica_set, events_table FROM {{schema}}orchestrator_checkpoints
WHERE projection = ANY($1) AND (replica_set <> $2 OR events_table <> $3)
  AND ` + dbguard.Primary + `
ORDER BY projection LIMIT {{one of all rows}}`

const sqlJoin = `
WITH worker AS (
    INSERT INTO {{schema}}orchestrator_workers (worker_id, replica_set, name, state, projections, unpartitioned,
        partitions, session_key, hostname, process_id, library_version, resettable, replaces, stale_timeout, partition_keys)
    VALUES ($1, $2, $3, 'pending', $4, $5, $6, $7, $8, $9, $10, $11, $12::text::jsonb, nullif($13::float8, 0) * interval '1 ms', coalesce((
        SELECT before.partition_keys FROM {{schema}}orchestrator_workers AS before
        WHERE before.replica_set = $2 AND before.name = $3
        ORDER BY before.started_at DESC LIMIT 1), '{}'))
    RETURNING worker_id
)
INSERT INTO {{schema}}orchestrator_heartbeats (worker_id) SELECT worker_id FROM worker
ON CONFLICT (worker_id) DO UPDATE SET last_heartbeat = now()`

// Join claims the projections for the replica set and enters the worker as pending. It returns a *ClaimedError if a
// projection belongs to another replica set.
func (s *Store) Join(ctx context.Context, db DB, m Membership) error {
	if err := s.Claim(ctx, db, m.Projections); err != nil {
		return err
	}
	return s.Enter(ctx, db, m)
}

// Enter is Join without the claim. It is for a worker that lost one of its projections to another replica set while it
// started. The worker gets nothing of that projection.
func (s *Store) Enter(ctx context.Context, db DB, m Membership) error {
	var key *int64
	if m.HasSession {
		k := s.SessionKey(m.ID)
		key = &k
	}
	replaces, err := json.Marshal(m.Replaces)
	if err != nil {
		return fmt.Errorf("encoding what the projections of worker %s replace: %w", m.ID, err)
	}
	if m.Replaces == nil {
		replaces = []byte("{}")
	}
	_, err = db.Exec(ctx, s.q(sqlJoin), m.ID, s.replicaSet, s.storable(m.Name), m.Projections, nonNil(m.Unpartitioned),
		m.Partitions, key, s.storable(m.Hostname), m.ProcessID, m.Version, nonNil(m.Resettable), string(replaces), float64(m.StaleTimeout)/float64(time.Millisecond))
	if err != nil {
		return fmt.Errorf("joining replica set %q as worker %s: %w", s.replicaSet, m.ID, err)
	}
	s.tell(ctx, db, NotifyJoined, m.ID)
	return nil
}

// Claim assigns the projections to the replica set. A projection without checkpoints gets them at the beginning of the
// stream. If a projection belongs to another replica set, Claim returns a *ClaimedError, and may have claimed those
// named before it.
func (s *Store) Claim(ctx context.Context, db DB, projections []string) error {
	if _, err := db.Exec(ctx, s.q(sqlClaim), projections, s.replicaSet, s.events); err != nil {
		return fmt.Errorf("claiming the projections of replica set %q: %w", s.replicaSet, err)
	}
	claimed := ClaimedError{Own: s.events}
	err := db.QueryRow(ctx, s.q(sqlClaims), projections, s.replicaSet, s.events).
		Scan(&claimed.Projection, &claimed.ReplicaSet, &claimed.EventsTable)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("checking the claims of replica set %q: %w", s.replicaSet, err)
	}
	return &claimed
}

// awaited says whether the leader should be told. It waits for the last worker that is not ready, and in an old change for any. Two workers that are the
// last at the same moment do not see each other, and then the leader's next look finds them.
//
// $4 is the leader's lock if the worker gives it up, else null. With null the statement skips pg_locks, because a scan of it makes other sessions wait.
const sqlSetState = `
WITH released AS MATERIALIZED (
    SELECT pg_advisory_unlock($4) WHERE CASE WHEN $4::bigint IS NOT NULL THEN EXISTS (
        SELECT 1 FROM pg_locks AS l
        WHERE l.locktype = 'advisory' AND l.pid = pg_backend_pid() AND l.objsubid = 1
          AND ((l.classid::bigint << 32) | l.objid::bigint) = $4::bigint) ELSE false END
), changed AS (
    UPDATE {{schema}}orchestrator_workers
    SET state = $2, generation = $3, state_changed_at = now(), detail = ''
    WHERE worker_id = $1 AND state NOT IN ('stopped', 'dead')
    RETURNING worker_id
)
SELECT (SELECT count(*) FROM released), (SELECT count(*) FROM changed), EXISTS (
    SELECT 1 FROM {{schema}}orchestrator_generations AS g JOIN {{schema}}orchestrator_workers AS w USING (replica_set)
    WHERE w.worker_id = $1 AND g.number = $3 AND (NOT g.created_at BETWEEN now() - $5::bigint * interval '1 ms' AND now() OR NOT EXISTS (
        SELECT FROM {{schema}}orchestrator_workers AS other
        WHERE other.replica_set = w.replica_set AND other.worker_id <> $1 AND other.state NOT IN ('stopped', 'dead')
          AND (other.state <> 'ready' OR other.generation <> $3)))) AS awaited`

// SetState records the worker's state for a generation. It notifies the others of a ready worker if it is the last, or if
// they have waited for a while; before that, the leader looks often enough. A worker that is stopping gives up leadership, because
// its handlers may take long and somebody must lead in the meantime. If the worker was declared dead or has left,
// SetState returns false and changes no row.
func (s *Store) SetState(ctx context.Context, db DB, worker uuid.UUID, state replicaset.WorkerState, generation int64) (bool, error) {
	var leadership *int64
	if key := s.leaderKey(); state == replicaset.Stopping {
		leadership = &key
	}
	var released, changed int
	var awaited bool
	err := db.QueryRow(ctx, s.q(sqlSetState), worker, string(state), generation, leadership, replicaset.YoungChange.Milliseconds()).Scan(&released, &changed, &awaited)
	if err != nil {
		return false, fmt.Errorf("recording that worker %s is %s: %w", worker, state, err)
	}
	if changed == 1 && awaited && state == replicaset.Ready {
		s.tell(ctx, db, NotifyReady, worker)
	}
	return changed == 1, nil
}

const sqlRejoin = `
WITH changed AS (
    UPDATE {{schema}}orchestrator_workers
    SET state = 'pending', generation = 0, state_changed_at = now(), detail = 'rejoined after: ' || detail
    WHERE worker_id = $1 AND state IN ('dead', 'stopped')
    RETURNING worker_id
), heartbeat AS (
    INSERT INTO {{schema}}orchestrator_heartbeats (worker_id) SELECT worker_id FROM changed
    ON CONFLICT (worker_id) DO UPDATE SET last_heartbeat = now()
)
SELECT count(*) FROM changed`

const sqlRequestGeneration = `
UPDATE {{schema}}orchestrator_workers
SET state = 'pending', state_changed_at = now(), detail = 'its checkpoints were changed by somebody else'
WHERE worker_id = $1 AND state NOT IN ('stopped', 'dead')`

// RequestGeneration makes a member of the active generation pending, which asks the leader for a new one. Activate
// repairs what it can. The caller must have stopped all its processors.
func (s *Store) RequestGeneration(ctx context.Context, db DB, worker uuid.UUID) error {
	tag, err := db.Exec(ctx, s.q(sqlRequestGeneration), worker)
	if err != nil {
		return fmt.Errorf("requesting another generation as worker %s: %w", worker, err)
	}
	if tag.RowsAffected() == 1 {
		s.tell(ctx, db, NotifyJoined, worker)
	}
	return nil
}

// Rejoin makes a worker that was declared dead pending again. The caller must have stopped all its processors. Their
// work in flight is already fenced, since the generation has moved on.
func (s *Store) Rejoin(ctx context.Context, db DB, worker uuid.UUID) error {
	var changed int
	if err := db.QueryRow(ctx, s.q(sqlRejoin), worker).Scan(&changed); err != nil {
		return fmt.Errorf("rejoining as worker %s: %w", worker, err)
	}
	if changed == 1 {
		s.tell(ctx, db, NotifyJoined, worker)
	}
	return nil
}

const sqlHeartbeat = `
INSERT INTO {{schema}}orchestrator_heartbeats (worker_id)
SELECT worker_id FROM {{schema}}orchestrator_workers
WHERE worker_id = $1 AND state NOT IN ('stopped', 'dead')
ON CONFLICT (worker_id) DO UPDATE SET last_heartbeat = now()`

// Heartbeat renews the worker's lease. It returns false if the worker was declared dead or has left, and so has no
// lease.
func (s *Store) Heartbeat(ctx context.Context, db DB, worker uuid.UUID) (bool, error) {
	tag, err := db.Exec(ctx, s.q(sqlHeartbeat), worker)
	if err != nil {
		return false, fmt.Errorf("writing the heartbeat of worker %s: %w", worker, err)
	}
	return tag.RowsAffected() == 1, nil
}

// The leader's lock is released first, so that a worker that hears of the departure
// finds it free.
const sqlStop = `
WITH released AS MATERIALIZED (
    SELECT pg_advisory_unlock($2) WHERE EXISTS (
        SELECT 1 FROM pg_locks AS l
        WHERE l.locktype = 'advisory' AND l.pid = pg_backend_pid() AND l.objsubid = 1
          AND ((l.classid::bigint << 32) | l.objid::bigint) = $2)
), changed AS (
    UPDATE {{schema}}orchestrator_workers
    SET state = 'stopped', state_changed_at = now(), detail = $3
    WHERE worker_id = $1 AND state <> 'stopped'
    RETURNING worker_id
)
SELECT (SELECT count(*) FROM released), (SELECT count(*) FROM changed)`

// Stop records that the worker has left, gives up leadership if the worker has it, and tells the others. detail tells
// people why.
func (s *Store) Stop(ctx context.Context, db DB, worker uuid.UUID, detail string) error {
	var released, changed int
	if err := db.QueryRow(ctx, s.q(sqlStop), worker, s.leaderKey(), detail).Scan(&released, &changed); err != nil {
		return fmt.Errorf("recording that worker %s has left: %w", worker, err)
	}
	if changed == 1 {
		s.tell(ctx, db, NotifyLeft, worker)
	}
	return nil
}

// milliseconds turns a database's double into a duration; the tables' ages
// leave the database as milliseconds. An age is at least 0: the database's clock
// may have been set back.
func milliseconds(ms float64) time.Duration {
	const most = float64(math.MaxInt64 / int64(time.Millisecond))
	if ms >= most {
		return replicaset.NoHeartbeat
	}
	return time.Duration(max(ms, 0) * float64(time.Millisecond))
}

// nonNil makes an absent list an empty array rather than NULL.
func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
