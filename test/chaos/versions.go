package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// Versions of one projection, each of which is to take over from the one before. The first has effects from the beginning, and each other one after its cut-over. So
// each event has exactly one effect in the end, whatever happens, and the versions' effects follow each other.

// versionCount is how many there are. All of them are run all the time, so that those that were replaced have the occasion to do harm.
const versionCount = 5

// sqlVersions has no constraint: a second effect is to be found, and not to make a handler fail.
const sqlVersions = `
CREATE TABLE chaos_effects (projection text NOT NULL, position bigint NOT NULL, worker text NOT NULL, generation bigint NOT NULL);
GRANT INSERT ON chaos_effects TO ` + workerRole

func versionName(i int) string { return fmt.Sprint("version-", i+1) }

// version is one of them.
type version struct{ number int }

// versions are all of them.
func versions() (all []projection.Projection) {
	for i := range versionCount {
		all = append(all, version{i})
	}
	return all
}

// Name is the version's name.
func (v version) Name() string { return versionName(v.number) }

// Replaces is the version before; the first has none.
func (v version) Replaces() string {
	if v.number == 0 {
		return ""
	}
	return versionName(v.number - 1)
}

// Handle has an effect unless the version replays.
func (v version) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	delivery, _ := projection.DeliveryFrom(ctx)
	if delivery.Replay {
		return nil
	}
	_, err := tx.Exec(ctx, "INSERT INTO public.chaos_effects VALUES ($1, $2, $3, $4)", v.Name(), event.GlobalPosition, delivery.Worker.String(), delivery.Generation)
	return err
}

// cutOverLimits are wide: whether a cut-over is refused is for other tests.
const (
	cutOverApart = 1_000_000
	cutOverPause = 5 * time.Second
	// cutOverPausePooled is the longest pause behind a pooler. Both versions reach one position only when all partitions run at once for a moment. A killed worker
	// that has no session is missed only after the stale timeout, a frozen one keeps the next generation waiting for the coordination timeout, and in the brisk
	// moods of the schedule the next one is killed before that.
	cutOverPausePooled = 3 * (staleTimeout + coordinationTimeout)
)

// cutOverPause is the longest pause of a cut-over in this run.
func (o options) cutOverPause() time.Duration {
	if o.Pooler {
		return cutOverPausePooled
	}
	return cutOverPause
}

// cutOvers has one version after the other take over, while there are faults. Half of those who ask for it go away soon.
func (c *chaos) cutOvers(ctx context.Context) {
	rng := rand.New(rand.NewPCG(c.options.Seed, 5))
	for rest(ctx, between(rng, time.Second, 4*time.Second)) {
		patience := 2 * c.options.cutOverPause()
		if rng.IntN(2) == 0 {
			patience = between(rng, 20*time.Millisecond, 500*time.Millisecond)
		}
		c.cutOver(ctx, patience)
	}
}

// cutOver has the next version take over.
func (c *chaos) cutOver(ctx context.Context, patience time.Duration) {
	operator, err := admin.New(c.pool, c.store, replicaSet, admin.WithActor(applicationName), admin.WithCutOverLimits(cutOverApart, c.options.cutOverPause()))
	if err != nil {
		return
	}
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var over int
	if c.pool.QueryRow(patient, "SELECT count(*) FROM orchestrator_successions WHERE cut_over_at IS NOT NULL").Scan(&over) != nil || over+1 >= versionCount {
		return
	}
	result, err := operator.CutOver(patient, versionName(over), versionName(over+1), "chaos")
	c.tell(faultCutOver, "%s takes over at %d after a pause of %s (%v)", versionName(over+1), result.Position, result.Paused.Round(time.Millisecond), err)
}

// replaced is a condition for rows c of projections that were replaced, and so stay where they are.
const replaced = "c.projection IN (SELECT replaced FROM orchestrator_successions WHERE cut_over_at IS NOT NULL)"

// effectChecks are what SQL can say of the versions.
var effectChecks = []check{
	{"effects", "an event that did not have exactly one effect, of one version", `
SELECT e.global_position, count(x.position), array_agg(x.projection) AS versions
FROM events AS e LEFT JOIN chaos_effects AS x ON x.position = e.global_position
WHERE EXISTS (SELECT FROM chaos_effects)
GROUP BY e.global_position HAVING count(x.position) <> 1
UNION ALL
SELECT position, count(*), array_agg(projection) FROM chaos_effects AS x WHERE NOT EXISTS (SELECT FROM events AS e WHERE e.global_position = x.position) GROUP BY position`},

	{"effects-of-versions", "an effect of a version after those of the one that has replaced it had begun in the slot", `
SELECT * FROM (
    SELECT x.projection, x.position, max(x.projection) OVER (PARTITION BY hashtextextended(e.aggregate_id, 0) & 65535 ORDER BY e.global_position) AS latest
    FROM chaos_effects AS x JOIN events AS e ON e.global_position = x.position) AS effects
WHERE projection < latest`},

	{"held-by-cut-overs", "a projection that a cut-over still holds, or has left for a person", `
SELECT s.projection, s.replaced FROM orchestrator_successions AS s WHERE s.held_until > now()
UNION ALL
SELECT c.projection, '' FROM orchestrator_checkpoints AS c WHERE c.hold_at IS NOT NULL AND c.hold_until IS NULL AND NOT ` + replaced},
}
