package pgcoord

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// viewColumns are a generation g, and a worker w with its heartbeat h, as scanView takes
// them. Only the first row has the members: with all rows, a look would grow with the square
// of their number.
const viewColumns = `
       coalesce(g.number, 0), coalesce(g.state, ''), coalesce(g.cause, ''),
       CASE WHEN row_number() OVER (ORDER BY w.worker_id) = 1 THEN coalesce(g.reason, '') END,
       CASE WHEN row_number() OVER (ORDER BY w.worker_id) = 1 THEN coalesce(array_remove(g.members, NULL), '{}') END,
       CASE WHEN isfinite(g.created_at) THEN extract(epoch FROM now() - g.created_at) * 1000 ELSE 0 END,
       CASE WHEN isfinite(g.activated_at) THEN extract(epoch FROM now() - g.activated_at) * 1000 ELSE 0 END,
       w.worker_id, w.name, w.state, w.generation, array_remove(w.projections, NULL), array_remove(w.unpartitioned, NULL), w.partitions,
       CASE WHEN isfinite(w.state_changed_at) THEN extract(epoch FROM now() - w.state_changed_at) * 1000 ELSE 0 END,
       CASE WHEN isfinite(h.last_heartbeat) THEN extract(epoch FROM now() - h.last_heartbeat) * 1000 ELSE 'infinity' END,
       coalesce(extract(epoch FROM h.last_heartbeat)::text, ''),
       coalesce(extract(epoch FROM w.stale_timeout) * 1000, 0), w.session_key, coalesce(w.drained, false),` + drainedColumn + `, array_remove(w.left_out, NULL),` + abandonedColumn + `,
       (SELECT count(*) FROM {{schema}}orchestrator_workers WHERE replica_set = $1 AND state = 'dead'),
       CASE WHEN w.worker_id = $2 THEN (
           SELECT coalesce(jsonb_object_agg(projection, jsonb_build_object('positions', positions, 'revisions', revisions)), '{}')::text
           FROM (SELECT projection, least(sum(position), 9223372036854775807) AS positions, least(sum(revision), 9223372036854775807) AS revisions FROM {{schema}}orchestrator_checkpoints
                 WHERE replica_set = $1 AND worker_id = $2 GROUP BY projection) AS own)
       ELSE '' END,` + contradictingColumn

// contradictingColumn is the projections of worker w, if it is $2 and runs generation g, whose checkpoints contradict the generation. Each slot of a
// projection has a checkpoint that the generation gave to a member, unless another replica set has some of them: then no member has any. A worker that is drained
// does not look: it may be that nobody else runs its projections.
const contradictingColumn = `
       CASE WHEN w.worker_id = $2 AND w.state = 'running' AND g.state = 'active' AND w.generation = g.number AND NOT w.drained AND w.worker_id = ANY (g.members) THEN ARRAY(
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
), held AS MATERIALIZED (
    SELECT key, pid FROM locks WHERE pid IS NOT NULL AND key = ANY (ARRAY(SELECT session_key FROM {{schema}}orchestrator_workers WHERE replica_set = $1))
), session AS (
    SELECT extract(epoch FROM clock_timestamp() - backend_start) * 1000 AS age, backend_start
    FROM pg_stat_get_activity(pg_backend_pid())
)
SELECT leader.held, leader.held OR EXISTS (SELECT 1 FROM locks WHERE key = $3),
       CASE WHEN leader.held THEN pg_backend_pid()
            ELSE coalesce((SELECT max(pid) FROM locks WHERE key = $3), 0) END,
       leader.held OR coalesce((SELECT bool_and(` + mayChange + `) FROM locks JOIN pg_stat_get_activity(locks.pid) AS a ON true WHERE key = $3 AND locks.pid IS NOT NULL), false),
       coalesce((SELECT age FROM session), 0), pg_backend_pid() || ' ' || coalesce((SELECT extract(epoch FROM backend_start)::text FROM session), ''),
       extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()) * 1000, extract(epoch FROM pg_postmaster_start_time())::text,
       extract(epoch FROM clock_timestamp()) * 1000,
       (SELECT coalesce(max(CASE WHEN has_sequence_privilege(oid, 'SELECT') THEN pg_sequence_last_value(oid) END), 0)
        FROM pg_class WHERE oid = to_regclass(nullif($5, ''))),
` + viewColumns + `,
       CASE WHEN row_number() OVER (ORDER BY w.worker_id) = 1 THEN (SELECT array_agg(key ORDER BY pid) FROM held) END,
       CASE WHEN row_number() OVER (ORDER BY w.worker_id) = 1 THEN (SELECT array_agg(pid ORDER BY pid) FROM held) END
FROM leader
LEFT JOIN {{schema}}orchestrator_generations AS g ON g.replica_set = $1 AND g.state <> 'superseded'
LEFT JOIN {{schema}}orchestrator_workers AS w
       ON w.replica_set = $1 AND (w.state NOT IN ('stopped', 'dead') OR w.worker_id = $2 OR w.worker_id = ANY (g.members)
            OR w.session_key IN (SELECT k.key FROM locks AS k JOIN locks AS l ON l.pid = k.pid WHERE l.key = $3))
LEFT JOIN {{schema}}orchestrator_heartbeats AS h ON h.worker_id = w.worker_id
WHERE ` + dbguard.Primary + `
ORDER BY w.worker_id LIMIT {{all rows and drains}}`

