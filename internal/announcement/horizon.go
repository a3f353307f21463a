package announcement

import (
	"fmt"
	"strconv"
	"strings"
)

// Horizon is a horizon that one worker has found, for the others: they need not find it themselves.
type Horizon struct {
	// Position is the horizon, and News are the events between the one announced before and this one.
	Position int64
	News     News
	// Started is when the server started on which it was found, in microseconds since 1970. Two servers may have all the rest in common.
	Started int64
	// Term, Table, Sequence and Filenode say what it is the horizon of: see horizon.Stored.
	Term                      int64
	Table, Sequence, Filenode uint32
}

// Text is the announcement as a notification has it: a list of numbers. The slots come last. There are at most MostNews of them, so
// it is far shorter than the 8,000 bytes that a notification may have.
func (a Horizon) Text() string {
	numbers := []int64{a.Started, a.Term, int64(a.Table), int64(a.Sequence), int64(a.Filenode), a.Position}
	if a.News.Known {
		numbers = append(numbers, a.News.After)
		for _, slot := range a.News.Slots {
			numbers = append(numbers, int64(slot))
		}
	}
	var text []byte
	for i, n := range numbers {
		if i > 0 {
			text = append(text, ' ')
		}
		text = strconv.AppendInt(text, n, 36)
	}
	return string(text)
}

// Parse is the reverse of Text.
func Parse(text string) (a Horizon, err error) {
	fields := strings.Fields(text)
	if len(fields) < 6 {
		return a, fmt.Errorf("an announcement has at least 6 numbers, got %q", text)
	}
	next := func(bits int) int64 {
		n, failed := strconv.ParseInt(fields[0], 36, 64)
		if failed == nil && (n < 0 || n>>(bits-1) > 1) {
			failed = strconv.ErrRange
		}
		if failed != nil && err == nil {
			err = fmt.Errorf("a number of an announcement, %q: %w", fields[0], failed)
		}
		fields = fields[1:]
		return n
	}
	a.Started, a.Term, a.Table, a.Sequence, a.Filenode, a.Position = next(63), next(63), uint32(next(32)), uint32(next(32)), uint32(next(32)), next(63)
	if len(fields) > 0 {
		a.News.Known, a.News.After = true, next(63)
		a.News.Slots = make([]int32, 0, len(fields))
		for len(fields) > 0 {
			a.News.Slots = append(a.News.Slots, int32(next(16)))
		}
	}
	return a, err
}
