package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	patience     = 90 * time.Second // for whatever must happen; above the stale timeout and the coordination timeout
	pollInterval = 20 * time.Millisecond
	// quiet is how long a generation must have been active for its replica set to be settled: longer than a change that follows
	// another closely waits.
	quiet = 600 * time.Millisecond
)

// situation is a replica set at a moment.
type situation struct {
	generation int64
	state      string
	activeFor  time.Duration
	members    []string // names of the generation's members, sorted
	handling   []string // names of those that have committed a batch under it, sorted
}

const sqlSituation = `
SELECT g.number, g.state, coalesce(extract(epoch FROM clock_timestamp() - g.activated_at), 0)::float8,
    ARRAY(SELECT w.name FROM orchestrator_workers AS w WHERE w.worker_id = ANY (g.members) ORDER BY w.name COLLATE "C"),
    ARRAY(SELECT DISTINCT b.worker COLLATE "C" FROM recovery_batches AS b WHERE b.projection = $1 AND b.generation = g.number ORDER BY 1)
FROM orchestrator_generations AS g WHERE g.replica_set = $1 AND g.state <> 'superseded'`

// observe reads the situation; its generation is 0 if there is none yet.
func (s *stage) observe(ctx context.Context, in string) (situation, error) {
	var v situation
	var active float64
	err := s.pool.QueryRow(ctx, sqlSituation, in).Scan(&v.generation, &v.state, &active, &v.members, &v.handling)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return v, fmt.Errorf("observing replica set %s: %w", in, err)
	}
	v.activeFor = time.Duration(active * float64(time.Second))
	return v, nil
}

// until waits until done says so. Errors of done are taken for passing ones, as while the database restarts, until patience
// ends. A worker that should be alive and is not ends it.
func (s *stage) until(ctx context.Context, what string, done func() (bool, error)) error {
	deadline := time.Now().Add(patience)
	var failed error
	for {
		ok, err := done()
		if ok && err == nil {
			return nil
		}
		failed = err
		for name, p := range s.workers {
			if p.Ended() {
				return errors.Join(fmt.Errorf("waiting until %s: the process of worker %s has ended, see %s", what, name, p.LogFile), p.Outcome())
			}
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("waited for %s until %s, in vain; %s", patience, what, s.describe(ctx)), failed)
		}
		if err := wait(ctx, pollInterval); err != nil {
			return err
		}
	}
}

// settle waits until all workers that should be alive, and nobody else, are members of the replica set's active generation,
// each handles events under it, and it has been active for a while.
func (s *stage) settle(ctx context.Context, in string) (situation, error) {
	v, err := s.assemble(ctx, in)
	if err != nil {
		return v, err
	}
	return v, s.until(ctx, "replica set "+in+" is quiet", func() (bool, error) {
		v, err = s.observe(ctx, in)
		return v.complete(s.names()) && v.activeFor >= quiet, err
	})
}

// assemble is settle without the wait at the end. Each generation that has become active gets an event for every bucket at
// once, where the load would let it wait for long.
func (s *stage) assemble(ctx context.Context, in string) (v situation, err error) {
	names, prodded := s.names(), int64(0)
	err = s.until(ctx, fmt.Sprintf("%d workers handle events", len(names)), func() (bool, error) {
		v, err = s.observe(ctx, in)
		if v.state == "active" && v.generation != prodded && s.options.load.every >= time.Second {
			prodded = v.generation
			s.load.now()
		}
		return v.complete(names), err
	})
	return v, err
}

// complete says whether exactly these workers are the members and all handle events.
func (v situation) complete(names []string) bool {
	return v.state == "active" && slices.Equal(v.members, names) && slices.Equal(v.handling, names)
}

// describe is the situation for an error's text.
func (s *stage) describe(ctx context.Context) string {
	v, err := s.observe(ctx, replicaSet)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("generation %d is %s since %s with %s, of which %s handle events; %s should; the logs are in %s", v.generation, v.state,
		v.activeFor.Round(time.Millisecond), strings.Join(v.members, " "), strings.Join(v.handling, " "), strings.Join(s.names(), " "), s.dir)
}

// Where workers have sessions, the leader's holds two advisory locks beside that of its transactions: its own and the replica set's. Where they have none, the
// live worker with the least id acts.
const (
	sqlLeader = `
SELECT w.name FROM pg_locks AS l
JOIN pg_stat_activity AS a USING (pid)
JOIN orchestrator_workers AS w ON a.application_name LIKE '%' || w.worker_id::text
WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted AND w.replica_set = $1
  AND ((l.classid::bigint << 32) | l.objid::bigint) <> hashtextextended('pupsourcing-worker ' || w.worker_id, 0)
GROUP BY w.name HAVING count(*) > 1`
	sqlPollOnlyLeader = `
SELECT name FROM orchestrator_workers WHERE replica_set = $1 AND state NOT IN ('stopped', 'dead') ORDER BY worker_id LIMIT 1`
)

// leader is the name of the worker that leads the replica set; empty if there is none at the moment.
func (s *stage) leader(ctx context.Context) (name string, err error) {
	statement := sqlLeader
	if s.env.pollOnly {
		statement = sqlPollOnlyLeader
	}
	err = s.pool.QueryRow(ctx, statement, replicaSet).Scan(&name)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("looking for the leader: %w", err)
	}
	return name, nil
}
