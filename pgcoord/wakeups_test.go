package pgcoord

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// asks is who sees to the notification of appends, as a session is told.
func (w watched) asks(t testing.TB) WakeUps {
	t.Helper()
	who, err := w.AskForWakeUps(t.Context())
	require.NoError(t, err)
	return who
}

func TestOneSessionSeesToTheWakeUps(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it holds a lock of the session")
	first, pool := newSession(t)
	second := watch(t, pool.Config().ConnConfig, 43)
	await(t, second.connected, "the second session")
	assert.Zero(t, holder(t, pool, wakeUpKey))
	assert.Equal(t, WakeUpsOwn, first.asks(t))
	assert.Equal(t, first.pid(t), holder(t, pool, wakeUpKey))
	assert.Equal(t, WakeUpsOthers, second.asks(t))

	require.NoError(t, second.DeclineWakeUps(t.Context()))
	assert.Equal(t, first.pid(t), holder(t, pool, wakeUpKey), "it is not the second one's to decline")
	assert.Equal(t, WakeUpsOwn, first.asks(t))
	require.NoError(t, first.DeclineWakeUps(t.Context()), "having asked twice is having asked")
	await(t, second.declined, "the others must be told")
	assert.Equal(t, WakeUpsOwn, second.asks(t), "who is told finds the lock free")
	await(t, first.declined, "its own notification")
	assert.Empty(t, second.declined, "what was not asked for was not declined")
	assert.Empty(t, first.appended)
	assert.Empty(t, second.appended)
}

func TestAnEndedSessionDeclines(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it holds a lock of the session")
	first, pool := newSession(t)
	for range 20 { // a session may be about to prove itself
		second := watch(t, pool.Config().ConnConfig, 43)
		await(t, second.connected, "the second session")
		assert.Equal(t, WakeUpsOwn, second.asks(t))
		second.Close()
		await(t, first.declined, "the goodbye")
	}
	assert.Equal(t, WakeUpsOwn, first.asks(t))
}

// What is broken off costs the connection, so the session's own statements have a moment to end.
func TestAStatementOutlastsTheEndOfItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, end := context.WithCancel(t.Context())
		ctx, cancel := lasting(parent, time.Minute)
		defer cancel()
		end()
		<-time.After(goodbyeTimeout - time.Millisecond)
		require.NoError(t, ctx.Err())
		<-time.After(time.Millisecond)
		synctest.Wait()
		require.Error(t, ctx.Err())

		ctx, cancel = lasting(t.Context(), time.Minute)
		defer cancel()
		<-time.After(time.Minute)
		synctest.Wait()
		require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
	})
}

// A session that broke holds nothing any more, and knows it.
func TestAskingAgainAfterTheSessionBroke(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it holds a lock of the session")
	w, pool := newSession(t)
	assert.Equal(t, WakeUpsOwn, w.asks(t))
	exec(t, pool, `SELECT pg_terminate_backend($1)`, w.pid(t))
	require.Error(t, await(t, w.lost, "the loss"))
	await(t, w.connected, "the next connection")
	assert.Zero(t, holder(t, pool, wakeUpKey))
	assert.Equal(t, WakeUpsOwn, w.asks(t))
	assert.Equal(t, w.pid(t), holder(t, pool, wakeUpKey))
}

// An append that looks whether somebody has asked shares the lock for an instant.
func TestAnAppendThatLooksIsNobodyWhoAsked(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it holds a lock of the session")
	w, pool := newSession(t)
	appender := dial(t, pool)
	exec(t, appender, `SELECT pg_advisory_lock_shared($1)`, wakeUpKey)
	assert.Equal(t, WakeUpsNobody, w.asks(t))
	exec(t, appender, `SELECT pg_advisory_unlock_shared($1)`, wakeUpKey)
	assert.Zero(t, holder(t, pool, wakeUpKey), "it has not kept a share")
	assert.Equal(t, WakeUpsOwn, w.asks(t))
}
