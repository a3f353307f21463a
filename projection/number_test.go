package projection_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// runAll runs all processors of a number of partitions until the read model has n rows and each partition has its rows.
func runAll(t *testing.T, pool *pgxpool.Pool, store *eventstore.Store, total, n int) {
	t.Helper()
	runAllTo(t, pool, store, total, n, 0)
}

// runAllTo is runAll that also waits until each row has reached a position.
func runAllTo(t *testing.T, pool *pgxpool.Pool, store *eventstore.Store, total, n int, position int64) {
	t.Helper()
	var stops []func() error
	for k := range total {
		config := configFor(pool, store, recorder("orders"))
		config.PartitionKey, config.TotalPartitions, config.BatchSize = k, total, 7
		stops = append(stops, start(t, config))
	}
	eventually(t, pool, n)
	require.Eventually(t, func() bool {
		rows := rowsOf(t, pool)
		for _, reached := range rows {
			if reached < position {
				return false
			}
		}
		return partitions(rows, total) == total
	}, patience, tick)
	for _, stop := range stops {
		require.NoError(t, stop())
	}
}

// partitions is how many partitions of a number have rows.
func partitions(rows map[string]int64, total int) int {
	count := 0
	for k := range total {
		prefix := fmt.Sprintf("orders[%d/%d", k, total)
		for name := range rows {
			if strings.HasPrefix(name, prefix) || total == 1 && name == "orders" {
				count++
				break
			}
		}
	}
	return count
}

