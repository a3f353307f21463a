package slot_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

func piece(from, to int, position int64) slot.Piece {
	return slot.Piece{Range: slot.Range{From: from, To: to}, Position: position}
}

func TestRangeContains(t *testing.T) {
	r := slot.Range{From: 10, To: 20}
	for s, want := range map[int]bool{9: false, 10: true, 19: true, 20: false} {
		assert.Equal(t, want, r.Contains(s), "slot %d", s)
	}
	assert.Equal(t, 10, r.Len())
	assert.Equal(t, "[10,20)", r.String())
}

func TestRangeValid(t *testing.T) {
	tests := map[slot.Range]bool{
		{From: 0, To: slot.Count}:              true,
		{From: slot.Count - 1, To: slot.Count}: true,
		{From: 0, To: 1}:                       true,
		{From: 5, To: 5}:                       false,
		{From: 6, To: 5}:                       false,
		{From: -1, To: 5}:                      false,
		{From: 5, To: slot.Count + 1}:          false,
	}
	for r, want := range tests {
		assert.Equal(t, want, r.Valid(), "%v", r)
	}
	assert.True(t, slot.All().Valid())
	assert.Equal(t, 65536, slot.All().Len())
}

func TestRangeIntersect(t *testing.T) {
	tests := map[string]struct {
		a, b, want slot.Range
		ok         bool
	}{
		"overlap":  {slot.Range{From: 0, To: 10}, slot.Range{From: 5, To: 15}, slot.Range{From: 5, To: 10}, true},
		"inside":   {slot.Range{From: 0, To: 10}, slot.Range{From: 3, To: 4}, slot.Range{From: 3, To: 4}, true},
		"touching": {slot.Range{From: 0, To: 10}, slot.Range{From: 10, To: 20}, slot.Range{}, false},
		"apart":    {slot.Range{From: 0, To: 10}, slot.Range{From: 11, To: 20}, slot.Range{}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := tt.a.Intersect(tt.b)
			require.Equal(t, tt.ok, ok)
			mirrored, mirroredOK := tt.b.Intersect(tt.a)
			require.Equal(t, tt.ok, mirroredOK)
			if tt.ok {
				assert.Equal(t, tt.want, got)
				assert.Equal(t, tt.want, mirrored)
			}
		})
	}
}

func TestPartitionRange(t *testing.T) {
	tests := map[slot.Partition]slot.Range{
		{Key: 0, Total: 1}:                       slot.All(),
		{Key: 0, Total: 2}:                       {From: 0, To: 32768},
		{Key: 1, Total: 2}:                       {From: 32768, To: 65536},
		{Key: 0, Total: 3}:                       {From: 0, To: 21845},
		{Key: 1, Total: 3}:                       {From: 21845, To: 43690},
		{Key: 2, Total: 3}:                       {From: 43690, To: 65536},
		{Key: slot.Count - 1, Total: slot.Count}: {From: 65535, To: 65536},
	}
	for p, want := range tests {
		assert.Equal(t, want, p.Range(), "%v", p)
	}
}

func TestPartitionValid(t *testing.T) {
	tests := map[slot.Partition]bool{
		{Key: 0, Total: 1}:              true,
		{Key: 2, Total: 3}:              true,
		{Key: 0, Total: slot.Count}:     true,
		{Key: 3, Total: 3}:              false,
		{Key: -1, Total: 3}:             false,
		{Key: 0, Total: 0}:              false,
		{Key: 0, Total: slot.Count + 1}: false,
	}
	for p, want := range tests {
		assert.Equal(t, want, p.Valid(), "%v", p)
	}
	assert.Equal(t, "2/3", slot.Partition{Key: 2, Total: 3}.String())
}

func TestLowest(t *testing.T) {
	assert.Equal(t, int64(0), slot.Lowest(nil))
	assert.Equal(t, int64(4), slot.Lowest([]slot.Piece{piece(0, 1, 9), piece(1, 2, 4), piece(2, 3, 7)}))
}

func TestAdvance(t *testing.T) {
	pieces := []slot.Piece{piece(0, 10, 5), piece(10, 20, 8), piece(20, 30, 9)}
	assert.Equal(t, []slot.Piece{piece(0, 10, 8), piece(10, 20, 8), piece(20, 30, 9)}, slot.Advance(pieces, 8))
	assert.Equal(t, int64(5), pieces[0].Position, "the argument keeps its positions")
	assert.Empty(t, slot.Advance(nil, 8))
}

