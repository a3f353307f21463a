package pgcoord

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// What one leader has stored the next one reads, on its own clock.
func TestSamples(t *testing.T) {
	t.Parallel()
	store, pool := newStore(t)
	db := dbguard.New(pool).InTransactions()
	for _, position := range []int64{5, 5, 9} {
		require.NoError(t, store.Sample(t.Context(), db, position, false))
	}
	exec(t, pool, `UPDATE orchestrator_samples SET sampled_at = now() - '1 hour'::interval WHERE position = 5`)
	samples, err := store.Samples(t.Context(), db, time.Minute)
	require.NoError(t, err)
	require.Len(t, samples, 2)
	assert.Equal(t, int64(5), samples[0].Position)
	assert.InDelta(t, time.Minute-time.Hour, samples[0].At, float64(10*time.Second))
	assert.InDelta(t, time.Minute, samples[1].At, float64(10*time.Second))

	require.NoError(t, store.Sample(t.Context(), db, 7, false)) // the stream was set back
	samples, err = store.Samples(t.Context(), db, 0)
	require.NoError(t, err)
	require.Len(t, samples, 2)
	assert.Equal(t, int64(7), samples[1].Position)
}

// The table stays small, and what is old is known less exactly.
func TestSamplesAreThinned(t *testing.T) {
	t.Parallel()
	store, pool := newStore(t)
	db := dbguard.New(pool).InTransactions()
	exec(t, pool, `INSERT INTO orchestrator_samples (replica_set, position, sampled_at)
		SELECT r, i, now() - make_interval(secs => 5 * (20000 - i)) FROM generate_series(1, 20000) AS i, unnest('{main,other}'::text[]) AS r`)
	exec(t, pool, `INSERT INTO orchestrator_samples (replica_set, position, sampled_at) VALUES ('main', 0, now() - '31 days'::interval)`)
	for range 15 {
		require.NoError(t, store.Sample(t.Context(), db, 20001, true))
	}
	samples, err := store.Samples(t.Context(), db, 0)
	require.NoError(t, err)
	assert.Less(t, len(samples), 400)
	assert.NotZero(t, samples[0].Position, "nothing is kept for longer than 30 days")
	for i, s := range samples[1:] {
		age := -s.At
		assert.Less(t, s.At-samples[i].At, age/4+15*time.Second, "before a sample of an age of %s", age)
	}
	others, err := open(t, pool, "other").Samples(t.Context(), db, 0)
	require.NoError(t, err)
	assert.Len(t, others, mostSamples, "those of others stay")
}

func TestSurvey(t *testing.T) {
	t.Parallel()
	store, pool := newStore(t)
	worker := join(t, store, pool, "owned")
	exec(t, pool, `DELETE FROM orchestrator_checkpoints`)
	exec(t, pool, `INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, position, replica_set, events_table, generation, worker_id, partition_key, total_partitions)
		VALUES ('owned', 0, 65536, 0, 'main', 'public.events', 1, $1, 0, 1), ('of another', 0, 65536, 0, 'other', 'public.events', 1, $1, 0, 1),
		       ('half', 0, 32768, 0, 'main', 'public.events', 1, $1, 0, 2), ('half', 32768, 65536, 0, 'main', 'public.events', 1, NULL::uuid, NULL::int, NULL::int)`, worker)
	db := dbguard.New(pool).InTransactions()
	unowned, requests, err := store.Survey(t.Context(), db)
	require.NoError(t, err)
	assert.Equal(t, map[string]int{"owned": 0, "half": 32768}, unowned)
	assert.Empty(t, requests)
	exec(t, pool, `UPDATE orchestrator_workers SET state = 'dead'`)
	unowned, _, err = store.Survey(t.Context(), db)
	require.NoError(t, err)
	assert.Equal(t, map[string]int{"owned": 65536, "half": 65536}, unowned)
}
