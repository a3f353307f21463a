package pgcoord

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// heirs is a replica set of two workers, each with half of the projections "letters" and "orders", both at position 10.
func heirs(t *testing.T) (owner, []uuid.UUID) {
	t.Helper()
	o := newOwner(t)
	workers := []uuid.UUID{join(t, o.Store, o.pool, "letters", "orders"), join(t, o.Store, o.pool, "letters", "orders")}
	o.fence.Generation = generation(t, o.Store, o.pool, o.fence.Generation, workers...)
	exec(t, o.pool, `UPDATE orchestrator_checkpoints SET position = 10`)
	return o, workers
}

// next is the next generation, and what was noticed.
func (o owner) next(t *testing.T, workers ...uuid.UUID) (noticed []string) {
	t.Helper()
	number := prepare(t, o.Store, o.pool, o.fence.Generation)
	for _, w := range workers {
		setState(t, o.Store, o.pool, w, replicaset.Ready, number)
	}
	activated, err := o.Activate(t.Context(), o.pool, replicaset.Activation{Number: number}, nil)
	require.NoError(t, err)
	require.True(t, activated.Active)
	for _, change := range activated.Noticed {
		noticed = append(noticed, change.String())
	}
	o.fence.Generation = number
	reason := value[string](t, o.pool, `SELECT reason FROM orchestrator_generations WHERE number = $1`, number)
	for _, what := range noticed {
		assert.Contains(t, reason, what)
	}
	return noticed
}

// standing is the checkpoints of a projection, with their owners.
func (o owner) standing(t *testing.T, projection string) string {
	t.Helper()
	return value[string](t, o.pool, `SELECT coalesce(string_agg(format('%s-%s at %s of %s', slot_from, slot_to, position,
		coalesce(right(worker_id::text, 8), 'nobody')), ', ' ORDER BY slot_from), '') FROM orchestrator_checkpoints
		WHERE projection = $1 AND replica_set = 'main'`, projection)
}

// Each owner of a deleted checkpoint notices with its next batch, unless it leaves before.
func TestDeletedCheckpointsBeginAgain(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ gone, noticed, orders string }{
		"all": {
			`true`, `checkpoints of projection "orders" were deleted: the slots [[0,65536)] begin again at position 0`,
			"0-65536 at 0 of ",
		},
		"the first": {
			`slot_from = 0`, `checkpoints of projection "orders" were deleted: the slots [[0,32768)] begin again at position 0`,
			"0-32768 at 0 of WORKER, 32768-65536 at 10 of ",
		},
		"the last": {
			`slot_to = 65536`, `checkpoints of projection "orders" were deleted: the slots [[32768,65536)] begin again at position 0`,
			"0-32768 at 10 of WORKER, 32768-65536 at 0 of ",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, workers := heirs(t)
			exec(t, o.pool, `DELETE FROM orchestrator_checkpoints WHERE projection = 'orders' AND `+tt.gone)
			left := workers[0]
			require.NoError(t, o.Stop(t.Context(), o.pool, workers[1], "left"))
			assert.Equal(t, []string{tt.noticed}, o.next(t, left))
			assert.Equal(t, strings.ReplaceAll(tt.orders, "WORKER", shortID(left))+shortID(left), o.standing(t, "orders"))
			assert.Equal(t, "0-65536 at 10 of "+shortID(left), o.standing(t, "letters"), "the other keeps its position")
		})
	}
}

// Somebody changes rows in a transaction that an activation has to wait for.
func TestActivationWaitsForAChangeByHand(t *testing.T) {
	t.Parallel()
	const remove = `DELETE FROM orchestrator_checkpoints WHERE projection = 'orders'`
	const enter = `INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, position, replica_set, events_table)
		VALUES ('orders', 0, 65536, 7, 'main', 'public.events')`
	tests := map[string]struct {
		changes []string
		fails   bool // at the first try
		orders  string
	}{
		"deleted":             {[]string{remove}, false, "0-65536 at 0 of "},
		"deleted and entered": {[]string{remove, enter}, true, "0-65536 at 7 of "},
		"moved":               {[]string{`UPDATE orchestrator_checkpoints SET replica_set = 'other' WHERE projection = 'orders'`}, false, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, workers := heirs(t)
			number := prepare(t, o.Store, o.pool, o.fence.Generation)
			setState(t, o.Store, o.pool, workers[0], replicaset.Ready, number)
			change, err := o.pool.Begin(t.Context())
			require.NoError(t, err)
			defer func() { _ = change.Rollback(context.Background()) }()
			for _, sql := range tt.changes {
				exec(t, change, sql)
			}
			activation := activating(o.Store, o.pool, replicaset.Activation{Number: number})
			awaitBlockedBy(t, o.pool, change.Conn().PgConn().PID())
			require.NoError(t, change.Commit(t.Context()))
			err = await(t, activation, "the activation").err
			if tt.fails {
				require.Equal(t, "23505", sqlState(err), "what was entered meanwhile is not overwritten: %v", err)
				_, err = o.Activate(t.Context(), o.pool, replicaset.Activation{Number: number}, nil)
			}
			require.NoError(t, err)
			if tt.orders != "" {
				tt.orders += shortID(workers[0])
			}
			assert.Equal(t, tt.orders, o.standing(t, "orders"))
			assert.Equal(t, "0-65536 at 10 of "+shortID(workers[0]), o.standing(t, "letters"))
		})
	}
}