func TestRecut(t *testing.T) {
	const half, third, twoThirds = 32768, 21845, 43690
	tests := map[string]struct {
		pieces []slot.Piece
		total  int
		want   [][]slot.Piece
	}{
		"one piece into two": {
			[]slot.Piece{piece(0, slot.Count, 7)},
			2,
			[][]slot.Piece{{piece(0, half, 7)}, {piece(half, slot.Count, 7)}},
		},
		"two into three keep their positions": {
			[]slot.Piece{piece(0, half, 7), piece(half, slot.Count, 9)},
			3,
			[][]slot.Piece{
				{piece(0, third, 7)},
				{piece(third, half, 7), piece(half, twoThirds, 9)},
				{piece(twoThirds, slot.Count, 9)},
			},
		},
		"equal neighbours are joined": {
			[]slot.Piece{piece(0, half, 7), piece(half, slot.Count, 7)},
			1,
			[][]slot.Piece{{piece(0, slot.Count, 7)}},
		},
		"neighbours of two partitions stay apart": {
			[]slot.Piece{piece(0, slot.Count, 7)},
			3,
			[][]slot.Piece{{piece(0, third, 7)}, {piece(third, twoThirds, 7)}, {piece(twoThirds, slot.Count, 7)}},
		},
		"the order of the argument does not matter": {
			[]slot.Piece{piece(half, slot.Count, 9), piece(0, half, 7)},
			1,
			[][]slot.Piece{{piece(0, half, 7), piece(half, slot.Count, 9)}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := slot.Recut(tt.pieces, tt.total)
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestRecutRefuses(t *testing.T) {
	all := []slot.Piece{piece(0, slot.Count, 1)}
	tests := map[string]struct {
		pieces []slot.Piece
		total  int
		says   string
	}{
		"no pieces":          {nil, 2, "no checkpoint covers slot 0"},
		"a gap at the start": {[]slot.Piece{piece(3, slot.Count, 1)}, 2, "no checkpoint covers slot 0"},
		"a gap between":      {[]slot.Piece{piece(0, 10, 1), piece(11, slot.Count, 1)}, 2, "no checkpoint covers slot 10"},
		"a gap at the end":   {[]slot.Piece{piece(0, 65535, 1)}, 2, "no checkpoint covers slot 65535"},
		"an overlap":         {[]slot.Piece{piece(0, 10, 1), piece(9, slot.Count, 1)}, 2, "two checkpoints cover slot 9"},
		"a repetition":       {append(all, all...), 2, "two checkpoints cover slot 0"},
		"an empty range":     {[]slot.Piece{piece(0, 10, 1), piece(10, 10, 1), piece(10, slot.Count, 1)}, 2, "the range [10,10) is empty"},
		"a reversed range":   {[]slot.Piece{piece(0, slot.Count, 1), piece(20, 10, 1)}, 2, "the range [20,10) is empty"},
		"below the slots":    {[]slot.Piece{piece(-1, slot.Count, 1)}, 2, "outside [0,65536)"},
		"above the slots":    {[]slot.Piece{piece(0, slot.Count+1, 1)}, 2, "outside [0,65536)"},
		"no partitions":      {all, 0, "between 1 and 65536, got 0"},
		"negative total":     {all, -3, "got -3"},
		"more than slots":    {all, slot.Count + 1, "got 65537"},
		"absurdly many":      {all, math.MaxInt, "between 1 and 65536"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := slot.Recut(tt.pieces, tt.total)
			require.ErrorContains(t, err, tt.says)
			assert.Nil(t, got)
		})
	}
}

func TestRecutIntoEverySlot(t *testing.T) {
	cut, err := slot.Recut([]slot.Piece{piece(0, 100, 3), piece(100, slot.Count, 4)}, slot.Count)
	require.NoError(t, err)
	require.Len(t, cut, slot.Count)
	assert.Equal(t, []slot.Piece{piece(99, 100, 3)}, cut[99])
	assert.Equal(t, []slot.Piece{piece(100, 101, 4)}, cut[100])
	assert.Equal(t, []slot.Piece{piece(65535, 65536, 4)}, cut[65535])
}

func TestLevel(t *testing.T) {
	half := slot.Count / 2
	a := []slot.Piece{piece(0, half, 5), piece(half, slot.Count, 7)}
	for name, test := range map[string]struct {
		b    []slot.Piece
		want bool
	}{
		"alike":             {a, true},
		"cut otherwise":     {[]slot.Piece{piece(half, half+9, 7), piece(half+9, slot.Count, 7), piece(0, 1, 5), piece(1, half, 5)}, true},
		"behind":            {[]slot.Piece{piece(0, half, 4), piece(half, slot.Count, 7)}, false},
		"ahead":             {[]slot.Piece{piece(0, half, 5), piece(half, slot.Count, 8)}, false},
		"other at one slot": {[]slot.Piece{piece(0, half+1, 5), piece(half+1, slot.Count, 7)}, false},
		"the same sum":      {[]slot.Piece{piece(0, half, 7), piece(half, slot.Count, 5)}, false},
	} {
		assert.Equal(t, test.want, slot.Level(a, test.b), name)
		assert.Equal(t, test.want, slot.Level(test.b, a), name)
	}
	assert.EqualValues(t, 7, slot.Highest(a))
	assert.EqualValues(t, 0, slot.Highest(nil))
}
