package measure_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestConcurrentUse records from many goroutines while the registry is scraped
// and partitions and replica sets come and go; the race detector watches. At the
// end nothing may be lost and nothing left.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	const recorders, rounds = 8, 100
	reg, m := newRegistry(t)
	lasting := m.ReplicaSet("lasting")

	var recording sync.WaitGroup
	for i := range recorders {
		recording.Go(func() {
			partition, mailbox := fmt.Sprintf("%d/%d", i, recorders), fmt.Sprintf("p%d", i)
			for range rounds {
				passing := m.ReplicaSet("passing")
				recordEverything(passing)
				lasting.EventsHandled("users", 1)
				lasting.Position("users", partition, 1)
				lasting.Notification(mailbox)
				lasting.RegisterMailbox("processor", mailbox, func() int { return 1 })
				lasting.UnregisterMailbox(mailbox)
				lasting.ForgetPartition("users", partition)
				passing.Forget()
			}
		})
	}
	stop := make(chan struct{})
	var scraping sync.WaitGroup
	scraping.Go(func() {
		for {
			if _, err := reg.Gather(); err != nil {
				t.Errorf("gathering while recording: %v", err)
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	recording.Wait()
	close(stop)
	scraping.Wait()

	require.Zero(t, labelled(t, reg, "passing"))
	requireSeries(t, reg, fmt.Sprintf(`
		events_handled_total{projection="users",replica_set="lasting"}=%d
		actors{actor="processor",replica_set="lasting"}=0`, recorders*rounds),
		"events_handled_total", "actors", "position")
	require.Len(t, gathered(t, reg, "notifications_total"), recorders+5, "and the known kinds")
}
