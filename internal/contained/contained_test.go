package contained_test

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/contained"
)

func TestCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := contained.NewCalls(time.Second, 2)
		n, err := contained.Call(calls, func() int { return 7 })
		require.NoError(t, err)
		assert.Equal(t, 7, n)
		_, err = contained.Call(calls, func() int { panic("oh no") })
		require.ErrorContains(t, err, "it panicked: oh no")
		_, err = contained.Call(calls, func() int { runtime.Goexit(); return 1 })
		require.ErrorContains(t, err, "it ended its goroutine")
		release := make(chan struct{})
		for range 2 {
			began := time.Now()
			n, err = contained.Call(calls, func() int { <-release; return 7 })
			require.ErrorContains(t, err, "it did not return within 1s")
			assert.Zero(t, n)
			assert.Equal(t, time.Second, time.Since(began))
		}
		n, err = contained.Call(calls, func() int { return 1 })
		assert.Zero(t, n, "it was called, though two calls are late")
		assert.ErrorContains(t, err, "earlier calls have not returned")
		close(release)
		synctest.Wait()
		n, err = contained.Call(calls, func() int { return 7 })
		require.NoError(t, err)
		assert.Equal(t, 7, n)
	})
}

// unreliable is a handler of slog that fails as it is told.
type unreliable struct {
	slog.Handler
	fail *func()
}

func (u unreliable) Enabled(ctx context.Context, level slog.Level) bool {
	(*u.fail)()
	return u.Handler.Enabled(ctx, level)
}

func (u unreliable) Handle(ctx context.Context, record slog.Record) error {
	(*u.fail)()
	return u.Handler.Handle(ctx, record)
}

func (u unreliable) WithAttrs(attrs []slog.Attr) slog.Handler {
	(*u.fail)()
	return unreliable{u.Handler.WithAttrs(attrs), u.fail}
}

func (u unreliable) WithGroup(name string) slog.Handler {
	(*u.fail)()
	return unreliable{u.Handler.WithGroup(name), u.fail}
}

func TestLogger(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]func(){"panics": func() { panic("oh no") }, "exits": runtime.Goexit} {
		fail := func() {}
		var text strings.Builder
		log := contained.Logger(slog.New(unreliable{slog.NewTextHandler(&text, nil), &fail}))
		assert.Same(t, log, contained.Logger(log), name)
		log.With("a", 1).WithGroup("of").Info("first", "b", 2)
		assert.Contains(t, text.String(), "msg=first a=1 of.b=2", name)
		h, record := log.Handler(), slog.NewRecord(time.Now(), slog.LevelInfo, "lost", 0)
		fail = failure
		for range 3 {
			assert.NoError(t, h.Handle(t.Context(), record), name)
		}
		assert.NotNil(t, h.WithAttrs([]slog.Attr{slog.Int("c", 3)}).WithGroup("g"), name)
		if name == "panics" {
			assert.True(t, h.Enabled(t.Context(), slog.LevelDebug))
		}
		fail = func() {}
		log.Info("last")
		assert.NotContains(t, text.String(), "msg=lost", name)
		assert.Contains(t, text.String(), "msg=last log_records_lost=3", name)
		log.Info("after")
		assert.Contains(t, text.String(), "msg=after\n", name)
	}
}

// While a logger hangs, only the first record is waited for.
func TestLoggerThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release, fail := make(chan struct{}), func() {}
		var text strings.Builder
		log := contained.Logger(slog.New(unreliable{slog.NewTextHandler(&text, nil), &fail}).WithGroup("g"))
		h, record := log.Handler(), slog.NewRecord(time.Now(), slog.LevelInfo, "held up", 0)
		fail = func() { <-release }
		began := time.Now()
		for range 10 {
			_ = h.Handle(t.Context(), record)
		}
		assert.Equal(t, time.Second, time.Since(began))
		close(release)
		synctest.Wait()
		log.Info("last")
		assert.Equal(t, 1, strings.Count(text.String(), "held up"))
		assert.Contains(t, text.String(), "log_records_lost=10")
	})
}
