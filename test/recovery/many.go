package main

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

const (
	manyWorkers = 32
	manySingles = 50
	manyPool    = 4
	startAtOnce = 8 // so that the machine is not busy with starting alone

	idleBefore = 5 * time.Second  // without events, before statements are counted
	idleFor    = 15 * time.Second // in which they are
)

// manyLoad is a trickle, since all 82 workers handle it: each of 64 buckets gets an event every 5 s, and whenever a generation
// has become active. A partition of 32 has two buckets.
var manyLoad = loadOptions{buckets: 64, every: 5 * time.Second, stride: 1}

// many measures many workers in one database: one replica set of 32, and 50 replica sets of one worker each. Each worker has a
// role of its own, so that the server counts its statements and connections apart.
func many(env settings) scenario {
	return scenario{
		figures: []string{"many"}, repetitions: 10,
		options: stageOptions{
			load:     manyLoad,
			settings: map[string]string{"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.max": "10000"},
			worker: func(spec *workload.WorkerSpec, _ int) error {
				dsn, err := url.Parse(spec.Target.DSN)
				if err != nil {
					return fmt.Errorf("reading the server's address: %w", err)
				}
				dsn.User = url.User(spec.Name)
				spec.Target.DSN, spec.PoolSize = dsn.String(), manyPool
				return nil
			},
		},
		prepare: func(ctx context.Context, s *stage) error { return prepareMany(ctx, s, env) },
		repeat:  repeatMany,
	}
}

// prepareMany starts all, checks that each set has its members, and counts what they do while there is nothing to do.
func prepareMany(ctx context.Context, s *stage, env settings) error {
	n := env.repetitions
	if n == 0 {
		n = 50
	}
	if err := createRoles(ctx, s, manyWorkers+manySingles+n); err != nil {
		return err
	}
	for len(s.workers) < manyWorkers {
		if err := s.startMany(ctx, startAtOnce); err != nil {
			return err
		}
	}
	set := maps.Clone(s.workers)
	singles, err := startSingles(ctx, s)
	if err != nil {
		return err
	}
	if _, err := s.settle(ctx, replicaSet); err != nil {
		return fmt.Errorf("with %d more replica sets: %w", manySingles, err)
	}
	return countIdle(ctx, s, slices.Sorted(maps.Keys(set)), singles)
}

// createRoles creates a role for each worker that will be started. They may do everything: that is not what is measured.
func createRoles(ctx context.Context, s *stage, n int) error {
	for i := range n {
		role := pgx.Identifier{fmt.Sprintf("w%d", i+1)}.Sanitize()
		if _, err := s.pool.Exec(ctx, "CREATE ROLE "+role+" LOGIN SUPERUSER"); err != nil {
			return fmt.Errorf("creating a role for a worker: %w", err)
		}
	}
	if _, err := s.pool.Exec(ctx, "CREATE EXTENSION pg_stat_statements"); err != nil {
		return fmt.Errorf("installing pg_stat_statements: %w", err)
	}
	return nil
}

// startSingles starts the workers that are alone in their replica sets, and waits until each handles events. They are none of the
// stage's workers afterwards, but end with it.
func startSingles(ctx context.Context, s *stage) (names []string, err error) {
	set := s.workers
	defer func() { s.workers = set }()
	for i := range manySingles {
		in := fmt.Sprintf("single-%d", i)
		s.workers = map[string]*workload.Process{}
		name, err := s.start(in)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
		if _, err := s.assemble(ctx, in); err != nil {
			return nil, err
		}
	}
	return names, nil
}

const (
	sqlResetStatements = `SELECT pg_stat_statements_reset()`
	sqlStatements      = `
SELECT r.rolname, sum(t.calls)::float8 FROM pg_stat_statements AS t JOIN pg_roles AS r ON r.oid = t.userid
WHERE t.toplevel GROUP BY r.rolname`
	sqlConnections = `
SELECT usename, count(*)::float8 FROM pg_stat_activity WHERE datname = current_database() GROUP BY usename`
)