// mayChange says whether the login role of a session a may change the workers' table, or may become a role that may. Anybody may take an advisory
// lock, also those of a leader and of a worker that have just died, so the locks alone do not show that a session is a worker's.
const mayChange = `
    CASE WHEN a.usesysid = (SELECT oid FROM pg_roles WHERE rolname = session_user) THEN true
    ELSE coalesce((
        SELECT pg_has_role(a.usesysid, c.relowner, 'MEMBER') OR pg_has_role(a.usesysid, 'pg_write_all_data', 'MEMBER') OR EXISTS (
            SELECT FROM aclexplode(c.relacl) AS granted
            WHERE granted.privilege_type = 'UPDATE'
              AND CASE WHEN granted.grantee = 0 THEN true ELSE pg_has_role(a.usesysid, granted.grantee, 'MEMBER') END)
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relname = 'orchestrator_workers' AND n.nspname = $6), false) END`

// What a follower needs to follow a change of generation: the generation, and the worker
// itself. A scan of the locks takes as long as all the rest, and makes others wait for it.
// The rows of all workers, read by each of them at each step of a change, would cost the
// square of their number.
const sqlGlance = `
SELECT false AS leading, false AS locked, 0, false, 0::numeric, '', 0::numeric, '', extract(epoch FROM clock_timestamp()) * 1000, 0::bigint,
` + viewColumns + `, NULL::bigint[], NULL::int[]
FROM (VALUES (1)) AS one (row)
LEFT JOIN {{schema}}orchestrator_generations AS g ON g.replica_set = $1 AND g.state <> 'superseded'
LEFT JOIN {{schema}}orchestrator_workers AS w ON w.replica_set = $1 AND w.worker_id = $2
LEFT JOIN {{schema}}orchestrator_heartbeats AS h ON h.worker_id = w.worker_id
WHERE ` + dbguard.Primary + `
ORDER BY w.worker_id LIMIT {{all rows and drains}}`

// The same without the aids.
var (
	sqlObserveWithout = withoutAids(sqlObserve)
	sqlGlanceWithout  = withoutAids(sqlGlance)
)

// Glance reads what Observe reads, except for the other workers, leadership, sessions and LastAllocated. Those fields
// stay zero.
func (s *Store) Glance(ctx context.Context, db DB, worker uuid.UUID) (replicaset.View, error) {
	v, err := s.view(ctx, db, sqlGlance, sqlGlanceWithout, s.replicaSet, worker)
	v.Glance = true
	return v, err
}

// GlanceAhead does the same as Glance followed by ReadAssignment, in fewer messages. A worker that waits for the generation to become active uses it, as all
// workers do at the same time in a change. If the assignment cannot be read, GlanceAhead returns nil in its place.
func (s *Store) GlanceAhead(ctx context.Context, db Conn, worker uuid.UUID, generation int64, projections []string) (replicaset.View, *Assigned, error) {
	if _, is := db.(*pgx.Conn); is && !s.aids.rests() {
		v := replicaset.View{Glance: true}
		glance := read{
			sql: s.q(sqlGlance), args: []any{s.replicaSet, worker},
			take:  func(rows pgx.Rows) error { return scanRows(&v, rows) },
			doing: fmt.Sprintf("observing replica set %q", s.replicaSet),
		}
		if a, err := s.readAssignment(ctx, db, worker, generation, projections, glance); err == nil {
			s.aids.used()
			return v, &a, nil
		}
	}
	v, err := s.Glance(ctx, db, worker)
	return v, nil, err
}