// A look shows a running worker which projections are not as the generation has divided them.
func TestObserveShowsWhatContradictsTheGeneration(t *testing.T) {
	t.Parallel()
	const release = `UPDATE orchestrator_checkpoints SET worker_id = NULL, partition_key = NULL, total_partitions = NULL WHERE projection = 'orders'`
	tests := map[string]struct {
		changes       []string
		contradicting []string
	}{
		"nothing":                    {nil, nil},
		"all rows":                   {[]string{`DELETE FROM orchestrator_checkpoints WHERE projection = 'orders'`}, []string{"orders"}},
		"a row of both":              {[]string{`DELETE FROM orchestrator_checkpoints WHERE slot_from = 0`}, []string{"letters", "orders"}},
		"a generation":               {[]string{`UPDATE orchestrator_checkpoints SET generation = 0 WHERE projection = 'orders' AND slot_from = 0`}, []string{"orders"}},
		"an owner":                   {[]string{`UPDATE orchestrator_checkpoints SET worker_id = gen_random_uuid() WHERE projection = 'orders' AND slot_from > 0`}, []string{"orders"}},
		"nobody's":                   {[]string{release}, []string{"orders"}},
		"moved":                      {[]string{`UPDATE orchestrator_checkpoints SET replica_set = 'other' WHERE projection = 'orders'`}, []string{"orders"}},
		"moved in part":              {[]string{`UPDATE orchestrator_checkpoints SET replica_set = 'other' WHERE projection = 'orders' AND slot_from = 0`}, []string{"orders"}},
		"moved and given up":         {[]string{`UPDATE orchestrator_checkpoints SET replica_set = 'other', generation = 0 WHERE projection = 'orders'`}, nil},
		"moved in part and given up": {[]string{release, `UPDATE orchestrator_checkpoints SET replica_set = 'other' WHERE projection = 'orders' AND slot_from = 0`}, nil},
		"left out":                   {[]string{release, `UPDATE orchestrator_workers SET left_out = '{orders,NULL}'`}, nil},
		"another's projection":       {[]string{`DELETE FROM orchestrator_checkpoints WHERE projection = 'orders'`, `UPDATE orchestrator_workers SET projections = '{letters}'`}, nil},
		"the worker is ready":        {[]string{release, `UPDATE orchestrator_workers SET state = 'ready'`}, nil},
		"in preparation":             {[]string{release, `UPDATE orchestrator_generations SET state = 'preparing', activated_at = NULL WHERE state = 'active'`}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, workers := heirs(t)
			for _, w := range workers {
				setState(t, o.Store, o.pool, w, replicaset.Running, o.fence.Generation)
			}
			for _, sql := range tt.changes {
				exec(t, o.pool, sql)
			}
			for _, w := range workers {
				v, err := o.Observe(t.Context(), o.pool, w, false)
				require.NoError(t, err)
				assert.Equal(t, tt.contradicting, v.Contradicting)
			}
		})
	}
}

func TestProjectionThatWasMovedStopsNobody(t *testing.T) {
	t.Parallel()
	for name, moved := range map[string]string{"all of it": `true`, "a part of it": `slot_from = 0`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, workers := heirs(t)
			exec(t, o.pool, `UPDATE orchestrator_checkpoints SET replica_set = 'other' WHERE projection = 'orders' AND `+moved)
			assert.Equal(t, []string{`projection "orders" has checkpoints in replica set "other": no worker of this one handles it`}, o.next(t, workers...))
			assert.Equal(t, 0, value[int](t, o.pool, `SELECT count(*) FROM orchestrator_checkpoints WHERE projection = 'orders' AND replica_set = 'main'
				AND worker_id IS NOT NULL`))
			assert.Equal(t, 65536, value[int](t, o.pool, `SELECT sum(slot_to - slot_from) FROM orchestrator_checkpoints WHERE projection = 'orders' AND position = 10`))
			assert.Equal(t, 2, value[int](t, o.pool, `SELECT count(DISTINCT worker_id) FROM orchestrator_checkpoints WHERE projection = 'letters'`))
		})
	}
}

// What a worker of another kind has handled must not be handled again because a person forgot its checkpoint.
func TestEnteredCheckpointsMustBeComplete(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	exec(t, pool, `INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, position, replica_set, events_table)
		VALUES ('orders', 100, 32768, 5, 'main', 'public.events')`)
	require.NoError(t, s.Claim(t.Context(), pool, []string{"letters", "orders"}))
	err := s.CheckEntered(t.Context(), pool, []string{"letters", "orders"})
	require.ErrorIs(t, err, ErrCheckpointsIncomplete)
	assert.ErrorContains(t, err, `projection "orders" has none of the slots [[0,100) [32768,65536)]`)

	exec(t, pool, `INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, position, replica_set, events_table)
		VALUES ('orders', 0, 100, 0, 'main', 'public.events'), ('orders', 32768, 65536, 0, 'main', 'public.events')`)
	require.NoError(t, s.CheckEntered(t.Context(), pool, []string{"letters", "orders"}))

	w := join(t, s, pool, "orders")
	generation(t, s, pool, 0, w)
	exec(t, pool, `DELETE FROM orchestrator_checkpoints WHERE projection = 'orders' AND slot_from = 0`)
	require.NoError(t, s.CheckEntered(t.Context(), pool, []string{"orders"}), "what was divided before is repaired")
}
