package replicaset

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
)

func TestWhoActsWithoutSessionsIsThereAndStays(t *testing.T) {
	stale := as(ann, Running, 1)
	stale.HeartbeatAge = time.Hour
	for name, test := range map[string]struct {
		ann  Worker
		want uuid.UUID
	}{
		"running":  {as(ann, Running, 1), ann},
		"pending":  {as(ann, Pending, 0), ann},
		"stopping": {as(ann, Stopping, 1), bob},
		"stopped":  {as(ann, Stopped, 1), bob},
		"dead":     {as(ann, Dead, 1), bob},
		"stale":    {stale, bob},
	} {
		t.Run(name, func(t *testing.T) {
			v := sight(active(1, ann, bob), test.ann, as(bob, Running, 1))
			assert.Equal(t, test.want, leastLive(State{Timing: decideTiming}, v))
		})
	}
}
