package replicaset

import (
	"cmp"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// workerIDs are ids in ascending order.
func workerIDs(n int) []uuid.UUID {
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = uuid.UUID{0: 1, 15: byte(i + 1)}
	}
	return ids
}

// claimed is the checkpoints of projections that nobody has handled yet.
func claimed(projections ...string) []Checkpoint {
	rows := make([]Checkpoint, len(projections))
	for i, p := range projections {
		rows[i] = Checkpoint{Projection: p, Piece: slot.Piece{Range: slot.All()}}
	}
	return rows
}

// positions is the position of every slot of a projection, which all have one: the ranges between which it differs, in order.
func positions(t require.TestingT, rows []Checkpoint, projection string) []slot.Piece {
	rows = slices.DeleteFunc(slices.Clone(rows), func(row Checkpoint) bool { return row.Projection != projection })
	slices.SortFunc(rows, func(a, b Checkpoint) int { return cmp.Compare(a.From, b.From) })
	var all []slot.Piece
	at := 0
	for _, row := range rows {
		require.Equal(t, at, row.From, "a slot of %s is not covered, or twice", projection)
		require.Less(t, row.From, row.To)
		if last := len(all) - 1; last >= 0 && all[last].Position == row.Position {
			all[last].To = row.To
		} else {
			all = append(all, row.Piece)
		}
		at = row.To
	}
	require.Equal(t, slot.Count, at, "the last slots of %s are not covered", projection)
	return all
}

func TestPlanKeepsEverySlotsPosition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ids := workerIDs(9)
		rows := claimed("a", "b", "z")
		for range rapid.IntRange(1, 8).Draw(t, "generations") {
			var members []Member
			for _, id := range ids {
				if !rapid.Bool().Draw(t, "lives") {
					continue
				}
				m := Member{ID: id, Partitions: rapid.IntRange(1, 3).Draw(t, "partitions")}
				m.Projections = rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "z"}), rapid.ID).Draw(t, "projections")
				if slices.Contains(m.Projections, "z") {
					m.Unpartitioned = []string{"z"}
				}
				members = append(members, m)
			}
			planned, err := Plan(rows, members)
			require.NoError(t, err)
			for _, p := range []string{"a", "b", "z"} {
				require.True(t, slices.Equal(positions(t, rows, p), positions(t, planned, p)), "a slot of %s was moved", p)
			}
			checkOwners(t, planned, members)
			rows = planned
			for i := range rows { // some partitions get ahead
				if rapid.Bool().Draw(t, "advances") {
					rows[i].Position += rapid.Int64Range(0, 50).Draw(t, "events")
				}
			}
		}
	})
}

// checkOwners says whether each projection is shared by exactly those who run
// it, each partition whole and with one owner.
func checkOwners(t *rapid.T, planned []Checkpoint, members []Member) {
	for _, row := range planned {
		at := slices.IndexFunc(members, func(m Member) bool { return m.ID == row.Owner })
		if at < 0 {
			require.Equal(t, uuid.Nil, row.Owner)
			require.False(t, slices.ContainsFunc(members, func(m Member) bool { return m.runs(row.Projection) }), "%s has nobody although somebody runs it", row.Projection)
			continue
		}
		require.True(t, members[at].runs(row.Projection))
		require.True(t, row.Partition.Valid())
		require.GreaterOrEqual(t, row.From, row.Partition.Range().From)
		require.LessOrEqual(t, row.To, row.Partition.Range().To)
		if row.Projection == "z" {
			require.Equal(t, 1, row.Partition.Total)
		}
	}
	for _, m := range members {
		for _, p := range m.Projections {
			if p == "z" {
				continue
			}
			keys := map[int]bool{}
			for _, row := range planned {
				if row.Projection == p && row.Owner == m.ID {
					keys[row.Partition.Key] = true
				}
			}
			require.Len(t, keys, m.Partitions, "worker %v has not its share of %s", m.ID, p)
		}
	}
}

