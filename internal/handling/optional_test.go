package handling_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// plain has no optional interface.
type plain struct{}

func (plain) Name() string                                            { return "plain" }
func (plain) Handle(context.Context, pgx.Tx, es.PersistedEvent) error { return nil }

// rich has all of them.
type rich struct {
	projection.BatchOnly
	batches *int
}

func (rich) Name() string              { return "rich" }
func (rich) AggregateTypes() []string  { return []string{"Order"} }
func (rich) BoundedContexts() []string { return []string{"Sales"} }
func (rich) Unpartitioned() bool       { return true }
func (rich) Replaces() string          { return "poor" }
func (r rich) Reset(context.Context, pgx.Tx) error {
	*r.batches = 0
	return nil
}

func (r rich) HandleBatch(_ context.Context, _ pgx.Tx, events []es.PersistedEvent) error {
	*r.batches += len(events)
	return nil
}

// logged is the obvious wrapper.
type logged struct{ projection.Projection }

func (l logged) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	return l.Projection.Handle(ctx, tx, event)
}

// unwrapped is a wrapper as it is documented.
type unwrapped struct{ inner projection.Projection }

func (u unwrapped) Name() string { return "around-" + u.inner.Name() }
func (u unwrapped) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	return u.inner.Handle(ctx, tx, event)
}
func (u unwrapped) Unwrap() projection.Projection { return u.inner }

// narrowed is a wrapper that has an opinion of its own.
type narrowed struct{ unwrapped }

func (narrowed) AggregateTypes() []string { return []string{"Shipment"} }
func (narrowed) Unpartitioned() bool      { return false }

// describe is what projections are asked.
func describe(p projection.Projection) (handling.Description, error) {
	return handling.Describe[projection.Wrapper, projection.ErrorPolicied](p)
}

func TestResolveLeavesAnOrdinaryProjectionAlone(t *testing.T) {
	t.Parallel()
	for _, p := range []projection.Projection{plain{}, &plain{}, rich{}, &rich{}, logged{plain{}}, &logged{&plain{}}} {
		d, err := describe(p)
		require.NoError(t, err)
		assert.Equal(t, p, d.Projection)
	}
}

func TestResolveHonoursWhatAWrapperLacks(t *testing.T) {
	t.Parallel()
	batches := 0
	d, err := describe(unwrapped{unwrapped{rich{batches: &batches}}})
	require.NoError(t, err)
	assert.Equal(t, "around-around-rich", d.Name)
	assert.Equal(t, handling.Scope{AggregateTypes: []string{"Order"}, BoundedContexts: []string{"Sales"}}, d.Scope)
	assert.True(t, d.Unpartitioned)
	batch, ok := d.Projection.(handling.BatchHandler)
	require.True(t, ok)
	require.NoError(t, batch.HandleBatch(t.Context(), nil, make([]es.PersistedEvent, 3)))
	assert.Equal(t, 3, batches)
	assert.True(t, d.Resettable)
	assert.Equal(t, "poor", d.Replaces)
	require.NoError(t, handling.Emptying(d.Projection).Handle(t.Context(), nil, es.PersistedEvent{}))
	assert.Zero(t, batches)

	d, err = describe(narrowed{unwrapped{rich{}}})
	require.NoError(t, err)
	assert.Equal(t, handling.Scope{AggregateTypes: []string{"Shipment"}, BoundedContexts: []string{"Sales"}}, d.Scope)
	assert.False(t, d.Unpartitioned)

	d, err = describe(unwrapped{plain{}})
	require.NoError(t, err)
	assert.Equal(t, handling.Scope{}, d.Scope)
	_, ok = d.Projection.(handling.BatchHandler)
	assert.False(t, ok)
	assert.False(t, d.Resettable)
	assert.Empty(t, d.Replaces)
	require.ErrorContains(t, handling.Emptying(d.Projection).Handle(t.Context(), nil, es.PersistedEvent{}), "no method Reset")
}

// Each of these is a projection that somebody wrote and that would lose events, or their order.
type (
	wrongBatch    struct{ plain }
	wrongTypes    struct{ plain }
	wrongContexts struct{ plain }
	wrongDivision struct{ plain }
	wrongReset    struct{ plain }
	wrongReplaces struct{ plain }
	wrongUnwrap   struct{ plain }
	wrongReceiver struct{ plain }
	emptyWrapper  struct{ plain }
	circularWrap  struct{ plain }
	hidingField   struct {
		plain
		inner rich //nolint:unused // its methods are what is hidden
	}
	hidingPointer struct {
		plain
		inner projection.Projection
	}
)

func (wrongBatch) HandleBatch(context.Context, pgx.Tx, []*es.PersistedEvent) error { return nil }
func (wrongTypes) AggregateTypes() string                                          { return "Order" }
func (wrongContexts) BoundedContexts(context.Context) []string                     { return nil }
func (wrongDivision) Unpartitioned() (bool, error)                                 { return true, nil }
func (wrongReset) Reset()                                                          {}
func (wrongReplaces) Replaces() []string                                           { return nil }
func (wrongUnwrap) Unwrap() any                                                    { return nil }
func (*wrongReceiver) Unpartitioned() bool                                         { return true }
func (emptyWrapper) Unwrap() projection.Projection                                 { return (*plain)(nil) }
func (c circularWrap) Unwrap() projection.Projection                               { return c }

func TestResolveRefusesWhatWouldBeLost(t *testing.T) {
	t.Parallel()
	for expected, p := range map[string]projection.Projection{
		"HandleBatch of handling_test.wrongBatch has the signature HandleBatch(context.Context, pgx.Tx, []*es.PersistedEvent) error, which is never called: " +
			"it must be HandleBatch(context.Context, pgx.Tx, []es.PersistedEvent) error": wrongBatch{},
		"it must be AggregateTypes() []string":  wrongTypes{},
		"it must be BoundedContexts() []string": &wrongContexts{},
		"it must be Unpartitioned() bool":       wrongDivision{},
		"Reset of handling_test.wrongReset has the signature Reset(), which is never called: it must be Reset(context.Context, pgx.Tx) error": wrongReset{},
		"it must be Replaces() string":                                                     wrongReplaces{},
		"it must be Unwrap() projection.Projection":                                        wrongUnwrap{},
		"has Unpartitioned with a pointer receiver, so it is never called: pass a pointer": wrongReceiver{},
		"must not return nil":                                                              emptyWrapper{},
		"does Unwrap return the projection itself?":                                        circularWrap{},
		"handling_test.logged hides the method AggregateTypes of the handling_test.rich in its field Projection": logged{rich{}},
		"*handling_test.logged hides the method":                                       &logged{&rich{}},
		"hides the method AggregateTypes of the handling_test.rich in its field inner": hidingField{},
		"of the *handling_test.rich in its field inner":                                &hidingPointer{inner: &rich{}},
		"handling_test.logged hides the method ":                                       unwrapped{logged{rich{}}},
	} {
		_, err := describe(p)
		assert.ErrorContains(t, err, expected)
	}
	_, err := describe(&wrongReceiver{})
	assert.NoError(t, err)
}

func TestBatchOnlyExplainsItself(t *testing.T) {
	t.Parallel()
	assert.ErrorIs(t, rich{}.Handle(t.Context(), nil, es.PersistedEvent{}), projection.ErrBatchOnly)
}
