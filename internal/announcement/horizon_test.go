package announcement

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAnnouncementsFitIntoANotification(t *testing.T) {
	t.Parallel()
	a := Horizon{Started: math.MaxInt64, Term: math.MaxInt64, Table: math.MaxUint32, Sequence: math.MaxUint32, Filenode: math.MaxUint32, Position: math.MaxInt64}
	a.News = News{Known: true, After: math.MaxInt64, Slots: make([]int32, 256)}
	for i := range a.News.Slots {
		a.News.Slots[i] = 65535
	}
	text := a.Text()
	assert.Less(t, len(text), 7900)
	back, err := Parse(text)
	require.NoError(t, err)
	assert.Equal(t, a, back)
	_, err = Parse(strings.Replace(text, " ", fmt.Sprintf(" %s", "!"), 1))
	assert.ErrorContains(t, err, "a number of an announcement")
}

func TestNewsFollowNews(t *testing.T) {
	t.Parallel()
	early, late := News{Known: true, After: 3, Slots: []int32{7}}, News{Known: true, After: 4, Slots: []int32{9, 9}}
	assert.Equal(t, News{Known: true, After: 3, Slots: []int32{7, 9, 9}}, early.Then(late))
	assert.Equal(t, []int32{7}, early.Slots)
	assert.False(t, early.Then(News{}).Known)
	assert.False(t, News{}.Then(late).Known)
	assert.False(t, early.Then(News{Known: true, Slots: make([]int32, MostNews)}).Known, "nearly everybody has some of them")
}
