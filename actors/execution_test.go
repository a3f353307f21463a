package actors

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// Many workers do not report at once that they run, and few do not wait.
func TestWorkersReportOneAfterTheOther(t *testing.T) {
	t.Parallel()
	for members, last := range map[int]time.Duration{
		1: 11 * time.Millisecond, 4: 20 * time.Millisecond, 11: 50 * time.Millisecond, 32: 90 * time.Millisecond, 100: 90 * time.Millisecond,
	} {
		before := time.Duration(0)
		for rank := range members {
			after := reportAfter(rank, members)
			assert.Greater(t, after, before, "rank %d of %d", rank, members)
			before = after
		}
		assert.LessOrEqual(t, before, last, "%d members", members)
		assert.GreaterOrEqual(t, before, last/2, "%d members", members)
	}
	assert.Positive(t, reportAfter(-1, 0))
}

// An assignment that was read ahead is used for its own generation only.
func TestAnAssignmentThatWasReadAhead(t *testing.T) {
	t.Parallel()
	w := &worker{session: pgcoord.OpenSession(t.Context(), pgcoord.SessionConfig{
		Connect: func(context.Context) (*pgx.Conn, error) { return nil, errors.New("not now") },
		Logger:  slog.New(slog.DiscardHandler),
	})}
	w.session.Close()
	read := pgcoord.Assigned{Generation: 2, Unsettled: map[string]int64{"p": 7}}
	e := &execution{worker: w, ahead: &read}
	got, err := e.assigned(t.Context(), 2)
	require.NoError(t, err)
	assert.Equal(t, read, got)
	_, err = e.assigned(t.Context(), 3)
	require.ErrorIs(t, err, pgcoord.ErrSessionClosed)
	e.ahead = nil
	_, err = e.assigned(t.Context(), 2)
	require.ErrorIs(t, err, pgcoord.ErrSessionClosed)
}
