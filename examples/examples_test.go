// Package examples holds no code, only the tests that run the examples below it
// as a reader would: built, against a database, ended by Ctrl-C.
package examples

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { os.Exit(inDirectory(m)) }

// inDirectory runs the tests with a directory for the examples' programs.
func inDirectory(m *testing.M) (code int) {
	var err error
	if programs, err = os.MkdirTemp("", "examples"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(programs)
	return pgtest.RunMain(m)
}

// patience bounds every wait.
const patience = time.Minute

func TestBasic(t *testing.T) {
	t.Parallel()
	binary := build(t, "basic")

	t.Run("goes on where it stopped", func(t *testing.T) {
		t.Parallel()
		dsn := pgtest.NewDSN(t)
		for run := range 2 {
			example := start(t, binary, "DATABASE_URL="+dsn)
			example.expect(`^handling UserRegistered at position \d+$`)
			example.expect(`^handling UserRenamed at position \d+$`)
			example.expect(`^read model: Ada Lovelace, renamed 1 time`)
			example.expect(`^stopped$`)
			require.Zero(t, example.wait())
			assert.Equal(t, run+1, query[int](t, dsn, "SELECT count(*)::int FROM example_users WHERE renamed = 1"))
			assert.Zero(t, query[int](t, dsn, "SELECT count(*)::int FROM example_users WHERE renamed <> 1"))
		}
	})
	t.Run("two processes share the stream", func(t *testing.T) {
		t.Parallel()
		dsn := pgtest.NewDSN(t)
		for _, example := range []*process{start(t, binary, "DATABASE_URL="+dsn), start(t, binary, "DATABASE_URL="+dsn)} {
			example.expect(`^read model: Ada Lovelace, renamed 1 time`)
			require.Zero(t, example.wait())
		}
		assert.Equal(t, 2, query[int](t, dsn, "SELECT count(*)::int FROM example_users WHERE renamed = 1"))
	})
	t.Run("ends at Ctrl-C", func(t *testing.T) {
		t.Parallel()
		example := start(t, binary, "DATABASE_URL="+pgtest.NewDSN(t))
		example.expectLog("joining the replica set")
		example.interrupt()
		example.expect(`^stopped$`)
		require.Zero(t, example.wait())
	})
	t.Run("says that it needs a database", func(t *testing.T) {
		t.Parallel()
		example := start(t, binary, "DATABASE_URL=")
		require.Equal(t, 1, example.wait())
		example.expectLog("set DATABASE_URL")
	})
}

func TestMultipleReplicaSets(t *testing.T) {
	t.Parallel()
	binary := build(t, "multiple-replica-sets")

	t.Run("run in one process", func(t *testing.T) {
		t.Parallel()
		t.Cleanup(http.DefaultClient.CloseIdleConnections)
		dsn := pgtest.NewDSN(t)
		example := start(t, binary, "DATABASE_URL="+dsn, "METRICS_ADDRESS=127.0.0.1:0")
		url := strings.TrimPrefix(example.expect(`^metrics at http://`), "metrics at ")
		example.expect(`^example-users: Grace registered$`)
		example.expect(`^example-statistics: counting \d registrations$`)
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			served := get(c, url)
			assert.Contains(c, served, `pupsourcing_orchestrator_events_handled_total{projection="example_user_table",replica_set="example-users"} 3`)
			assert.Contains(c, served, `pupsourcing_orchestrator_events_handled_total{projection="example_registrations",replica_set="example-statistics"} 3`)
		}, patience, 50*time.Millisecond)

		example.interrupt()
		example.expect(`^stopped$`)
		require.Zero(t, example.wait())
		assert.Subset(t, steady(example.stdout.String()), shown(t, "multiple-replica-sets"))
		assert.Equal(t, 3, query[int](t, dsn, "SELECT count(*)::int FROM example_user_table"))
		assert.Equal(t, 3, query[int](t, dsn, "SELECT sum(users)::int FROM example_registrations"))
		assert.Equal(t, 2, query[int](t, dsn, "SELECT count(*)::int FROM orchestrator_workers WHERE state = 'stopped'"))
	})
	t.Run("end together when one task fails", func(t *testing.T) {
		t.Parallel()
		example := start(t, binary, "DATABASE_URL="+pgtest.NewDSN(t), "METRICS_ADDRESS=127.0.0.1:not-a-port")
		require.Equal(t, 1, example.wait())
		example.expectLog("multiple-replica-sets: .*not-a-port")
	})
}
