package face

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/cli"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// previewedCommands are those whose dry run fails where the command itself would.
var previewedCommands = []string{"projections reset", "projections reset --checkpoints-only", "projections move", "projections cut-over", "import-checkpoints"}

// command runs the command line in this process, as a role, and returns its exit code and what it printed on both streams.
func (w *world) command(role string, args ...string) (code int, out, says string) {
	w.t.Helper()
	var stdout, stderr bytes.Buffer
	config := w.config()
	if role != "" {
		config.ConnConfig.User, config.ConnConfig.Password = role, "pw"
	}
	code = cli.Run(w.t.Context(), args, cli.Config{
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" },
		Connect: func(ctx context.Context) (*pgxpool.Pool, error) { return pgxpool.NewWithConfig(ctx, config) },
	})
	return code, stdout.String(), stderr.String()
}

// commandRights are the rights of docs/command-line.md that each command needs beside those of a reader: "SELECT ON events".
func commandRights(t *testing.T) map[string][]string {
	t.Helper()
	_, table, found := strings.Cut(documentedText(t, "command-line.md"), "| command | rights, beside those of a reader |")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n\n")
	quoted := regexp.MustCompile("`([^`]+)`")
	of := map[string][]string{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 {
			continue
		}
		var rights []string
		for _, right := range quoted.FindAllStringSubmatch(cells[2], -1) {
			privileges, object, _ := strings.Cut(right[1], " ON ")
			rights = append(rights, onEach(strings.Split(privileges, ", "), object)...)
		}
		for _, name := range quoted.FindAllStringSubmatch(cells[1], -1) {
			of[name[1]] = rights
		}
	}
	return of
}

// Each command succeeds with the rights that are documented for it. Without one of them it fails with the exit code 1, names the GRANT, and changes nothing.
func TestEachCommandNeedsItsRightsOnly(t *testing.T) {
	pgtest.SkipBehindPooler(t, "the roles that connect are its own")
	w := withEffects(newWorld(t))
	var repaired atomic.Bool
	fails := breakable(func(e es.PersistedEvent) error {
		if !repaired.Load() && strings.HasPrefix(e.AggregateID, "poison") {
			return errors.New("no")
		}
		return nil
	})
	w.append("ada", 3)
	w.append("poison", 2)
	w.append("poison too", 2)
	w.manually("manual", 0, 2, w.lastPosition())
	moved := start(t, w.named("first"), recorder{name: "moved"})
	w.awaitHandled("moved", 7)
	require.NoError(t, moved.stop())
	projections := []projection.Projection{
		rebuildable{recorder: recorder{name: "p"}}, recorder{name: "parks", before: fails}, oldVersion(), newVersion(),
	}
	parks := orchestrator.WithErrorPolicyFor("parks", projection.ErrorPolicy{Attempts: 1, Then: projection.Park})
	one, two := start(t, w.named("first", parks), projections...), start(t, w.named("second", parks), projections...)
	w.awaitRunning("set", 2)
	w.await("2 4", "SELECT count(*), sum(letters)::text FROM orchestrator_parked_aggregates")
	w.awaitHandled("p2", 7)
	for _, name := range []string{"p", "p1", "p2"} {
		w.await("7", "SELECT min(position) FROM orchestrator_checkpoints WHERE projection = $1", name)
	}
	w.exec("REVOKE ALL ON SCHEMA public FROM PUBLIC")

	documented := commandRights(t)
	for i, act := range []struct {
		needs   string // as documented; empty for the rights of a reader
		command string
		before  func() // makes the command possible; nil for nothing
	}{
		{command: "status"},
		{command: "lag"},
		{command: "generations"},
		{command: "explain 1"},
		{command: "timeline"},
		{command: "verify"},
		{command: "workers list"},
		{command: "projections list"},
		{command: "dead-letters list"},
		{command: "dead-letters groups"},
		{command: "dead-letters show 4"},
		{command: "migrate status"},
		{"projections pause", "projections pause p", nil},
		{"projections resume", "projections resume p", nil},
		{"projections reset", "projections reset p --yes --wait", nil},
		{command: "projections rebuild p"},
		{command: "projections wait p"},
		{"projections reset --checkpoints-only", "projections reset moved --checkpoints-only --to 7 --yes", nil},
		{"projections move", "projections move moved --to others --yes", nil},
		{"projections cut-over", "projections cut-over p1 p2 --yes", nil},
		{"dead-letters cancel", "dead-letters cancel 1000", func() {
			w.exec(`INSERT INTO orchestrator_operations (id, replica_set, projection, kind, arguments, actor, reason, state)
				OVERRIDING SYSTEM VALUE VALUES (1000, 'set', 'p', 'retry', '{}', 'anna', '', 'waiting')`)
		}},
		{"dead-letters try", "dead-letters try", func() { repaired.Store(true) }},
		{"dead-letters retry", "dead-letters retry --aggregate-id poison", nil},
		{"dead-letters discard", "dead-letters discard --all --yes", nil},
		{"workers drain", "workers drain first", nil},
		{"workers undrain", "workers undrain first", nil},
		{"import-checkpoints", "import-checkpoints manual --yes", nil},
	} {
		t.Run(act.command, func(t *testing.T) {
			role := w.role(fmt.Sprintf("operator%d", i), "")
			w.exec(regexp.MustCompile(`\breader\b`).ReplaceAllString(documentedSQL(t, "operating.md", "## See everything at once"), role))
			rights, known := documented[act.needs]
			require.Equal(t, act.needs != "", known, "docs/command-line.md documents the rights of %q", act.needs)
			if act.before != nil {
				act.before()
			}
			previewed := slices.Contains(previewedCommands, act.needs)
			run := func() error {
				line := append([]string{"-r", "set"}, strings.Fields(act.command)...)
				dry, why := 0, ""
				if previewed {
					dry, _, why = w.command(role, append(slices.Clone(line), "--dry-run")...)
				}
				code, _, says := w.command(role, line...)
				if previewed {
					require.Equal(t, code, dry, "a dry run needs the same rights: %s", why)
				}
				if code == 0 {
					return nil
				}
				require.Equal(t, 1, code, says)
				return errors.New(says)
			}
			for _, right := range rights {
				w.exec("GRANT " + right + " TO " + role)
			}
			before := w.value("SELECT count(*), coalesce(max(id), 0) FROM orchestrator_operations")
			missing := slices.Clone(rights)
			if act.needs == "" {
				missing = []string{"SELECT ON orchestrator_schema_version", "USAGE ON SCHEMA public"}
				if !strings.HasPrefix(act.command, "migrate") {
					missing = append(missing, "SELECT ON orchestrator_checkpoints")
				}
			}
			eachRight(t, w, role, missing, run)
			assert.Equal(t, before, w.value("SELECT count(*), coalesce(max(id), 0) FROM orchestrator_operations"), "what was refused left nothing")
			require.NoError(t, run())
			delete(documented, act.needs)
		})
	}
	assert.Empty(t, documented, "commands whose documented rights nothing has tested")
	require.NoError(t, errors.Join(one.stop(), two.stop()))
}
