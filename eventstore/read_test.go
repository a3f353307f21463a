package eventstore

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestReadEventsReadsTheStreamInPages(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	var want []es.PersistedEvent
	for i := range 5 {
		want = append(want, mustAppend(t, s, pool, es.NoStream(), eventsOf(fmt.Sprintf("order-%d", i), 5)...).Events...)
	}
	var got []es.PersistedEvent
	from := int64(0)
	for range 4 {
		page, err := s.ReadEvents(t.Context(), pool, from, 7)
		require.NoError(t, err)
		got = append(got, page...)
		from = page[len(page)-1].GlobalPosition
	}
	assert.Equal(t, want, got)
	page, err := s.ReadEvents(t.Context(), pool, from, 7)
	require.NoError(t, err)
	assert.Empty(t, page)
	_, err = s.ReadEvents(t.Context(), pool, 0, 0)
	require.ErrorContains(t, err, "limit must be at least 1, got 0")
}

func TestReadAggregateStreamReadsARangeOfVersions(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	mustAppend(t, s, pool, es.NoStream(), eventsOf("order-1", 10)...)
	mustAppend(t, s, pool, es.NoStream(), eventsOf("order-2", 1)...)
	version := func(v int64) *int64 { return &v }
	tests := []struct {
		name     string
		id       string
		from, to *int64
		first    int64
		count    int
	}{
		{"all of it", "order-1", nil, nil, 1, 10},
		{"from a version on", "order-1", version(4), nil, 4, 7},
		{"up to a version", "order-1", nil, version(3), 1, 3},
		{"one version", "order-1", version(10), version(10), 10, 1},
		{"beyond the last", "order-1", version(11), nil, 0, 0},
		{"bounds the wrong way round", "order-1", version(5), version(4), 0, 0},
		{"an unknown aggregate", "order-3", nil, nil, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stream, err := s.ReadAggregateStream(t.Context(), pool, "sales", "Order", tt.id, tt.from, tt.to)
			require.NoError(t, err)
			assert.Equal(t, tt.id, stream.AggregateID)
			assert.Equal(t, "sales", stream.BoundedContext)
			assert.Equal(t, "Order", stream.AggregateType)
			require.Equal(t, tt.count, stream.Len())
			for i, e := range stream.Events {
				assert.Equal(t, tt.first+int64(i), e.AggregateVersion)
				assert.Equal(t, tt.id, e.AggregateID)
			}
		})
	}
}

func TestLatestPositionIsTheHighestVisibleOne(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	position, err := s.LatestPosition(t.Context(), pool)
	require.NoError(t, err)
	assert.Zero(t, position)
	result := mustAppend(t, s, pool, es.Any(), eventsOf("order-1", 3)...)
	position, err = s.LatestPosition(t.Context(), pool)
	require.NoError(t, err)
	assert.Equal(t, result.GlobalPositions[2], position)
}

func TestErrorsOfTheDatabaseAreWrapped(t *testing.T) {
	t.Parallel()
	s, pool := New(WithLogger(nil)), pgtest.NewDatabase(t)
	operations := map[string]func() error{
		"reading events after position 3": func() error {
			_, err := s.ReadEvents(t.Context(), pool, 3, 1)
			return err
		},
		`reading aggregate "c" of type "b" in context "a"`: func() error {
			_, err := s.ReadAggregateStream(t.Context(), pool, "a", "b", "c", nil, nil)
			return err
		},
		"reading the latest position": func() error {
			_, err := s.LatestPosition(t.Context(), pool)
			return err
		},
		`appending 1 events to aggregate "order-1" of type "Order" in context "sales", expecting any version`: func() error {
			_, err := tryAppend(t.Context(), s, pool, es.Any(), event("order-1"))
			return err
		},
	}
	for what, operate := range operations {
		err := operate()
		require.ErrorContains(t, err, what)
		pgErr, ok := errors.AsType[*pgconn.PgError](err)
		require.True(t, ok, what)
		assert.Equal(t, "42P01", pgErr.Code, what)
	}
}
