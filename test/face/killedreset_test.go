package face

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/child"
)

// Kinds of children that are killed in a reset.
const (
	resettingWorker = "resetting worker"
	resettingCaller = "resetting caller"
)

// markBegin is a statement from which on a worker's statements are counted.
const markBegin = "SELECT 'the reset begins'"

// deathRow kills its own process before the statement of a number that it sends, or after it has sent the last one.
type deathRow struct {
	at     int64
	armed  atomic.Bool // all connections; a worker's are armed by markBegin
	passed atomic.Int64
}

// watched is a connection whose statements are counted. Only one goroutine writes at a time.
type watched struct {
	net.Conn
	row   *deathRow
	armed bool
}

func (d *deathRow) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &watched{Conn: conn, row: d}, nil
}

// pass counts a moment, and ends the process at the one that was chosen.
func (d *deathRow) pass(before func()) {
	if d.passed.Add(1)-1 == d.at {
		before()
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// Write sends messages: https://www.postgresql.org/docs/current/protocol-message-formats.html. A moment is before each Execute and Query, and after all.
func (c *watched) Write(b []byte) (int, error) {
	c.armed = c.armed || c.row.armed.Load() || bytes.Contains(b, []byte(markBegin))
	if !c.armed || len(b) == 0 || b[0] == 0 { // 0: the message that begins a session has no type
		return c.Conn.Write(b)
	}
	for at := 0; at+5 <= len(b); at += 1 + int(binary.BigEndian.Uint32(b[at+1:])) {
		if kind := b[at]; kind == 'E' || kind == 'Q' {
			c.row.pass(func() { _, _ = c.Conn.Write(b[:at]) })
		}
	}
	n, err := c.Conn.Write(b)
	c.row.pass(func() {})
	return n, err
}

// resettingChild runs a child that is to die in the reset of a projection: its kind is followed by the moment and the projection.
func resettingChild(ctx context.Context, task task) error {
	kind := task.Kind
	fields := strings.Fields(strings.TrimPrefix(strings.TrimPrefix(kind, resettingWorker), resettingCaller))
	at, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return err
	}
	row, name := &deathRow{at: at}, fields[1]
	config, err := pgxpool.ParseConfig(task.Database)
	if err != nil {
		return err
	}
	config.ConnConfig.DialFunc = row.dial
	if strings.HasPrefix(kind, resettingCaller) {
		config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec // fewer moments: each statement is one
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	if strings.HasPrefix(kind, resettingCaller) {
		a, err := admin.New(pool, eventstore.New(), "callers")
		if err != nil {
			return err
		}
		if _, err := a.Snapshot(ctx); err != nil { // the tables are found
			return err
		}
		row.armed.Store(true)
		return a.ResetWith(ctx, name, admin.Start(), "", emptyHandled(name))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	orch, err := orchestrator.New(pool, eventstore.New(), name, orchestrator.WithLogger(slog.New(slog.DiscardHandler)), orchestrator.WithPollInterval(20*time.Millisecond))
	if err != nil {
		return err
	}
	return orch.Run(ctx, []projection.Projection{beginsReset{rebuildable{recorder: recorder{name: name}}}})
}

// beginsReset says when its reset begins.
type beginsReset struct{ rebuildable }

func (b beginsReset) Reset(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, markBegin); err != nil {
		return err
	}
	return b.rebuildable.Reset(ctx, tx)
}

// A process that resets a projection is killed with -9 before each statement that it sends, and after each time that it has sent some. All of the reset has happened
// then, or nothing.
func TestAResetWhoseProcessIsKilled(t *testing.T) {
	directOnly(t)
	const atOnce = 6
	w := newWorld(t)
	w.troubled = true
	w.appendInTurn(2, "ada", "grace", "alan", "kurt")
	for _, kind := range []string{resettingCaller, resettingWorker} {
		t.Run(kind, func(t *testing.T) {
			undone, done := 0, 0
			for first := 0; done < atOnce; first += atOnce {
				done = 0
				var names []string
				var projections []projection.Projection
				for at := range atOnce {
					names = append(names, fmt.Sprintf("%s-%d", strings.Fields(kind)[1], first+at))
					projections = append(projections, recorder{name: names[at]})
				}
				if kind == resettingCaller {
					r := start(t, w.orchestrator("callers"), projections...)
					for _, name := range names {
						w.awaitHandled(name, 8)
						w.await("8", "SELECT min(position) FROM orchestrator_checkpoints WHERE projection = $1", name)
					}
					require.NoError(t, r.stop())
				}
				var children []*child.Process
				for at, name := range names {
					children = append(children, spawn(t, fmt.Sprintf("%s %d %s", kind, first+at, name), w.db.Config().ConnString()))
				}
				for at, name := range names {
					if kind == resettingWorker {
						w.awaitHandled(name, 8)
						w.await("running", "SELECT state FROM orchestrator_workers WHERE replica_set = $1", name)
						w.resetUntil(name, children[at])
					}
					await(t, children[at].Done(), "the child to end")
					assert.Equal(t, "0", w.value(strings.ReplaceAll(inconsistent, "'p'", "'"+name+"'")), "%s at %d", kind, first+at)
					if w.value("SELECT count(*) FROM orchestrator_operations WHERE projection = $1 AND state = 'done'", name) == "1" {
						done++
						continue
					}
					undone++
					assert.Equal(t, "8 8 8", w.value(`SELECT min(position), max(position), (SELECT count(*) FROM handled WHERE projection = $1)
						FROM orchestrator_checkpoints WHERE projection = $1`, name), "%s at %d", kind, first+at)
				}
			}
			assert.Greater(t, undone, 8)
			t.Logf("%s: killed at %d moments before the reset had happened", kind, undone)
		})
	}
}

// resetUntil asks for a reset until it is done, or the child has ended.
func (w *world) resetUntil(name string, c *child.Process) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.patiently())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- w.admin(name).Reset(ctx, name, admin.Start(), "") }()
	select {
	case err := <-done:
		require.NoError(w.t, err)
		kill(c)
	case <-c.Done():
		cancel()
		if err := <-done; err != nil {
			require.ErrorIs(w.t, err, context.Canceled)
		}
	}
}
