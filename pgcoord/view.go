package pgcoord

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// GenerationState is the phase of a generation.
type GenerationState string

// The phases of a generation.
const (
	Preparing  GenerationState = "preparing"  // the workers stop and report ready
	Active     GenerationState = "active"     // its members handle their partitions
	Superseded GenerationState = "superseded" // over
)

// Generation is the replica set's current configuration.
type Generation struct {
	Number  int64 // 0 before the first
	State   GenerationState
	Cause   string
	Reason  string
	Members []uuid.UUID
	// Age is how long ago it was prepared, ActiveFor how long it has been
	// active; 0 if it is not.
	Age, ActiveFor time.Duration
}

// Worker is another worker, or oneself, as the tables show it.
type Worker struct {
	ID            uuid.UUID
	Name          string
	State         WorkerState
	Generation    int64
	Projections   []string
	Unpartitioned []string
	Partitions    int
	// Abandoned is the projections of its abandoned handlers, one for each, in order.
	// LeftOut is the projections that the generation it was last a member of gave it no
	// partition of for that reason, in order.
	Abandoned, LeftOut []string
	// StateAge is how long it has been in its state.
	StateAge time.Duration
	// HeartbeatAge is the time since the last heartbeat, at least 0. It is NoHeartbeat if the worker has
	// no heartbeat, or an infinite one. Heartbeat is the time of the last heartbeat, as the row has it.
	HeartbeatAge time.Duration
	Heartbeat    string
	// HasSession says whether the worker announced a session lock at all, and
	// SessionPID which backend holds it now; 0 if none does.
	HasSession bool
	SessionPID int
}

// NoHeartbeat is the HeartbeatAge of a worker that has no heartbeat: it is older than any.
const NoHeartbeat = time.Duration(math.MaxInt64)

// View is what a coordinator sees at one moment.
type View struct {
	// Generation is the current one; its Number is 0 if there is none.
	Generation Generation
	// Workers are those that have neither left nor been declared dead, the
	// generation's members, the leader, and oneself in any case, ordered by id.
	Workers []Worker
	// LeaderPID is the backend that holds the replica set's advisory lock; 0 if
	// none does.
	LeaderPID int
	// Leading says whether it is the backend that was asked.
	Leading bool
	// LeaderLocked says whether anybody holds that lock. A prepared transaction does so without a backend.
	LeaderLocked bool
	// SessionAge is how long the backend that was asked has been connected, and
	// ServerAge how long the server has been up. Session and Server change when they begin.
	SessionAge, ServerAge time.Duration
	Session, Server       string
	// At is when it was seen, on a clock of the caller's, who sets it.
	At time.Duration
	// Clock is the database's clock at the look, as the time since 1970: what
	// all workers can agree on, to take turns.
	Clock time.Duration
	// Glance says that the view is of Store.Glance, which does not look at locks:
	// nothing is known of leadership and sessions.
	Glance bool
	// Dead is how many workers were declared dead whose rows are kept.
	Dead int
	// Positions has the sum of the positions of the worker's own checkpoints, for each projection. It never falls
	// unless somebody sets a checkpoint back, deletes one, or the generation changes.
	Positions map[string]int64
	// Contradicting has the worker's projections whose checkpoints are not as the active generation has divided them, in order: somebody
	// has moved, deleted or entered some. It is empty unless the worker has reported that it runs the generation.
	Contradicting []string
	// Drawn is the highest position of the events table that was drawn, and so
	// changes when events are appended; 0 if it cannot be seen.
	Drawn int64
}

// Worker is the worker with the id; ok is false if the view has none.
func (v View) Worker(id uuid.UUID) (w Worker, ok bool) {
	for _, w := range v.Workers {
		if w.ID == id {
			return w, true
		}
	}
	return Worker{}, false
}

