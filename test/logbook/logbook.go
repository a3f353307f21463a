// Package logbook keeps what the library logs, for tests to look at.
package logbook

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/awaiting"
)

// Book is what was logged at its level and above, as records and as text. It may be used by several goroutines.
type Book struct {
	level    slog.Level
	patience time.Duration
	look     func(Record)

	mu      sync.Mutex
	records []Record
	text    bytes.Buffer
}

// Record is one line of the log.
type Record struct {
	Level   slog.Level
	Message string
	// Attrs are the attributes as text, those of groups left out, and Err is the first that is an error.
	Attrs map[string]string
	Err   error
}

// New makes an empty book. patience bounds each wait for a line.
func New(level slog.Level, patience time.Duration) *Book {
	return &Book{level: level, patience: patience}
}

// Looking is New with a function that is called for each record, on the goroutine that logs it.
func Looking(level slog.Level, look func(Record)) *Book { return &Book{level: level, look: look} }

// Logger is a logger that writes into the book.
func (b *Book) Logger() *slog.Logger {
	return slog.New(&handler{book: b, text: slog.NewTextHandler(&b.text, &slog.HandlerOptions{Level: b.level})})
}

// handler writes into a book.
type handler struct {
	book  *Book
	text  slog.Handler
	attrs []slog.Attr
}

// Enabled is slog.Handler's.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.book.level }

// WithGroup is slog.Handler's.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{book: h.book, text: h.text.WithGroup(name), attrs: h.attrs}
}

// WithAttrs is slog.Handler's.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{book: h.book, text: h.text.WithAttrs(attrs), attrs: slices.Concat(h.attrs, attrs)}
}

// Handle is slog.Handler's.
func (h *handler) Handle(ctx context.Context, line slog.Record) error {
	r := Record{Level: line.Level, Message: line.Message, Attrs: map[string]string{}}
	take := func(a slog.Attr) bool {
		r.Attrs[a.Key] = a.Value.String()
		if err, is := a.Value.Any().(error); is && r.Err == nil {
			r.Err = err
		}
		return true
	}
	for _, a := range h.attrs {
		take(a)
	}
	line.Attrs(take)
	err := h.write(ctx, line, r)
	if h.book.look != nil {
		h.book.look(r)
	}
	return err
}

func (h *handler) write(ctx context.Context, line slog.Record, r Record) error {
	h.book.mu.Lock()
	defer h.book.mu.Unlock()
	h.book.records = append(h.book.records, r)
	return h.text.Handle(ctx, line)
}

// String is all that was logged, as slog writes text.
func (b *Book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Find is the records whose message contains a text.
func (b *Book) Find(message string) []Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.records), func(r Record) bool { return !strings.Contains(r.Message, message) })
}

// Await waits for a record whose message contains a text, and returns the first.
func (b *Book) Await(t testing.TB, message string) Record {
	t.Helper()
	awaiting.Until(t, b.patience, func() bool { return len(b.Find(message)) > 0 }, func() string { return fmt.Sprintf("%q was never logged", message) })
	return b.Find(message)[0]
}

// AwaitLine waits for a line of the text that has all of these parts.
func (b *Book) AwaitLine(t testing.TB, parts ...string) {
	t.Helper()
	b.awaitAfter(t, 0, parts)
}

// AwaitNewLine waits for such a line that is logged from now on.
func (b *Book) AwaitNewLine(t testing.TB, parts ...string) {
	t.Helper()
	b.awaitAfter(t, len(b.String()), parts)
}

func (b *Book) awaitAfter(t testing.TB, start int, parts []string) {
	t.Helper()
	awaiting.Until(t, b.patience, func() bool {
		for line := range strings.Lines(b.String()[start:]) {
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
				return true
			}
		}
		return false
	}, func() string { return fmt.Sprintf("no line of the log has %q", parts) })
}
