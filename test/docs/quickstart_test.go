package docs

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	blocks := parse("README.md", string(readme)).blocks
	whole := slices.IndexFunc(blocks, func(b block) bool { return b.language == "go" && strings.HasPrefix(b.text, "package main") })
	require.NotEqual(t, -1, whole, "the README has no program")
	source, binary := filepath.Join(t.TempDir(), "main.go"), filepath.Join(t.TempDir(), "quickstart")
	require.NoError(t, os.WriteFile(source, []byte(blocks[whole].text), 0o600))
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, source).CombinedOutput()
	require.NoError(t, err, "%s", output)

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
