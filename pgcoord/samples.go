package pgcoord

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/lag"
)

// The samples are an aid: without them workers know only since their own start how long events wait.

// sqlSample stores that the events go up to position $2 now. The sample of a position that has one stays. Positions above it are of a
// stream that was set back.
const sqlSample = `
WITH stale AS (
    DELETE FROM {{schema}}orchestrator_samples WHERE replica_set = $1::text AND position > $2::bigint
)
INSERT INTO {{schema}}orchestrator_samples (replica_set, position) SELECT $1::text, $2::bigint WHERE ` + dbguard.Primary + `
ON CONFLICT DO NOTHING`

// sqlThinSamples deletes every second of the samples that are closer to the one before than a sixteenth of their age, and those that are
// older than $2 seconds. So there are a few hundred at most.
const sqlThinSamples = `
DELETE FROM {{schema}}orchestrator_samples AS s
USING (
    SELECT position, sampled_at, pg_catalog.row_number() OVER (ORDER BY position) AS nth,
           pg_catalog.lag(sampled_at) OVER (ORDER BY position) AS before
    FROM {{schema}}orchestrator_samples WHERE replica_set = $1::text
) AS o
WHERE s.replica_set = $1::text AND s.position = o.position
  AND (o.sampled_at < pg_catalog.now() - pg_catalog.make_interval(secs => $2::int)
       OR o.nth % 2 = 0 AND (o.sampled_at - o.before) * 16 < pg_catalog.now() - o.sampled_at)`

const sqlSamples = `
SELECT position, (extract(epoch FROM pg_catalog.clock_timestamp() - sampled_at) * 1000)::bigint
FROM {{schema}}orchestrator_samples WHERE replica_set = $1::text AND ` + dbguard.Primary + ` ORDER BY position LIMIT $2::bigint`

// mostSamples bounds what is read of the samples.
const mostSamples = 2000

// Sample stores a sample of the stream's last position. With thin it also thins the samples.
func (s *Store) Sample(ctx context.Context, db dbguard.Transactions, position int64, thin bool) error {
	db = db.Waiting(recordPatience)
	_, err := db.Exec(ctx, s.q(sqlSample), s.replicaSet, position)
	if err == nil && thin {
		_, err = db.Exec(ctx, s.q(sqlThinSamples), s.replicaSet, int(lag.Longest/time.Second))
	}
	if err != nil {
		return aidError{fmt.Errorf("storing up to which position the events go (orchestrator_samples): %w", err)}
	}
	return nil
}

// Samples reads the samples. Their times are relative to now, at the ages that the database computes.
func (s *Store) Samples(ctx context.Context, db dbguard.Transactions, now time.Duration) ([]lag.Sample, error) {
	rows, err := db.Waiting(recordPatience).Query(ctx, s.q(sqlSamples), s.replicaSet, mostSamples)
	var samples []lag.Sample
	if err == nil {
		samples, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (one lag.Sample, err error) {
			var age int64
			err = row.Scan(&one.Position, &age)
			one.At = now - time.Duration(age)*time.Millisecond
			return one, err
		})
	}
	if err != nil {
		return nil, aidError{fmt.Errorf("reading since when events wait (orchestrator_samples): %w", err)}
	}
	return samples, nil
}

// sqlSurvey counts, of the replica set's projections that were not replaced, the slots that no live worker owns, and the requests that wait, by kind.
const sqlSurvey = `
SELECT false, c.projection, coalesce(pg_catalog.sum(c.slot_to - c.slot_from) FILTER (WHERE w.state IS NULL OR w.state IN ('stopped', 'dead')), 0)::bigint
FROM {{schema}}orchestrator_checkpoints AS c LEFT JOIN {{schema}}orchestrator_workers AS w ON w.worker_id = c.worker_id
WHERE c.replica_set = $1::text AND NOT EXISTS (SELECT FROM {{schema}}orchestrator_successions AS s WHERE s.replaced = c.projection AND s.cut_over_at IS NOT NULL) AND ` + dbguard.Primary + `
GROUP BY c.projection
UNION ALL
SELECT true, r.kind, pg_catalog.count(*)
FROM {{schema}}orchestrator_requests AS r
WHERE r.state = 'waiting' AND r.projection IN (SELECT projection FROM {{schema}}orchestrator_checkpoints WHERE replica_set = $1::text)
GROUP BY r.kind`

// Survey counts the slots of each projection that no live worker owns, and the requests that wait for an owner, by kind.
func (s *Store) Survey(ctx context.Context, db dbguard.Transactions) (unowned, requests map[string]int, err error) {
	type counted struct {
		request bool
		name    string
		n       int
	}
	var all []counted
	rows, err := db.Waiting(recordPatience).Query(ctx, s.q(sqlSurvey), s.replicaSet)
	if err == nil {
		all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c counted, err error) {
			return c, row.Scan(&c.request, &c.name, &c.n)
		})
	}
	if err != nil {
		return nil, nil, aidError{fmt.Errorf("counting the slots that nobody owns, and the requests that wait: %w", err)}
	}
	unowned, requests = map[string]int{}, map[string]int{}
	for _, c := range all {
		if c.request {
			requests[c.name] = c.n
		} else {
			unowned[c.name] = c.n
		}
	}
	return unowned, requests, nil
}
