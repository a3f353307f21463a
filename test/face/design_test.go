package face

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// UserProjection tells of the events that it handles.
type UserProjection struct{ handled chan<- es.PersistedEvent }

// Name is the projection's name.
func (*UserProjection) Name() string { return "users" }

// Handle writes elsewhere than through tx.
func (p *UserProjection) Handle(ctx context.Context, _ pgx.Tx, event es.PersistedEvent) error {
	select {
	case p.handled <- event:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// TestTheFaceAsDesigned is the face in the words in which it is promised: each
// statement stands here as users write it, so a change of a name, a parameter
// or a result does not compile.
func TestTheFaceAsDesigned(t *testing.T) {
	pgtest.SkipBehindPooler(t, "the options are the defaults")
	skipHostile(t, "a transaction that does not say that it writes cannot append with default_transaction_read_only")
	db := pgtest.NewDatabase(t)
	require.NoError(t, eventstore.RunMigrations(db)) // only where no pupsourcing tables exist yet

	eventStore := eventstore.New()
	err := orchestrator.RunMigrations(db)
	require.NoError(t, err)
	orch, err := orchestrator.New(db, eventStore, "main-projections")
	require.NoError(t, err)

	tx, err := db.Begin(t.Context())
	require.NoError(t, err)
	result, err := eventStore.Append(t.Context(), tx, es.NoStream(), []es.Event{
		{BoundedContext: "Identity", AggregateType: "User", AggregateID: "ada", EventType: "UserRegistered", Payload: []byte("ada@example.org")},
	})
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))

	handled := make(chan es.PersistedEvent)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		err := orch.Run(ctx, []projection.Projection{&UserProjection{handled}})
		ended <- err
	}()
	event := await(t, handled, "the event")
	assert.Equal(t, []int64{event.GlobalPosition}, result.GlobalPositions)
	assert.Equal(t, result.Events[0].EventID, event.EventID)
	cancel()
	require.NoError(t, await(t, ended, "Run to return"))

	ctx, cancel = context.WithCancel(t.Context())
	for key := range 3 { // the manual runner, no coordination
		processor := projection.NewPostgresProcessor(projection.ProcessorConfig{
			DB: db, EventStore: eventStore, Projection: &UserProjection{handled},
			BatchSize: 100, PartitionKey: key, TotalPartitions: 3,
		})
		go func() {
			err := processor.Run(ctx)
			ended <- err
		}()
	}
	event = await(t, handled, "the event, from the partition that has it")
	assert.Equal(t, "ada@example.org", string(event.Payload))
	cancel()
	for range 3 {
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-handled:
			require.FailNow(t, "two partitions handled the event")
		case <-time.After(patience):
			require.FailNow(t, "a processor does not end")
		}
	}
}

// es.Any and es.Exact are the other expectations.
func TestExpectedVersions(t *testing.T) {
	w := newWorld(t)
	event := []es.Event{{BoundedContext: "Identity", AggregateType: "User", AggregateID: "ada", EventType: "Something", Payload: []byte("{}")}}
	for _, step := range []struct {
		expected es.ExpectedVersion
		ok       bool
	}{{es.Exact(1), false}, {es.NoStream(), true}, {es.NoStream(), false}, {es.Exact(1), true}, {es.Any(), true}, {es.Exact(2), false}} {
		err := w.inTx(func(tx pgx.Tx) error {
			_, err := w.store.Append(t.Context(), tx, step.expected, event)
			return err
		})
		if step.ok {
			assert.NoError(t, err, step.expected)
		} else {
			assert.Error(t, err, step.expected)
		}
	}
	assert.Equal(t, "3", w.value("SELECT count(*) FROM events"))
}
