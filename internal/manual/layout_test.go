package manual

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// apply changes rows as the Layout says.
func (l Layout) apply(rows map[string]int64) {
	for _, name := range l.Drop {
		delete(rows, name)
	}
	for _, p := range l.Put {
		rows[p.Name] = p.Position
	}
}

func stored(rows map[string]int64) []Row {
	var found []Row
	for name, position := range rows {
		found = append(found, Row{Name: name, Position: position})
	}
	return found
}

// The model knows of each slot up to where its events have been handled. Processors of any number of partitions start, handle some, and
// end at any time, and a start may come in any order: no row is ever above or below what was handled of its slots.
func TestPropertyEverySlotKeepsItsPositionWhenTheNumberChanges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rows, handled := map[string]int64{"another[0/3]": 999, "pp": 999, "p[x": 999}, make([]int64, slot.Count)
		if base := rapid.Int64Range(-1, 20).Draw(t, "left by pupsourcing"); base >= 0 {
			rows["p"] = base
			for s := range handled {
				handled[s] = base
			}
		}
		top := int64(20)
		for range rapid.IntRange(1, 6).Draw(t, "changes") {
			total := rapid.SampledFrom([]int{1, 2, 3, 4, 5, 7, 64}).Draw(t, "total")
			for range rapid.IntRange(1, 5).Draw(t, "runs") {
				partition := slot.Partition{Key: rapid.IntRange(0, total-1).Draw(t, "key"), Total: total}
				l, err := Plan("p", partition, stored(rows))
				require.NoError(t, err)
				l.apply(rows)
				own, ok, err := Complete("p", partition, stored(rows))
				require.NoError(t, err)
				require.True(t, ok)
				require.Equal(t, l.Own, own)
				for _, p := range own {
					for s := p.From; s < p.To; s++ {
						if handled[s] != p.Position {
							t.Fatalf("slot %d was handled up to %d, and its row is at %d", s, handled[s], p.Position)
						}
					}
				}
				top += rapid.Int64Range(0, 10).Draw(t, "appended")
				upTo := rapid.Int64Range(0, top).Draw(t, "handled up to")
				for _, p := range own { // a batch, or none: the process crashed before
					if p.Position < upTo {
						rows[p.Name] = upTo
						for s := p.From; s < p.To; s++ {
							handled[s] = upTo
						}
					}
				}
				again, err := Plan("p", partition, stored(rows))
				require.NoError(t, err)
				require.False(t, again.Change)
			}
		}
	})
}

// Whatever rows people leave: a slot starts where one of its rows is, and above another of them only if that one was surely left behind.
func TestPropertyAStartAboveARowHasItsReason(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rows, lowest := map[string]int64{}, int64(math.MaxInt64)
		for range rapid.IntRange(0, 6).Draw(t, "rows") {
			total := rapid.IntRange(1, 4).Draw(t, "total of row")
			partition := slot.Partition{Key: rapid.IntRange(0, total-1).Draw(t, "key of row"), Total: total}
			name := Name("p", partition, partition.Range())
			rows[name] = rapid.Int64Range(0, 3).Draw(t, "position")
		}
		for name, position := range rows {
			if name != "p" {
				lowest = min(lowest, position)
			}
		}
		total := rapid.IntRange(1, 4).Draw(t, "total")
		partition := slot.Partition{Key: rapid.IntRange(0, total-1).Draw(t, "key"), Total: total}
		l, err := Plan("p", partition, stored(rows))
		if err != nil {
			require.ErrorIs(t, err, ErrContradict)
			require.True(t, dbfault.IsConfiguration(err))
			return
		}
		for _, start := range l.Own {
			positions, own := map[int64]bool{}, false
			var above []string
			for name, position := range rows {
				row, _, err := Parse("p", Row{Name: name, Position: position})
				require.NoError(t, err)
				if _, both := row.Intersect(start.Range); !both || !l.Change && row.Partition != partition {
					continue
				}
				positions[position] = true
				own = own || row.Partition == partition && position == start.Position
				if start.Position > position && (name != "p" || position != lowest) {
					above = append(above, name)
				}
			}
			require.True(t, positions[start.Position] || len(positions) == 0 && start.Position == 0)
			require.True(t, len(above) == 0 || own && total != 1, above)
		}
	})
}