// countIdle counts the statements and the connections of each worker while no events come.
func countIdle(ctx context.Context, s *stage, set, singles []string) error {
	if err := s.connections(ctx, slices.Concat(set, singles)); err != nil {
		return err
	}
	_ = s.load.Stop()
	if err := wait(ctx, idleBefore); err != nil {
		return err
	}
	leader, err := s.leader(ctx)
	if err != nil {
		return err
	}
	if _, err := s.pool.Exec(ctx, sqlResetStatements); err != nil {
		return fmt.Errorf("resetting the counts of statements: %w", err)
	}
	began := time.Now()
	if err := wait(ctx, idleFor); err != nil {
		return err
	}
	calls, err := s.perRole(ctx, sqlStatements)
	if err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	for _, name := range set {
		figure := "many-worker"
		if name == leader {
			figure = "many-leader"
		}
		s.report.add(figure, calls[name]/took)
	}
	for _, name := range singles {
		s.report.add("many-single", calls[name]/took)
	}
	if err := s.tellFrequent(ctx, took, leader, singles[0]); err != nil {
		return err
	}
	s.load, err = startLoad(ctx, s.dsn, s.options.load)
	return err
}

// connections adds each worker's connections to the report.
func (s *stage) connections(ctx context.Context, names []string) error {
	open, err := s.perRole(ctx, sqlConnections)
	if err != nil {
		return err
	}
	for _, name := range names {
		s.report.add("many-connections", open[name])
	}
	return nil
}

// perRole runs a statement that selects a number for each role.
func (s *stage) perRole(ctx context.Context, statement string) (map[string]float64, error) {
	rows, err := s.pool.Query(ctx, statement)
	if err != nil {
		return nil, fmt.Errorf("counting by role: %w", err)
	}
	result := map[string]float64{}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (role *string, err error) {
		var n float64
		if err = row.Scan(&role, &n); err == nil && role != nil { // null for the server's own processes
			result[*role] = n
		}
		return role, err
	})
	if err != nil {
		return nil, fmt.Errorf("counting by role: %w", err)
	}
	return result, nil
}

// repeatMany kills one of the 32 and starts another.
func repeatMany(ctx context.Context, s *stage, i int) error {
	before, err := s.settle(ctx, replicaSet)
	if err != nil {
		return err
	}
	if err := s.pause(ctx, 500*time.Millisecond); err != nil {
		return err
	}
	leader, err := s.leader(ctx)
	if err != nil {
		return err
	}
	victim := s.draw()
	at, err := s.kill(victim)
	if err != nil {
		return err
	}
	if _, err := s.assemble(ctx, replicaSet); err != nil {
		return err
	}
	took, err := s.awaitRecovery(ctx, at, later(before.generation, victim))
	if err != nil {
		return err
	}
	detected, err := s.detected(ctx, victim, at)
	if err != nil {
		return err
	}
	s.report.addTime("many", took)
	s.report.addTime("many-detected", detected)
	s.tell(i, "%s (leader: %t), declared dead after %s", took, victim == leader, detected)
	if err := s.connections(ctx, s.names()); err != nil {
		return err
	}
	_, err = s.start(replicaSet)
	return err
}

const sqlFrequent = `
SELECT r.rolname, sum(t.calls)::float8, left(regexp_replace(t.query, '\s+', ' ', 'g'), 90) AS query
FROM pg_stat_statements AS t JOIN pg_roles AS r ON r.oid = t.userid
WHERE t.toplevel AND r.rolname = ANY ($1) GROUP BY r.rolname, query ORDER BY 2 DESC LIMIT 12`

// tellFrequent prints the most frequent statements of some workers, if that was asked for.
func (s *stage) tellFrequent(ctx context.Context, seconds float64, names ...string) error {
	if !s.env.verbose {
		return nil
	}
	rows, err := s.pool.Query(ctx, sqlFrequent, names)
	if err != nil {
		return fmt.Errorf("listing statements: %w", err)
	}
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var role, query string
		var calls float64
		err := row.Scan(&role, &calls, &query)
		return fmt.Sprintf("idle %s: %.1f/s %s", role, calls/seconds, query), err
	})
	if err != nil {
		return fmt.Errorf("listing statements: %w", err)
	}
	for _, line := range lines {
		s.tell(0, "%s", line)
	}
	return nil
}
