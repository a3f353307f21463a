package eventstore

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A context that was made of the one that do gets, and outlives do, does not end with it: it would have no error.
func TestWhatHoldsUpNothingEndsNothing(t *testing.T) {
	s, pool := newStore(t)
	ctx, end := context.WithCancel(t.Context())
	var within context.Context
	require.NoError(t, s.namingHolders(ctx, pool, 0, func(late context.Context) error {
		var cancel context.CancelFunc
		within, cancel = context.WithCancel(late) //nolint:fatcontext // it is to outlive do
		t.Cleanup(cancel)
		return nil
	}))
	require.NoError(t, within.Err())
	end()

	require.ErrorIs(t, s.namingHolders(ctx, pool, 0, func(late context.Context) error {
		<-late.Done()
		assert.ErrorIs(t, late.Err(), context.Canceled)
		return late.Err()
	}), context.Canceled)
}
