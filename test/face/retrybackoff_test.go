package face

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// A retry calls a handler that cannot reach another system. It is tried again with longer and longer delays, and ends well. Events of other aggregates do not wait
// for these delays.
func TestARetryThatCannotBeServedHoldsUpNobody(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.troubled = true // the handler's error is logged as the database's
	w.append("ada", 2)
	var class, calls atomic.Int32
	class.Store(int32(projection.ClassError))
	fail := func(_ context.Context, event es.PersistedEvent) error {
		if event.AggregateID == "ada" && class.Load() >= 0 {
			calls.Add(1)
			return errBad
		}
		return nil
	}
	policy := orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: projection.Park, Classify: func(error) projection.Class {
		return projection.Class(class.Load())
	}})
	r := start(t, w.orchestrator("set", policy), recorder{name: "p", before: fail})
	w.await("2", "SELECT letters FROM orchestrator_parked_aggregates WHERE aggregate_id = 'ada'")
	class.Store(int32(projection.ClassDatabase))
	retried := make(chan error, 1)
	go func() {
		_, err := w.admin("set").Retry(w.patiently(), admin.Filter{}, "")
		retried <- err
	}()
	fastest := time.Hour
	for n := range 3 {
		more := calls.Load() + 6 // after so many, the next delay is 0.8 s or more
		eventually(t, func() bool { return calls.Load() >= more }, func() string { return "the retry to be tried" })
		began := time.Now()
		w.append("grace", 1)
		w.awaitHandled("p", n+1)
		if fastest = min(fastest, time.Since(began)); fastest < 500*time.Millisecond {
			break
		}
	}
	assert.Less(t, fastest, 500*time.Millisecond, "a healthy event waited for the retry's delay")
	class.Store(-1)
	require.NoError(t, await(t, retried, "the retry to end"))
	w.await("0", "SELECT count(*) FROM orchestrator_parked_aggregates")
	require.NoError(t, r.stop())
	w.requireOrder("p")
}
