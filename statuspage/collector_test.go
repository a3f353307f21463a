package statuspage

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// Scrapes that wait while the database does not answer wait for one look together.
func TestScrapesShareAFailure(t *testing.T) {
	gone := errors.New("no answer")
	looks := 0
	c := &collector{snapshot: func(context.Context) (admin.Snapshot, error) {
		looks++
		return admin.Snapshot{}, gone
	}}
	came := time.Now()
	for range 3 { // all came before the first look ended
		_, err := c.latest(came)
		require.ErrorIs(t, err, gone)
	}
	require.Equal(t, 1, looks)
	_, err := c.latest(time.Now())
	require.ErrorIs(t, err, gone)
	require.Equal(t, 2, looks, "a scrape that comes later looks again")
}
