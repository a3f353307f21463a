package horizon

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTracker(t *testing.T) {
	a, b := Holder{Name: "3/1"}, Holder{Name: "4/1"}
	prepared := Holder{Name: "-1/700", Prepared: true}
	type probe struct {
		lastValue int64
		holders   []Holder
		want      int64
	}
	tests := map[string]struct {
		floor  int64
		probes []probe
	}{
		"nobody holds the lock": {0, []probe{{10, nil, 10}, {20, nil, 20}}},
		"holders of the first probe are bounded by the floor": {7, []probe{
			{10, []Holder{a}, 7},
			{12, []Holder{a}, 7},
			{12, nil, 12},
		}},
		"a new holder is bounded by the previous last value": {0, []probe{
			{10, nil, 10},
			{15, []Holder{a}, 10},
		}},
		"a known holder keeps its bound": {0, []probe{
			{10, nil, 10},
			{15, []Holder{a}, 10},
			{30, []Holder{a}, 10},
			{31, nil, 31},
		}},
		"the least bound counts": {0, []probe{
			{10, nil, 10},
			{15, []Holder{a}, 10},
			{20, []Holder{a, b}, 10},
			{25, []Holder{b}, 15},
		}},
		"the bound of a vanished holder is forgotten": {0, []probe{
			{10, nil, 10},
			{15, []Holder{a}, 10},
			{20, nil, 20},
			{25, []Holder{a}, 20},
		}},
		"a prepared transaction with a new name may be an old holder": {0, []probe{
			{10, nil, 10},
			{15, []Holder{a}, 10},
			{20, []Holder{prepared}, 10},
			{25, []Holder{prepared}, 10},
			{26, nil, 26},
		}},
		"a known prepared transaction keeps its bound": {0, []probe{
			{10, nil, 10},
			{15, []Holder{prepared}, 10},
			{20, []Holder{prepared, a}, 10},
			{20, []Holder{a}, 15},
		}},
		"of one name seen twice the lower bound counts": {0, []probe{
			{10, []Holder{a}, 0},
			{15, []Holder{a, b, {Name: b.Name, Prepared: true}}, 0},
			{15, []Holder{b}, 0},
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tracker := NewTracker(tt.floor)
			for i, p := range tt.probes {
				got, err := tracker.Observe(p.lastValue, p.holders)
				require.NoError(t, err)
				require.Equal(t, p.want, got, "probe %d", i)
			}
		})
	}
}

func TestTrackerRegressed(t *testing.T) {
	t.Run("below the floor", func(t *testing.T) {
		_, err := NewTracker(100).Observe(99, nil)
		var regressed *RegressionError
		require.ErrorAs(t, err, &regressed)
		assert.Equal(t, RegressionError{Reached: 100, LastValue: 99}, *regressed)
		assert.Contains(t, err.Error(), "99")
		assert.Contains(t, err.Error(), "100")
	})
	t.Run("below an earlier probe, even above the horizon", func(t *testing.T) {
		tracker := NewTracker(10)
		_, err := tracker.Observe(50, []Holder{{Name: "3/1"}})
		require.NoError(t, err)
		_, err = tracker.Observe(49, nil)
		var regressed *RegressionError
		require.ErrorAs(t, err, &regressed)
		assert.Equal(t, RegressionError{Reached: 50, LastValue: 49}, *regressed)
		assert.Contains(t, err.Error(), "from 50 to 49")
	})
	t.Run("equal is not below", func(t *testing.T) {
		got, err := NewTracker(100).Observe(100, nil)
		require.NoError(t, err)
		assert.Equal(t, int64(100), got)
	})
}

func TestTrackerSettle(t *testing.T) {
	tracker := NewTracker(10)
	_, err := tracker.Observe(50, []Holder{{Name: "3/1"}})
	require.NoError(t, err)
	assert.Equal(t, int64(50), tracker.Settle(50))
	assert.Empty(t, tracker.Blocking())

	got, err := tracker.Observe(60, []Holder{{Name: "3/1"}})
	require.NoError(t, err)
	assert.Equal(t, int64(50), got, "the holder may own numbers above what was settled")
	assert.Equal(t, int64(50), tracker.Settle(20), "settling less changes nothing")
}

func TestTrackerBlocking(t *testing.T) {
	tracker := NewTracker(0)
	_, err := tracker.Observe(10, nil)
	require.NoError(t, err)
	assert.Empty(t, tracker.Blocking())

	_, err = tracker.Observe(20, []Holder{{Name: "3/1"}, {Name: "4/1"}})
	require.NoError(t, err)
	assert.ElementsMatch(t, []string{"3/1", "4/1"}, tracker.Blocking())

	_, err = tracker.Observe(30, []Holder{{Name: "4/1"}, {Name: "5/1"}})
	require.NoError(t, err)
	assert.Equal(t, []string{"4/1"}, tracker.Blocking())
}

func TestTrackerIdleHolderDoesNotBlock(t *testing.T) {
	tracker := NewTracker(10)
	got, err := tracker.Observe(10, []Holder{{Name: "3/1"}})
	require.NoError(t, err)
	assert.Equal(t, int64(10), got)
	assert.Empty(t, tracker.Blocking(), "nothing was drawn, so nothing is held back")
}
