package docs

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// TestQuickStart runs the README's program as printed: it makes its tables,
// handles an event and ends at Ctrl-C.
func TestQuickStart(t *testing.T) {
	const patience = time.Minute
	binary := programOf(t, "README.md")
	dsn := pgtest.NewDSN(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var printed bytes.Buffer
	program := exec.CommandContext(ctx, binary)
	program.Env = append(os.Environ(), "DATABASE_URL="+dsn)
	program.Stdout, program.Stderr = &printed, &printed
	require.NoError(t, program.Start())
	ended := make(chan error, 1)
	go func() { ended <- program.Wait() }()

	db, err := pgxpool.New(ctx, dsn)
	require.NoError(t, err)
	defer db.Close()
	query := func(sql string) string {
		var value string
		_ = db.QueryRow(ctx, sql).Scan(&value) // the tables may not be there yet
		return value
	}
	require.Eventually(t, func() bool {
		return query("SELECT state FROM orchestrator_workers") == "running"
	}, patience, 20*time.Millisecond)
	require.NoError(t, pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		_, err := eventstore.New().Append(ctx, tx, es.NoStream(), []es.Event{{
			BoundedContext: "Identity", AggregateType: "User", AggregateID: "7c1a",
			EventType: "UserRegistered", Payload: []byte("ada@example.org"),
		}})
		return err
	}))
	require.Eventually(t, func() bool {
		return query("SELECT email FROM users WHERE id = '7c1a'") == "ada@example.org"
	}, patience, 20*time.Millisecond)

	require.NoError(t, program.Process.Signal(os.Interrupt))
	select {
	case err := <-ended:
		require.NoError(t, err, "%s", &printed)
	case <-ctx.Done():
		require.FailNow(t, "the program does not end")
	}
	require.Equal(t, "stopped", query("SELECT state FROM orchestrator_workers"))
}

// programOf builds the program that a document prints.
func programOf(t *testing.T, name string) (binary string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	blocks := parse(name, string(text)).blocks
	whole := slices.IndexFunc(blocks, func(b block) bool { return b.language == "go" && strings.HasPrefix(b.text, "package main") })
	require.NotEqual(t, -1, whole, "%s has no program", name)
	source, binary := filepath.Join(t.TempDir(), "main.go"), filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(source, []byte(blocks[whole].text), 0o600))
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, source).CombinedOutput()
	require.NoError(t, err, "%s", output)
	return binary
}

// TestGettingStarted does what that page says: three workers share what is sold, one is killed, and everything is counted.
func TestGettingStarted(t *testing.T) {
	const patience = time.Minute
	binary, dsn := programOf(t, "docs/getting-started.md"), pgtest.NewDSN(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	run := func(arguments ...string) *exec.Cmd {
		command := exec.CommandContext(ctx, binary, arguments...)
		command.Env = append(os.Environ(), "DATABASE_URL="+dsn)
		require.NoError(t, command.Start())
		t.Cleanup(func() {
			if command.ProcessState == nil { // the test has failed
				_ = command.Process.Kill()
				_ = command.Wait()
			}
		})
		return command
	}
	require.NoError(t, run("setup").Wait())
	sells := run("sell")
	workers := []*exec.Cmd{run(), run(), run()}
	db, err := pgxpool.New(ctx, dsn)
	require.NoError(t, err)
	defer db.Close()
	await := func(want, sql string) {
		t.Helper()
		var found string
		require.Eventually(t, func() bool {
			require.NoError(t, db.QueryRow(ctx, sql).Scan(&found))
			return found == want
		}, patience, 20*time.Millisecond, sql)
	}
	const members = "SELECT coalesce(max(cardinality(members)) FILTER (WHERE state = 'active'), 0)::text FROM orchestrator_generations"
	await("3", members)
	require.NoError(t, workers[0].Process.Kill())
	require.Error(t, workers[0].Wait())
	await("2", members)
	require.NoError(t, sells.Process.Signal(syscall.SIGTERM))
	require.NoError(t, sells.Wait())
	await("true", "SELECT (count(*) > 0 AND count(*) = (SELECT sum(orders) FROM order_counts))::text FROM events")
	for _, worker := range workers[1:] {
		require.NoError(t, worker.Process.Signal(syscall.SIGTERM))
		require.NoError(t, worker.Wait())
	}
}
