package statuspage

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// watching is a watch whose looks take so long, and how many there were. Only the bubble's goroutines use it.
func watching(took *time.Duration) (*watch, *int) {
	looks := new(int)
	return newWatch(func(context.Context, time.Time) (seen, error) {
		*looks++
		time.Sleep(*took) //nolint:forbidigo // the bubble's clock
		return seen{snapshot: admin.Snapshot{At: time.Now()}}, nil
	}), looks
}

// However many watch, there is one look in an interval, and none while nobody watches. A database that is slow is asked in a tenth of the time at most.
func TestOneLookInAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := 10 * time.Millisecond
		w, looks := watching(&took)
		all := func() {
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					s, err := w.latest(t.Context())
					assert.NoError(t, err)
					assert.True(t, s.known)
					assert.Less(t, time.Since(s.at), w.interval+took)
				})
			}
			wg.Wait()
		}
		all()
		all()
		assert.Equal(t, 1, *looks)
		time.Sleep(w.interval) //nolint:forbidigo // the bubble's clock
		all()
		assert.Equal(t, 2, *looks)
		time.Sleep(time.Hour) //nolint:forbidigo // the bubble's clock
		assert.Equal(t, 2, *looks)

		took = time.Second
		all()
		time.Sleep(8 * time.Second) //nolint:forbidigo // the bubble's clock
		_, err := w.latest(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 3, *looks)
	})
}

// What somebody has changed while a look was under way is seen by the next.
func TestAChangeDuringALookIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := 10 * time.Millisecond
		w, looks := watching(&took)
		go func() { _, _ = w.latest(t.Context()) }()
		synctest.Wait()
		w.forget()
		_, err := w.latest(t.Context())
		require.NoError(t, err)
		_, err = w.latest(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 2, *looks)
	})
}

// Who goes away does not end the look that others wait for.
func TestALookOutlivesWhoAskedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(nil)
		w.look = func(ctx context.Context, _ time.Time) (seen, error) {
			select {
			case <-ctx.Done():
				return seen{}, ctx.Err()
			case <-time.After(time.Second):
				return seen{}, nil
			}
		}
		first, leave := context.WithCancel(t.Context())
		go func() { _, _ = w.latest(first) }()
		synctest.Wait()
		leave()
		s, err := w.latest(t.Context())
		require.NoError(t, err)
		assert.True(t, s.known)

		w.interval = 0
		w.look = func(context.Context, time.Time) (seen, error) { return seen{}, errors.New("away") }
		w.forget()
		s, err = w.latest(t.Context())
		require.NoError(t, err)
		assert.True(t, s.known, "what was seen last stays")
		assert.EqualError(t, s.err, "away")
	})
}

func TestHistoryIsBounded(t *testing.T) {
	var h history
	began := time.Now()
	for i := range 2 * samplesMost {
		h = h.with(admin.Snapshot{At: began.Add(time.Duration(i) * 100 * time.Millisecond), Projections: []admin.Projection{{Name: "p", Position: int64(i)}}})
	}
	assert.Len(t, h, samplesMost)
	h = h.with(admin.Snapshot{At: began.Add(time.Hour)})
	assert.Len(t, h, 1)
}

// A worker keeps its colour when others come and go.
func TestWorkersKeepTheirColours(t *testing.T) {
	a, b, c := admin.Worker{ID: uuid.New()}, admin.Worker{ID: uuid.New()}, admin.Worker{ID: uuid.New()}
	of := colours(nil).with(admin.Snapshot{Workers: []admin.Worker{a, b}})
	assert.Equal(t, colours{a.ID: 0, b.ID: 1}, of)
	a.State = "dead"
	of = of.with(admin.Snapshot{Workers: []admin.Worker{c, a, b}})
	assert.Equal(t, colours{c.ID: 0, b.ID: 1}, of)
	assert.Equal(t, "gone", colourClass(of, &a.ID))
}

func TestWhatIsShownOfAPayload(t *testing.T) {
	for name, tt := range map[string]struct{ payload, masked, full string }{
		"object":   {`{"name":"Ada","age":36,"ok":true,"none":null,"list":["x",1.50]}`, "{\n  \"age\": \"number\",\n  \"list\": [\n    \"text\",\n    \"number\"\n  ],\n  \"name\": \"text\",\n  \"none\": null,\n  \"ok\": \"true or false\"\n}", "{\n  \"age\": 36,\n  \"list\": [\n    \"x\",\n    1.50\n  ],\n  \"name\": \"Ada\",\n  \"none\": null,\n  \"ok\": true\n}"},
		"text":     {"Ada", "3 bytes", "Ada"},
		"two":      {`"Ada" "Grace"`, "13 bytes", `"Ada" "Grace"`},
		"trailing": {`1 Ada`, "5 bytes", `1 Ada`},
		"binary":   {"\xff\x00", "2 bytes", "2 bytes: ff00"},
		"empty":    {"", "0 bytes", ""},
		"deep":     {"[[[[]]]]", "[\n  [\n    [\n      []\n    ]\n  ]\n]", "[\n  [\n    [\n      []\n    ]\n  ]\n]"},
	} {
		assert.Equal(t, tt.masked, payloadText([]byte(tt.payload), MaskedPayloads), name)
		assert.Equal(t, tt.full, payloadText([]byte(tt.payload), FullPayloads), name)
		assert.NotContains(t, payloadText([]byte(tt.payload), NoPayloads), "Ada", name)
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 ms", -time.Second: "0 ms", 1500 * time.Millisecond: "1.5 s", 90 * time.Second: "90 s", 61 * time.Minute: "61 min", 47 * time.Hour: "47 h", 50 * time.Hour: "2 d",
	} {
		assert.Equal(t, want, span(d))
	}
	assert.Equal(t, []string{"0", "999", "1\u202f000", "−12\u202f345"}, []string{number(0), number(999), number(1000), number(-12345)})
	assert.Equal(t, "~2\u202f001", lagText(2001, false))
}
