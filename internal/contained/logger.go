package contained

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// logPatience is how long a record may take.
const logPatience = time.Second

// lostRecords is the attribute of a record that says how many before it were lost.
const lostRecords = "log_records_lost"

// Logger returns a logger whose handler cannot stop the library. A record is lost if the handler panics or ends its goroutine. If the handler does not return
// within a second, the records that follow are lost until it has. The next record says how many were lost.
func Logger(l *slog.Logger) *slog.Logger {
	if _, is := l.Handler().(logHandler); is {
		return l
	}
	return slog.New(logHandler{of: l.Handler(), calls: NewCalls(logPatience, 1), lost: &atomic.Int64{}})
}

// logHandler contains the calls of a handler.
type logHandler struct {
	of    slog.Handler
	calls *Calls
	lost  *atomic.Int64
}

// Enabled is the handler's, or true if that panics.
func (h logHandler) Enabled(ctx context.Context, level slog.Level) (is bool) {
	defer func() {
		if recover() != nil {
			is = true
		}
	}()
	return h.of.Enabled(ctx, level)
}

// Handle hands the record to the handler.
func (h logHandler) Handle(ctx context.Context, record slog.Record) error {
	lost := h.lost.Swap(0)
	if lost > 0 {
		record = record.Clone()
		record.AddAttrs(slog.Int64(lostRecords, lost))
	}
	err, fault := Call(h.calls, func() error { return h.of.Handle(ctx, record) })
	if fault != nil {
		h.lost.Add(lost + 1)
	}
	return err
}

// WithAttrs adds the attributes, unless the handler fails.
func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func() slog.Handler { return h.of.WithAttrs(attrs) })
}

// WithGroup begins the group, unless the handler fails.
func (h logHandler) WithGroup(name string) slog.Handler {
	return h.with(func() slog.Handler { return h.of.WithGroup(name) })
}

func (h logHandler) with(derive func() slog.Handler) slog.Handler {
	if of, fault := Call(h.calls, derive); fault == nil && of != nil {
		h.of = of
	}
	return h
}