func TestPlan(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		rows      map[string]int64
		partition slot.Partition
		want      map[string]int64 // the partition's rows
		says      string
	}{
		"nothing":                    {nil, slot.Partition{Key: 1, Total: 3}, map[string]int64{"p[1/3]": 0}, ""},
		"left by pupsourcing":        {map[string]int64{"p": 7}, slot.Partition{Total: 1}, map[string]int64{"p": 7}, ""},
		"divided":                    {map[string]int64{"p": 7}, slot.Partition{Key: 1, Total: 2}, map[string]int64{"p[1/2]": 7}, ""},
		"joined":                     {map[string]int64{"p[0/2]": 7, "p[1/2]": 7}, slot.Partition{Total: 1}, map[string]int64{"p": 7}, ""},
		"unequal":                    {map[string]int64{"p[0/2]": 7, "p[1/2]": 9}, slot.Partition{Total: 1}, map[string]int64{"p[0/1:0-32768]": 7, "p[0/1:32768-65536]": 9}, ""},
		"pieces have met":            {map[string]int64{"p[0/1:0-32768]": 9, "p[0/1:32768-65536]": 9}, slot.Partition{Total: 1}, map[string]int64{"p": 9}, ""},
		"slots covered twice":        {map[string]int64{"p[0/2]": 7, "p[0/2:0-5]": 3}, slot.Partition{Key: 0, Total: 2}, map[string]int64{"p[0/2:0-5]": 3, "p[0/2:5-32768]": 7}, ""},
		"one never started":          {map[string]int64{"p[0/2]": 7}, slot.Partition{Total: 1}, map[string]int64{"p[0/1:0-32768]": 7, "p[0/1:32768-65536]": 0}, ""},
		"all set back by hand":       {map[string]int64{"p[0/2]": 7, "p[1/2]": 9, "p": 5}, slot.Partition{Key: 2, Total: 4}, map[string]int64{"p[2/4]": 5}, ""},
		"the lowest entered by hand": {map[string]int64{"p[0/2]": 7, "p[1/2]": 7, "p": 7}, slot.Partition{Key: 2, Total: 3}, map[string]int64{"p[2/3]": 7}, ""},
		"the lowest of unequal ones entered by hand": {
			map[string]int64{"p[0/2]": 7, "p[1/2]": 9, "p": 7},
			slot.Partition{Total: 1},
			map[string]int64{"p[0/1:0-32768]": 7, "p[0/1:32768-65536]": 9},
			"",
		},
		"the lowest entered by hand and one never started": {map[string]int64{"p[0/2]": 7, "p": 7}, slot.Partition{Key: 1, Total: 3}, map[string]int64{"p[1/3]": 7}, ""},
		"left behind by one partition":                     {map[string]int64{"p[0/2]": 7, "p[1/2]": 9, "p": 5}, slot.Partition{Key: 1, Total: 2}, map[string]int64{"p[1/2]": 9}, ""},
		"not started since one partition":                  {map[string]int64{"p[0/2]": 7, "p": 5}, slot.Partition{Key: 1, Total: 2}, map[string]int64{"p[1/2]": 5}, ""},
		"left behind by another number":                    {map[string]int64{"p[0/2]": 7, "p[1/2]": 9, "p[0/3]": 4, "p[1/3]": 7}, slot.Partition{Key: 1, Total: 2}, map[string]int64{"p[1/2]": 9}, ""},
		"another number has gone on":                       {map[string]int64{"p[0/2]": 7, "p[1/2]": 7, "p[0/3]": 8, "p": 7}, slot.Partition{Key: 1, Total: 2}, nil, `"p[0/2]" is at 7 and "p[0/3]" at 8`},
		"all set back where there is one":                  {map[string]int64{"p[0/1:0-5]": 7, "p[0/1:5-65536]": 9, "p": 3}, slot.Partition{Total: 1}, map[string]int64{"p": 3}, ""},
		"skipped by hand":                                  {map[string]int64{"p[0/2]": 7, "p[1/2]": 9, "p": 8}, slot.Partition{Key: 1, Total: 3}, nil, `"p[0/2]" is at 7 and "p" at 8`},
		"skipped by hand beside rows of the number":        {map[string]int64{"p[0/2]": 7, "p[1/2]": 9, "p": 8}, slot.Partition{Total: 2}, nil, `"p[0/2]" is at 7 and "p" at 8`},
		"skipped by hand over a row that was left behind":  {map[string]int64{"p[0/2]": 2, "p[0/4]": 0, "p[3/4]": 3, "p": 2}, slot.Partition{Key: 1, Total: 2}, nil, `"p[0/4]" is at 0 and "p" at 2`},
		"two numbers that agree":                           {map[string]int64{"p[0/2]": 7, "p[1/2]": 7, "p[1/3]": 7}, slot.Partition{Key: 0, Total: 4}, map[string]int64{"p[0/4]": 7}, ""},
		"two numbers that contradict":                      {map[string]int64{"p[0/2]": 7, "p[1/2]": 7, "p[1/3]": 6}, slot.Partition{Key: 1, Total: 4}, nil, "contradict each other"},
		"below 0":                                          {map[string]int64{"p": -1}, slot.Partition{Total: 1}, nil, `"p" is at -1: positions begin at 0`},
		"another's below 0":                                {map[string]int64{"q": -1, "p[0/2": -1, "p ": -1}, slot.Partition{Total: 1}, map[string]int64{"p": 0}, ""},
		"a partition too many":                             {map[string]int64{"p[2/2]": 1}, slot.Partition{Total: 1}, nil, "cannot exist"},
		"slots of another partition":                       {map[string]int64{"p[0/2:30000-40000]": 1}, slot.Partition{Total: 1}, nil, "slots that partition 0/2 does not have"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := Plan("p", tt.partition, stored(tt.rows))
			if tt.says != "" {
				require.ErrorContains(t, err, tt.says)
				assert.True(t, dbfault.IsConfiguration(err))
				return
			}
			require.NoError(t, err)
			got := map[string]int64{}
			for _, p := range l.Own {
				got[p.Name] = p.Position
			}
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestCompleteRowsCoverEachSlotOnce(t *testing.T) {
	t.Parallel()
	for ok, sets := range map[bool][][]Row{
		true:  {{{"p[0/2]", 1}}, {{"p[0/2:0-5]", 1}, {"p[0/2:5-32768]", 2}}, {{"p[0/2]", 1}, {"p", 7}, {"p[0/3]", 5}}},
		false: {{}, {{"p", 7}}, {{"p[1/2]", 7}}, {{"p[0/2:0-5]", 1}}, {{"p[0/2]", 1}, {"p[0/2:0-5]", 1}}},
	} {
		for _, rows := range sets {
			_, found, err := Complete("p", slot.Partition{Key: 0, Total: 2}, rows)
			require.NoError(t, err)
			assert.Equal(t, ok, found, fmt.Sprint(rows))
		}
	}
	_, _, err := Complete("p", slot.Partition{Key: 0, Total: 2}, []Row{{"p[0/2]", -1}})
	require.ErrorContains(t, err, "is at -1")
}
