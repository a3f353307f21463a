package horizon

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every 32nd draw writes a number that is 32 higher into the sequence's row, for the log, and for an instant only. What the prober
// takes for the last value must never be one of these: here it is compared, in the server and without a round trip between, with
// what the function says a moment later, while others draw as fast as they can.
func TestLastValueIsNeverAheadOfTheSequence(t *testing.T) {
	pool := newEvents(t)
	exec(t, pool, `CREATE FUNCTION ahead(looks int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE seen bigint; found int := 0;
BEGIN
    FOR i IN 1..looks LOOP
        EXECUTE $q$SELECT position FROM (`+sqlLastValue+`) AS look (may_read, position)$q$ INTO seen USING 'events_global_position_seq'::regclass::oid;
        IF seen > pg_sequence_last_value('events_global_position_seq') THEN found := found + 1; END IF;
    END LOOP;
    RETURN found;
END $$`)
	ctx, stop := context.WithCancel(t.Context())
	var drawing sync.WaitGroup
	for range 2 {
		conn := dial(t, pool)
		drawing.Go(func() {
			for ctx.Err() == nil {
				_, _ = conn.Exec(ctx, `SELECT count(nextval('events_global_position_seq')) FROM generate_series(1, 20000)`)
			}
		})
	}
	var ahead int
	require.NoError(t, dial(t, pool).QueryRow(t.Context(), `SELECT ahead(30000)`).Scan(&ahead))
	stop()
	drawing.Wait()
	assert.Zero(t, ahead, "a number was taken for drawn that was not")
}

// stepwise runs the statements of a batch one by one, and something else in between.
type stepwise struct {
	Querier
	t       *testing.T
	between func()
}

func (s stepwise) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	require.Len(s.t, b.QueuedQueries, 2)
	first := &pgx.Batch{QueuedQueries: b.QueuedQueries[:1]}
	second := &pgx.Batch{QueuedQueries: b.QueuedQueries[1:]}
	require.NoError(s.t, s.Querier.SendBatch(ctx, first).Close())
	s.between()
	return s.Querier.SendBatch(ctx, second)
}

// A writer that locks and draws between the two statements of a probe is in flight: seen as a holder, or above the last value.
func TestWriterBetweenTheTwoStatementsIsAboveTheHorizon(t *testing.T) {
	pool := newEvents(t)
	insert(t, pool)
	var position int64
	steps := stepwise{Querier: dial(t, pool), t: t, between: func() {}}
	p := NewProber(&steps, events, newCheckpoint(0), Options{})
	require.Equal(t, int64(1), probe(t, p).Position)
	insert(t, pool)       // so that there is something to look for
	p.locked = time.Now() // and no glance finds it
	writer := begin(t, dial(t, pool))
	steps.between = func() { position = insert(t, writer) }
	assert.Less(t, probe(t, p).Position, position, "its event can still appear")
	steps.between = func() {}
	require.NoError(t, writer.Commit(t.Context()))
	assert.Equal(t, position, probe(t, p).Position)
}

// A sequence that was given its next number, as people do after a restore, has no last value until it gives that one.
func TestASequenceThatWasGivenItsNextNumberHasNotGoneBack(t *testing.T) {
	for name, give := range map[string]string{
		"setval":       `SELECT setval('events_global_position_seq', %d, false)`,
		"RESTART WITH": `ALTER SEQUENCE events_global_position_seq RESTART WITH %d`,
	} {
		t.Run(name, func(t *testing.T) {
			pool := newEvents(t)
			for range 5 {
				insert(t, pool)
			}
			exec(t, pool, fmt.Sprintf(give, 6))
			fresh, _ := newProber(t, pool, 0)
			assert.Equal(t, int64(5), probe(t, fresh).Position, "there are events, and no checkpoint")
			p, shared := newProber(t, pool, 5)
			assert.Equal(t, int64(5), probe(t, p).Position)
			insert(t, pool)
			assert.Equal(t, int64(6), probe(t, p).Position)
			shared.at.Store(6)
			exec(t, pool, fmt.Sprintf(give, 9))
			reading := probe(t, p)
			assert.Equal(t, int64(8), reading.Position)
			assert.Equal(t, int64(8), reading.LastValue)
			writer := begin(t, dial(t, pool))
			require.Equal(t, int64(9), insert(t, writer))
			insert(t, pool)
			assert.Equal(t, int64(8), probe(t, p).Position)
			require.NoError(t, writer.Commit(t.Context()))
			assert.Equal(t, int64(10), probe(t, p).Position)

			exec(t, pool, fmt.Sprintf(give, 4))
			_, err := p.Probe(t.Context())
			var regressed *RegressionError
			require.ErrorAs(t, err, &regressed)
			assert.Equal(t, int64(3), regressed.LastValue)
		})
	}
}

// Somebody takes a number while it is found out which one is next.
func TestADrawWhileTheNextNumberIsRead(t *testing.T) {
	pool := newEvents(t)
	insert(t, pool)
	steps := stepwise{Querier: dial(t, pool), t: t, between: func() {}}
	p := NewProber(&steps, events, newCheckpoint(0), Options{})
	require.Equal(t, int64(1), probe(t, p).Position)
	exec(t, pool, `SELECT setval('events_global_position_seq', 5, false)`)
	writer := begin(t, dial(t, pool))
	looks := 0
	steps.between = func() {
		if looks++; looks == 2 {
			insert(t, writer)
		}
	}
	p.locked = time.Now() // so that no glance is tried
	assert.Less(t, probe(t, p).Position, int64(5), "its event can still appear")
	require.Equal(t, 2, looks)
	require.NoError(t, writer.Commit(t.Context()))
	p.locked = time.Now()
	assert.Equal(t, int64(5), probe(t, p).Position)
}
