package wakeup

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// Triggers that are installed and workers of other versions depend on the names.
func TestNamesStayTheSame(t *testing.T) {
	events := []string{"public", "events"}
	assert.Equal(t, "pupsourcing_events_7193d687b69ed93b", Channel(events))
	assert.Equal(t, int64(-5450700961123774785), Key(events))
	for _, other := range [][]string{{"events"}, {"other", "events"}, {"public", "events2"}, {"publicevents"}} {
		assert.NotEqual(t, Channel(events), Channel(other))
		assert.NotEqual(t, Key(events), Key(other))
	}
}