// viewColumns are a generation g, and a worker w with its heartbeat h, as scan takes
// them.
const viewColumns = `
       coalesce(g.number, 0), coalesce(g.state, ''), coalesce(g.cause, ''), coalesce(g.reason, ''), coalesce(array_remove(g.members, NULL), '{}'),
       CASE WHEN isfinite(g.created_at) THEN extract(epoch FROM now() - g.created_at)::float8 * 1000 ELSE 0 END,
       CASE WHEN isfinite(g.activated_at) THEN extract(epoch FROM now() - g.activated_at)::float8 * 1000 ELSE 0 END,
       w.worker_id, w.name, w.state, w.generation, array_remove(w.projections, NULL), array_remove(w.unpartitioned, NULL), w.partitions,
       CASE WHEN isfinite(w.state_changed_at) THEN extract(epoch FROM now() - w.state_changed_at)::float8 * 1000 ELSE 0 END,
       CASE WHEN isfinite(h.last_heartbeat) THEN extract(epoch FROM now() - h.last_heartbeat)::float8 * 1000 ELSE 'infinity' END,
       coalesce(extract(epoch FROM h.last_heartbeat)::text, ''),
       w.session_key IS NOT NULL, array_remove(w.left_out, NULL),` + abandonedColumn + `,
       (SELECT count(*) FROM {{schema}}orchestrator_workers WHERE replica_set = $1 AND state = 'dead'),
       CASE WHEN w.worker_id = $2 THEN (
           SELECT coalesce(jsonb_object_agg(projection, total), '{}')::text
           FROM (SELECT projection, least(sum(position), 9223372036854775807) AS total FROM {{schema}}orchestrator_checkpoints
                 WHERE replica_set = $1 AND worker_id = $2 GROUP BY projection) AS own)
       ELSE '' END,` + contradictingColumn

// contradictingColumn is the projections of worker w, if it is $2 and runs generation g, whose checkpoints contradict the generation. Each slot of a
// projection has a checkpoint that the generation gave to a member, unless another replica set has some of them: then no member has any.
const contradictingColumn = `
       CASE WHEN w.worker_id = $2 AND w.state = 'running' AND g.state = 'active' AND w.generation = g.number AND w.worker_id = ANY (g.members) THEN ARRAY(
           SELECT own.projection
           FROM (SELECT DISTINCT unnest(w.projections) AS projection) AS own
           LEFT JOIN {{schema}}orchestrator_checkpoints AS c ON c.projection = own.projection
           WHERE own.projection IS NOT NULL AND (own.projection = ANY (w.left_out)) IS NOT TRUE
           GROUP BY own.projection
           HAVING CASE WHEN bool_or(c.replica_set <> $1) THEN bool_or(c.generation = g.number AND c.worker_id = ANY (g.members))
                  ELSE 65536 IS DISTINCT FROM sum(c.slot_to - c.slot_from) FILTER (WHERE c.generation = g.number AND c.worker_id = ANY (g.members)) END
           ORDER BY own.projection COLLATE "C")
       END`

// One statement, whatever the number of workers, so that an idle worker costs
// little. The advisory lock is tried for only if this session does not hold it
// yet: a session that takes it twice must release it twice.
const sqlObserve = `
WITH locks AS MATERIALIZED (` + advisoryLocks + `
), leader AS MATERIALIZED (
    SELECT CASE
        WHEN EXISTS (SELECT 1 FROM locks WHERE key = $3 AND pid = pg_backend_pid()) THEN true
        WHEN $4 AND NOT EXISTS (SELECT 1 FROM locks WHERE key = $3) THEN pg_try_advisory_lock($3)
        ELSE false END AS held
), session AS (
    SELECT extract(epoch FROM clock_timestamp() - backend_start)::float8 * 1000 AS age, backend_start
    FROM pg_stat_get_activity(pg_backend_pid())
)
SELECT leader.held, leader.held OR EXISTS (SELECT 1 FROM locks WHERE key = $3),
       CASE WHEN leader.held THEN pg_backend_pid()
            ELSE coalesce((SELECT max(pid) FROM locks WHERE key = $3), 0) END,
       coalesce((SELECT age FROM session), 0), pg_backend_pid() || ' ' || coalesce((SELECT extract(epoch FROM backend_start)::text FROM session), ''),
       extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8 * 1000, extract(epoch FROM pg_postmaster_start_time())::text,
       extract(epoch FROM clock_timestamp())::float8 * 1000,
       (SELECT coalesce(max(CASE WHEN has_sequence_privilege(oid, 'SELECT') THEN pg_sequence_last_value(oid) END), 0)
        FROM pg_class WHERE oid = to_regclass(nullif($5, ''))),
` + viewColumns + `,
       coalesce((SELECT max(pid) FROM locks WHERE key = w.session_key), 0)
FROM leader
LEFT JOIN {{schema}}orchestrator_generations AS g ON g.replica_set = $1 AND g.state <> 'superseded'
LEFT JOIN {{schema}}orchestrator_workers AS w
       ON w.replica_set = $1 AND (w.state NOT IN ('stopped', 'dead') OR w.worker_id = $2 OR w.worker_id = ANY (g.members)
            OR w.session_key IN (SELECT k.key FROM locks AS k JOIN locks AS l ON l.pid = k.pid WHERE l.key = $3))
LEFT JOIN {{schema}}orchestrator_heartbeats AS h ON h.worker_id = w.worker_id
WHERE ` + dbguard.Primary + `
ORDER BY w.worker_id LIMIT {{all rows}}`

