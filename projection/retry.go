package projection

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/getpup/pupsourcing-orchestrator/v2/horizon"
)

// Bounds of the delay between attempts after a lost connection.
const (
	firstDelay = 100 * time.Millisecond
	maxDelay   = 5 * time.Second
)

// backoff is the delay before the next attempt: it doubles until it is reset by
// a success. The zero value is ready to use.
type backoff struct{ last time.Duration }

// next is the delay before the next attempt.
func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, firstDelay), maxDelay)
	return b.last
}

// reset makes the next delay the first again.
func (b *backoff) reset() { b.last = 0 }

// wait returns after the delay, or when ctx ends.
func wait(ctx context.Context, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// lostError marks an error as caused by the loss of the connection, where the
// error itself does not show it.
type lostError struct{ error }

func (e *lostError) Unwrap() error { return e.error }

// mendable says whether trying again can help: the connection was lost or could
// not be made, or the server lost the end of its log and goes on from a position that the
// checkpoint is not ahead of.
func mendable(err error) bool {
	var (
		stopped *StoppedError
		rewound *horizon.RewoundError
		lost    *lostError
		server  *pgconn.PgError
		dial    *pgconn.ConnectError
		network net.Error
	)
	switch {
	case errors.As(err, &stopped):
		return false
	case errors.As(err, &rewound):
		return !rewound.Floor
	case errors.As(err, &lost), errors.Is(err, horizon.ErrUnstable):
		return true
	case errors.As(err, &server):
		return unavailable(server.Code)
	case errors.As(err, &dial), errors.As(err, &network), pgconn.SafeToRetry(err):
		return true
	default:
		return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
	}
}

// unavailable says whether a SQLSTATE means that the server cannot be reached
// now: class 08, shutdown, crash and start-up (57P01–57P03), too many connections.
func unavailable(code string) bool {
	switch code {
	case "57P01", "57P02", "57P03", "53300":
		return true
	default:
		return len(code) == 5 && code[:2] == "08"
	}
}