func TestPlanLetsWorkersKeepTheirPartitions(t *testing.T) {
	t.Parallel()
	ids := workerIDs(4)
	member := func(i int) Member {
		return Member{ID: ids[i], Projections: []string{"a", "b"}, Partitions: 1}
	}
	keyOf := func(rows []Checkpoint, projection string, id uuid.UUID) int {
		i := slices.IndexFunc(rows, func(c Checkpoint) bool { return c.Projection == projection && c.Owner == id })
		require.GreaterOrEqual(t, i, 0)
		return rows[i].Partition.Key
	}
	three, err := Plan(claimed("a", "b"), []Member{member(1), member(2), member(3)})
	require.NoError(t, err)
	require.Equal(t, []int{0, 1, 2}, []int{keyOf(three, "a", ids[1]), keyOf(three, "a", ids[2]), keyOf(three, "a", ids[3])})

	// A fourth joins whose id is the least: it gets the number that is free.
	four, err := Plan(three, []Member{member(0), member(1), member(2), member(3)})
	require.NoError(t, err)
	for _, projection := range []string{"a", "b"} {
		require.Equal(t, []int{3, 0, 1, 2}, []int{
			keyOf(four, projection, ids[0]), keyOf(four, projection, ids[1]),
			keyOf(four, projection, ids[2]), keyOf(four, projection, ids[3]),
		})
	}

	// The owner of 1/4 goes: 3/4 is no more, so its owner takes over the number.
	left, err := Plan(four, []Member{member(0), member(1), member(3)})
	require.NoError(t, err)
	require.Equal(t, []int{1, 0, 2}, []int{keyOf(left, "a", ids[0]), keyOf(left, "a", ids[1]), keyOf(left, "a", ids[3])})
}

func TestPlanSpreadsUndividedProjections(t *testing.T) {
	t.Parallel()
	ids := workerIDs(2)
	all := []string{"p", "q", "r", "s"}
	members := []Member{
		{ID: ids[0], Projections: all, Unpartitioned: all, Partitions: 4},
		{ID: ids[1], Projections: all, Unpartitioned: all, Partitions: 1},
	}
	planned, err := Plan(claimed(all...), members)
	require.NoError(t, err)
	owned := map[uuid.UUID]int{}
	for _, row := range planned {
		owned[row.Owner]++
		require.Equal(t, slot.Partition{Key: 0, Total: 1}, row.Partition)
	}
	require.Equal(t, map[uuid.UUID]int{ids[0]: 2, ids[1]: 2}, owned)

	again, err := Plan(planned, members)
	require.NoError(t, err)
	require.Equal(t, planned, again, "an owner keeps what it has")
}

func TestPlanRefusesBrokenCheckpoints(t *testing.T) {
	t.Parallel()
	rows := []Checkpoint{{Projection: "a", Piece: slot.Piece{Range: slot.Range{From: 0, To: 100}}}}
	_, err := Plan(rows, []Member{{ID: workerIDs(1)[0], Projections: []string{"a"}, Partitions: 1}})
	require.ErrorContains(t, err, `projection "a"`)
	require.ErrorContains(t, err, "slot 100")
}

func TestCompareTouchesOnlyWhatChanges(t *testing.T) {
	t.Parallel()
	ids := workerIDs(2)
	one, err := Plan(claimed("a"), []Member{{ID: ids[0], Projections: []string{"a"}, Partitions: 1}})
	require.NoError(t, err)
	gone, kept, added := Compare(claimed("a"), one)
	require.Empty(t, gone)
	require.Empty(t, added)
	require.Len(t, kept, 1)

	two, err := Plan(one, []Member{
		{ID: ids[0], Projections: []string{"a"}, Partitions: 1},
		{ID: ids[1], Projections: []string{"a"}, Partitions: 1},
	})
	require.NoError(t, err)
	gone, kept, added = Compare(one, two)
	require.Len(t, gone, 1)
	require.Empty(t, kept)
	require.Len(t, added, 2)
}
