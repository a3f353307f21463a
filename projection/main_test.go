package projection_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

var errBad = errors.New("bad event")

func TestMain(m *testing.M) { pgtest.MainTwice(m) }

// newStore creates a database with the store's tables and a read model, in
// which handling one event twice is a violation unless the projection adds up.
func newStore(t *testing.T) (*pgxpool.Pool, *eventstore.Store) {
	t.Helper()
	pool := pgtest.NewDatabaseFrom(t, "events", func(pool *pgxpool.Pool) error { return eventstore.RunMigrations(pool) })
	_, err := pool.Exec(t.Context(), `CREATE TABLE handled (position bigint, aggregate_id text, by text, n bigserial)`)
	require.NoError(t, err)
	return pool, eventstore.New()
}

// appendEvents appends n events of one type, each of another aggregate, and
// returns their positions.
func appendEvents(t *testing.T, pool *pgxpool.Pool, store *eventstore.Store, aggregateType string, n int) []int64 {
	t.Helper()
	var positions []int64
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		for i := range n {
			result, err := store.Append(t.Context(), tx, es.Any(), []es.Event{{
				BoundedContext: "shop",
				AggregateType:  aggregateType,
				AggregateID:    fmt.Sprintf("%s-%d", aggregateType, i),
				EventType:      aggregateType + "Changed",
				Payload:        []byte("{}"),
			}})
			if err != nil {
				return err
			}
			positions = append(positions, result.GlobalPositions...)
		}
		return nil
	}))
	return positions
}

// handledPositions are the positions in the read model in the order of handling.
func handledPositions(t *testing.T, pool *pgxpool.Pool) []int64 {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT position FROM handled ORDER BY n`)
	require.NoError(t, err)
	positions, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(t, err)
	return positions
}

// checkpointOf is the position of a row of the checkpoints table; -1 if there is none.
func checkpointOf(t *testing.T, pool *pgxpool.Pool, name string) int64 {
	t.Helper()
	var position int64
	require.NoError(t, pool.QueryRow(t.Context(),
		`SELECT coalesce(max(last_global_position), -1) FROM projection_checkpoints WHERE projection_name = $1`, name).Scan(&position))
	return position
}

// record is what the tests' handlers do: they note the event in the read model.
func record(ctx context.Context, tx pgx.Tx, event es.PersistedEvent, by string) error {
	_, err := tx.Exec(ctx, `INSERT INTO handled (position, aggregate_id, by) VALUES ($1, $2, $3)`,
		event.GlobalPosition, event.AggregateID, by)
	return err
}

// each is a Projection by a function for one event.
type each struct {
	name   string
	handle func(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error
}

func (p *each) Name() string { return p.name }

func (p *each) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	return p.handle(ctx, tx, event)
}

// whole is a BatchProjection by a function for a batch.
type whole struct {
	each
	batch func(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error
}

func (p *whole) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	return p.batch(ctx, tx, events)
}

// scoped wants some events only.
type scoped struct {
	each
	types, contexts []string
}

func (p *scoped) AggregateTypes() []string  { return p.types }
func (p *scoped) BoundedContexts() []string { return p.contexts }

// undivided must see all aggregates.
type undivided struct{ each }

func (p *undivided) Unpartitioned() bool { return true }
