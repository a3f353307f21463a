package logbook

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestABookHasWhatWasLogged(t *testing.T) {
	t.Parallel()
	b := New(slog.LevelInfo, time.Minute)
	full := errors.New("it is full")
	log := b.Logger().With("component", "reader")
	log.Debug("too low")
	log.Warn(`the "queue" failed`, "error", full, "n", 3)
	want := Record{
		Level: slog.LevelWarn, Message: `the "queue" failed`, Attrs: map[string]string{"component": "reader", "error": "it is full", "n": "3"}, Err: full,
	}
	assert.Equal(t, []Record{want}, b.Find(""))
	assert.Equal(t, want, b.Await(t, "queue"))
	assert.Empty(t, b.Find("low"))
	assert.Contains(t, b.String(), `level=WARN msg="the \"queue\" failed" component=reader error="it is full" n=3`+"\n")
	b.AwaitLine(t, "n=3", "level=WARN")
	done := make(chan struct{})
	go func() {
		for again := time.NewTicker(time.Millisecond); ; {
			select {
			case <-again.C:
				log.Info("again", "n", 3)
			case <-done:
				again.Stop()
				return
			}
		}
	}()
	b.AwaitNewLine(t, "n=3")
	close(done)

	var seen []Record
	Looking(slog.LevelDebug, func(r Record) { seen = append(seen, r) }).Logger().Debug("low")
	assert.Equal(t, []Record{{Level: slog.LevelDebug, Message: "low", Attrs: map[string]string{}}}, seen)
}
