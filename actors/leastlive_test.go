package actors

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

func TestWhoActsWithoutSessionsIsThereAndStays(t *testing.T) {
	stale := as(ann, pgcoord.Running, 1)
	stale.HeartbeatAge = time.Hour
	for name, test := range map[string]struct {
		ann  pgcoord.Worker
		want uuid.UUID
	}{
		"running":  {as(ann, pgcoord.Running, 1), ann},
		"pending":  {as(ann, pgcoord.Pending, 0), ann},
		"stopping": {as(ann, pgcoord.Stopping, 1), bob},
		"stopped":  {as(ann, pgcoord.Stopped, 1), bob},
		"dead":     {as(ann, pgcoord.Dead, 1), bob},
		"stale":    {stale, bob},
	} {
		t.Run(name, func(t *testing.T) {
			v := sight(active(1, ann, bob), test.ann, as(bob, pgcoord.Running, 1))
			assert.Equal(t, test.want, leastLive(state{timing: decideTiming}, v))
		})
	}
}
