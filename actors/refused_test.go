package actors

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/logbook"
)

// A batch whose rows were changed is repeated at once. After several in a row the next ones wait, and a line says so once.
func TestBatchesThatAreRefusedInARowBackOff(t *testing.T) {
	t.Parallel()
	logs := logbook.New(slog.LevelInfo, time.Minute)
	p := &processor{worker: &worker{}, log: logs.Logger(), run: &run{hard: t.Context()}}
	for range movesAtOnce {
		assert.Equal(t, next{more: true}, p.failed(nil, pgcoord.ErrMoved))
	}
	assert.Empty(t, logs.String())
	shorter := p.failed(nil, pgcoord.ErrMoved).after
	assert.Positive(t, shorter)
	for range 10 {
		p.failed(nil, pgcoord.ErrMoved)
	}
	assert.Greater(t, p.failed(nil, pgcoord.ErrMoved).after, shorter)
	assert.Contains(t, logs.String(), "refused_in_a_row=4")
	assert.NotContains(t, logs.String(), "refused_in_a_row=5")
}