// Observe reads the state of the replica set as the worker sees it. With lead it also takes the leader's lock if that is
// free. db must then be the worker's own session, since the lock lasts as long as the session.
func (s *Store) Observe(ctx context.Context, db DB, worker uuid.UUID, lead bool) (replicaset.View, error) {
	return s.view(ctx, db, sqlObserve, sqlObserveWithout, s.replicaSet, worker, s.leaderKey(), lead, s.sequence, s.schema)
}

// view runs sqlObserve or sqlGlance, or the same without the aids where one of them cannot be read.
func (s *Store) view(ctx context.Context, db DB, whole, without string, args ...any) (replicaset.View, error) {
	if s.aids.rests() {
		return s.readView(ctx, db, without, args...)
	}
	v, err := s.readView(ctx, db, whole, args...)
	if err == nil {
		s.aids.used()
	}
	if err == nil || !mayDoWithout(err) {
		return v, err
	}
	v, otherErr := s.readView(ctx, db, without, args...)
	if otherErr != nil {
		return replicaset.View{}, err
	}
	s.aids.rest()
	v.WithoutAids = err
	return v, nil
}

// readView runs one statement of view.
func (s *Store) readView(ctx context.Context, db DB, sql string, args ...any) (replicaset.View, error) {
	rows, err := db.Query(ctx, s.q(sql), args...)
	if err != nil {
		return replicaset.View{}, fmt.Errorf("observing replica set %q: %w", s.replicaSet, err)
	}
	var v replicaset.View
	if err := scanRows(&v, rows); err != nil {
		return replicaset.View{}, fmt.Errorf("observing replica set %q: %w", s.replicaSet, err)
	}
	return v, nil
}

// scanRows takes the rows of either statement.
func scanRows(v *replicaset.View, rows pgx.Rows) error {
	defer rows.Close()
	held := map[int64]int{}
	for rows.Next() {
		if err := scanView(v, held, rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// scanView takes one row of either statement. Each row has the replica set's state and one worker. A replica set without workers has one row, whose
// columns of the worker are NULL. The first row also lists the backends that hold the workers' locks, which scanView stores in held.
func scanView(v *replicaset.View, held map[int64]int, scan func(...any) error) error {
	var (
		sessionAge, serverAge  float64
		clock                  float64
		age, activeFor         float64
		stateAge, heartbeatAge float64
		staleTimeout           float64
		id                     *uuid.UUID
		name                   *string
		state, generationState *string
		generation             *int64
		reason                 *string
		members                []uuid.UUID
		partitions             *int
		w                      replicaset.Worker
		checkpoints            string
		contradicting          []string
		sessionKey             *int64
		keys                   []int64
		pids                   []int
	)
	g := &v.Generation
	err := scan(&v.Leading, &v.LeaderLocked, &v.LeaderPID, &v.LeaderMayWrite, &sessionAge, &v.Session, &serverAge, &v.Server, &clock, &v.LastAllocated,
		&g.Number, &generationState, &g.Cause, &reason, &members, &age, &activeFor,
		&id, &name, &state, &generation, &w.Projections, &w.Unpartitioned, &partitions,
		&stateAge, &heartbeatAge, &w.Heartbeat, &staleTimeout, &sessionKey, &w.WithoutPartitions, &w.Drained, &w.LeftOut, &w.Abandoned, &v.Dead, &checkpoints, &contradicting, &keys, &pids)
	if err != nil {
		return err
	}
	v.SessionAge, v.ServerAge, v.Clock = milliseconds(sessionAge), milliseconds(serverAge), milliseconds(clock)
	if checkpoints != "" {
		if err := json.Unmarshal([]byte(checkpoints), &v.Checkpoints); err != nil {
			return fmt.Errorf("reading the sums of the worker's checkpoints: %w", err)
		}
	}
	if reason != nil {
		g.Reason, g.Members = *reason, members
	}
	if len(contradicting) > 0 {
		v.Contradicting = contradicting
	}
	g.State, g.Age, g.ActiveFor = replicaset.GenerationState(*generationState), milliseconds(age), milliseconds(activeFor)
	for i, key := range keys {
		held[key] = pids[i]
	}
	if id == nil {
		return nil
	}
	if sessionKey != nil {
		w.HasSession, w.SessionPID = true, held[*sessionKey]
	}
	w.ID, w.Name, w.State, w.Generation, w.Partitions = *id, *name, replicaset.WorkerState(*state), *generation, *partitions
	w.StateAge, w.HeartbeatAge = milliseconds(stateAge), milliseconds(heartbeatAge)
	w.StaleTimeout = milliseconds(staleTimeout)
	v.Workers = append(v.Workers, w)
	return nil
}
