package es_test

import (
	"database/sql"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

func TestAResultSaysWhichVersionsItSpans(t *testing.T) {
	t.Parallel()
	stored := func(versions ...int64) []es.PersistedEvent {
		events := make([]es.PersistedEvent, len(versions))
		for i, v := range versions {
			events[i].AggregateVersion = v
		}
		return events
	}
	tests := []struct {
		name     string
		events   []es.PersistedEvent
		from, to int64
	}{
		{"nothing stored", nil, 0, 0},
		{"the first event", stored(1), 0, 1},
		{"several events of a new aggregate", stored(1, 2, 3), 0, 3},
		{"events of an older aggregate", stored(8, 9), 7, 9},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			result := es.AppendResult{Events: tt.events}
			assert.Equal(t, tt.from, result.FromVersion())
			assert.Equal(t, tt.to, result.ToVersion())
			stream := es.Stream{Events: tt.events}
			assert.Equal(t, tt.to, stream.Version())
			assert.Equal(t, len(tt.events), stream.Len())
			assert.Equal(t, len(tt.events) == 0, stream.IsEmpty())
		})
	}
}

func TestANullStringIsTheStandardLibrarys(t *testing.T) {
	t.Parallel()
	assert.Equal(t, sql.NullString{String: "x", Valid: true}, es.String("x"))
	assert.True(t, es.String("").Valid, "an empty text is not an absent one")
	assert.False(t, es.NullString{}.Valid)
}

// Code written against pupsourcing builds these values by field name, and what
// an event has before it is stored it keeps afterwards.
func TestAPersistedEventHasEveryFieldOfAnEvent(t *testing.T) {
	t.Parallel()
	persisted := reflect.TypeFor[es.PersistedEvent]()
	for field := range reflect.TypeFor[es.Event]().Fields() {
		same, ok := persisted.FieldByName(field.Name)
		assert.True(t, ok, "PersistedEvent lacks %s", field.Name)
		assert.Equal(t, field.Type, same.Type, field.Name)
	}
	for _, added := range []string{"AggregateVersion", "GlobalPosition"} {
		_, ok := persisted.FieldByName(added)
		assert.True(t, ok, added)
	}
}