// What a follower needs to follow a change of generation. A scan of the locks takes
// as long as all the rest, and makes others wait for it.
const sqlGlance = `
SELECT false AS leading, false AS locked, 0, 0::float8, '', 0::float8, '', extract(epoch FROM clock_timestamp())::float8 * 1000, 0::bigint,
` + viewColumns + `, 0
FROM (VALUES (1)) AS one (row)
LEFT JOIN {{schema}}orchestrator_generations AS g ON g.replica_set = $1 AND g.state <> 'superseded'
LEFT JOIN {{schema}}orchestrator_workers AS w
       ON w.replica_set = $1 AND (w.state NOT IN ('stopped', 'dead') OR w.worker_id = $2 OR w.worker_id = ANY (g.members))
LEFT JOIN {{schema}}orchestrator_heartbeats AS h ON h.worker_id = w.worker_id
WHERE ` + dbguard.Primary + `
ORDER BY w.worker_id LIMIT {{all rows}}`

// Glance reads what Observe reads, but for leadership, sessions and Drawn, whose
// fields stay zero.
func (s *Store) Glance(ctx context.Context, db DB, worker uuid.UUID) (View, error) {
	v, err := s.view(ctx, db, s.q(sqlGlance), s.replicaSet, worker)
	v.Glance = true
	return v, err
}

// Observe reads the state of the replica set as worker sees it. With lead it
// also takes the leader's lock if that is free; db must be the worker's own
// session then, since the lock lasts as long as the session.
func (s *Store) Observe(ctx context.Context, db DB, worker uuid.UUID, lead bool) (View, error) {
	return s.view(ctx, db, s.q(sqlObserve), s.replicaSet, worker, s.leaderKey(), lead, s.sequence)
}

// view runs sqlObserve or sqlGlance.
func (s *Store) view(ctx context.Context, db DB, sql string, args ...any) (View, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return View{}, fmt.Errorf("observing replica set %q: %w", s.replicaSet, err)
	}
	defer rows.Close()
	var v View
	for rows.Next() {
		if err := v.scan(rows.Scan); err != nil {
			return View{}, fmt.Errorf("observing replica set %q: %w", s.replicaSet, err)
		}
	}
	if err := rows.Err(); err != nil {
		return View{}, fmt.Errorf("observing replica set %q: %w", s.replicaSet, err)
	}
	return v, nil
}

// scan takes one row of either statement: the replica set's state, repeated, and one
// worker, or NULLs if there is none.
func (v *View) scan(scan func(...any) error) error {
	var (
		sessionAge, serverAge  float64
		clock                  float64
		age, activeFor         float64
		stateAge, heartbeatAge float64
		id                     *uuid.UUID
		name                   *string
		state, generationState *string
		generation             *int64
		partitions             *int
		w                      Worker
		positions              string
		contradicting          []string
	)
	g := &v.Generation
	err := scan(&v.Leading, &v.LeaderLocked, &v.LeaderPID, &sessionAge, &v.Session, &serverAge, &v.Server, &clock, &v.Drawn,
		&g.Number, &generationState, &g.Cause, &g.Reason, &g.Members, &age, &activeFor,
		&id, &name, &state, &generation, &w.Projections, &w.Unpartitioned, &partitions,
		&stateAge, &heartbeatAge, &w.Heartbeat, &w.HasSession, &w.LeftOut, &w.Abandoned, &v.Dead, &positions, &contradicting, &w.SessionPID)
	if err != nil {
		return err
	}
	v.SessionAge, v.ServerAge, v.Clock = milliseconds(sessionAge), milliseconds(serverAge), milliseconds(clock)
	if positions != "" {
		if err := json.Unmarshal([]byte(positions), &v.Positions); err != nil {
			return fmt.Errorf("reading the sums of the worker's positions: %w", err)
		}
	}
	if len(contradicting) > 0 {
		v.Contradicting = contradicting
	}
	g.State, g.Age, g.ActiveFor = GenerationState(*generationState), milliseconds(age), milliseconds(activeFor)
	if id == nil {
		return nil
	}
	w.ID, w.Name, w.State, w.Generation, w.Partitions = *id, *name, WorkerState(*state), *generation, *partitions
	w.StateAge, w.HeartbeatAge = milliseconds(stateAge), milliseconds(heartbeatAge)
	v.Workers = append(v.Workers, w)
	return nil
}