// rowsOf are the rows of the checkpoints table.
func rowsOf(t *testing.T, pool *pgxpool.Pool) map[string]int64 {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT projection_name, last_global_position FROM projection_checkpoints`)
	require.NoError(t, err)
	defer rows.Close()
	found := map[string]int64{}
	for rows.Next() {
		var name string
		var position int64
		require.NoError(t, rows.Scan(&name, &position))
		found[name] = position
	}
	require.NoError(t, rows.Err())
	return found
}

// setBase enters the row without partition, at the lowest position of all, as people do.
func setBase(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	_, err := pool.Exec(t.Context(), `INSERT INTO projection_checkpoints (projection_name, last_global_position)
		SELECT 'orders', min(last_global_position) FROM projection_checkpoints
		ON CONFLICT (projection_name) DO UPDATE SET last_global_position = EXCLUDED.last_global_position`)
	require.NoError(t, err)
}

func TestProcessorsOfAnotherNumberGoOnFromEveryPosition(t *testing.T) {
	for name, between := range map[string]func(*testing.T, *pgxpool.Pool){
		"nothing in between":                          func(*testing.T, *pgxpool.Pool) {},
		"the row without partition set to the lowest": setBase,
	} {
		t.Run(name, func(t *testing.T) {
			pool, store := newStore(t)
			var want []int64
			for i, total := range []int{3, 2, 3, 1, 4} {
				want = append(want, appendEvents(t, pool, store, fmt.Sprint("Order", i), 40)...)
				runAll(t, pool, store, total, len(want))
				got := handledPositions(t, pool)
				slices.Sort(got)
				require.Equal(t, want, got, "%d partitions", total)
				rows := rowsOf(t, pool)
				assert.Len(t, rows, total)
				between(t, pool)
			}
		})
	}
}

// All events are of one aggregate, so the other partitions have none.
func TestPartitionsWithoutEventsStayBehindNobody(t *testing.T) {
	pool, store := newStore(t)
	var want []int64
	for range 30 {
		want = append(want, appendEvents(t, pool, store, "Order", 1)...)
	}
	runAllTo(t, pool, store, 3, len(want), want[29])
	setBase(t, pool)
	want = append(want, appendEvents(t, pool, store, "Order", 1)...)
	runAll(t, pool, store, 2, len(want))
	assert.Equal(t, want, handledPositions(t, pool))
}

// A processor that is stopped right after an append looks at it, and writes how far it has looked. All events are of one aggregate, so two partitions have none.
func TestAStopWritesHowFarTheStreamWasLookedThrough(t *testing.T) {
	pool, store := newStore(t)
	last := appendEvents(t, pool, store, "Order", 30)[29]
	complete := 0
	for k := range 3 {
		config := configFor(pool, store, recorder("orders"))
		config.PartitionKey, config.TotalPartitions = k, 3
		stop := start(t, config)
		row := fmt.Sprintf("orders[%d/3]", k)
		require.Eventually(t, func() bool { return rowsOf(t, pool)[row] == last }, patience, tick)
		last = appendEvents(t, pool, store, "Order", 1)[0]
		require.NoError(t, stop())
		if rowsOf(t, pool)[row] == last {
			complete++
		}
	}
	assert.GreaterOrEqual(t, complete, 2)
}

// Only one partition of three was run, and some events are appended after it has stopped.
func TestUnequalPartitionsRepeatNothing(t *testing.T) {
	pool, store := newStore(t)
	want := appendEvents(t, pool, store, "Order", 40)
	config := configFor(pool, store, recorder("orders"))
	config.PartitionKey, config.TotalPartitions = 1, 3
	stop := start(t, config)
	require.Eventually(t, func() bool { return checkpointOf(t, pool, "orders[1/3]") == want[39] }, patience, tick)
	require.NoError(t, stop())
	handled := len(handledPositions(t, pool))
	require.Positive(t, handled)
	require.Less(t, handled, 40)
	want = append(want, appendEvents(t, pool, store, "User", 20)...)
	runAll(t, pool, store, 2, len(want))
	got := handledPositions(t, pool)
	slices.Sort(got)
	assert.Equal(t, want, got)

	stop = start(t, configFor(pool, store, recorder("orders")))
	require.Eventually(t, func() bool { return len(rowsOf(t, pool)) == 1 }, patience, tick, "the rows have met and are not joined")
	require.NoError(t, stop())
	assert.Equal(t, map[string]int64{"orders": want[len(want)-1]}, rowsOf(t, pool))
}

func TestProcessorOfTheNumberBeforeEnds(t *testing.T) {
	pool, store := newStore(t)
	want := appendEvents(t, pool, store, "Order", 20)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- projection.NewPostgresProcessor(configFor(pool, store, recorder("orders"))).Run(ctx) }()
	eventually(t, pool, len(want))
	for k := range 2 {
		config := configFor(pool, store, recorder("orders"))
		config.PartitionKey, config.TotalPartitions = k, 2
		start(t, config)
	}
	require.ErrorIs(t, <-done, projection.ErrCheckpointGone)
	want = append(want, appendEvents(t, pool, store, "User", 20)...)
	got := eventually(t, pool, len(want))
	slices.Sort(got)
	assert.Equal(t, want, got)
}

func TestCheckpointsThatContradictAreRefused(t *testing.T) {
	pool, store := newStore(t)
	positions := appendEvents(t, pool, store, "Order", 10)
	_, err := pool.Exec(t.Context(), `INSERT INTO projection_checkpoints VALUES ('orders[0/2]', $1), ('orders[0/3]', $2)`, positions[3], positions[5])
	require.NoError(t, err)
	err = untilError(t, configFor(pool, store, recorder("orders")))
	require.ErrorIs(t, err, projection.ErrCheckpointsContradict)
	assert.ErrorContains(t, err, `"orders[0/2]"`)
	assert.Empty(t, handledPositions(t, pool))
}

func TestCheckpointBelow0IsRefused(t *testing.T) {
	pool, store := newStore(t)
	_, err := pool.Exec(t.Context(), `INSERT INTO projection_checkpoints VALUES ('orders', -1)`)
	require.NoError(t, err)
	assert.ErrorContains(t, untilError(t, configFor(pool, store, recorder("orders"))), "is at -1: positions begin at 0")
}

// Releases before this one left the row without partition where it was. It is not gone back to, and the role needs no right to delete
// rows as long as the number stays.
func TestARowThatOnePartitionHasLeftBehindRepeatsNothing(t *testing.T) {
	pool, store := newStore(t)
	want := appendEvents(t, pool, store, "Order", 40)
	runAll(t, pool, store, 2, len(want))
	execute(t, pool, `INSERT INTO projection_checkpoints VALUES ('orders', $1)`, want[9])
	want = append(want, appendEvents(t, pool, store, "User", 10)...)
	runAll(t, pool, store, 2, len(want))
	assert.NotContains(t, rowsOf(t, pool), "orders")
	want = append(want, appendEvents(t, pool, store, "Cart", 10)...)
	runAll(t, pool, store, 1, len(want))
	got := handledPositions(t, pool)
	slices.Sort(got)
	assert.Equal(t, want, got)
}

func TestTheRoleNeedsToDeleteOnlyForAnotherNumber(t *testing.T) {
	pool, store := newStore(t)
	app := newRole(t, pool)
	execute(t, pool, `REVOKE DELETE ON projection_checkpoints FROM `+app.Config().ConnConfig.User)
	positions := appendEvents(t, pool, store, "Order", 5)
	for range 2 {
		stop := start(t, configFor(app, store, recorder("orders")))
		require.Eventually(t, func() bool { return checkpointOf(t, pool, "orders") == positions[4] }, patience, tick)
		require.NoError(t, stop())
	}
	config := configFor(app, store, recorder("orders"))
	config.TotalPartitions = 2
	assert.ErrorContains(t, untilError(t, config), "the role needs DELETE on the table")
	assert.Equal(t, map[string]int64{"orders": positions[4]}, rowsOf(t, pool))
}
