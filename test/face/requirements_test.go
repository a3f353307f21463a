package face

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// documentedGrants is the SQL of the section on rights in docs/rights.md.
func documentedGrants(t *testing.T) string {
	t.Helper()
	return documentedSQL(t, "rights.md", "## Rights")
}

// documentedText is a page of docs. test/mutants runs tests in a directory of their own, so the document is found from this file.
func documentedText(t *testing.T, page string) string {
	t.Helper()
	_, file, _, known := runtime.Caller(0)
	require.True(t, known)
	document, err := os.ReadFile(filepath.Join(filepath.Dir(file), "..", "..", "docs", page))
	require.NoError(t, err)
	return string(document)
}

// documentedSQL is the first SQL of a section of a page of docs.
func documentedSQL(t *testing.T, page, heading string) string {
	t.Helper()
	_, section, found := strings.Cut(documentedText(t, page), heading)
	require.True(t, found)
	_, sql, found := strings.Cut(section, "```sql")
	require.True(t, found)
	sql, _, found = strings.Cut(sql, "```")
	require.True(t, found)
	return sql
}

func TestTheDocumentedGrantsSuffice(t *testing.T) {
	pgtest.SkipBehindPooler(t, "the roles that connect are its own")
	w := newWorld(t)
	worker, writer := w.role("worker", ""), w.role("writer", "")
	sql := regexp.MustCompile(`\bworker\b`).ReplaceAllString(documentedGrants(t), worker)
	w.exec(regexp.MustCompile(`\bwriter\b`).ReplaceAllString(sql, writer))
	w.exec("GRANT ALL ON handled TO " + worker + "; GRANT ALL ON SEQUENCE handled_nth_seq TO " + worker)

	appending := w.as(writer)
	for range 2 { // the second finds the aggregate's head
		require.NoError(t, pgx.BeginTxFunc(t.Context(), appending, readWrite, func(tx pgx.Tx) error {
			_, err := w.store.Append(t.Context(), tx, es.Any(), []es.Event{{
				BoundedContext: "Identity", AggregateType: "User", AggregateID: "ada", EventType: "Something", Payload: []byte("{}"),
			}})
			return err
		}))
	}
	w.workers = w.as(worker)
	g := &gate{position: 2, fail: func() error { return errBad }}
	r := start(t, w.orchestrator("set"), recorder{name: "users", before: g.check})
	w.await("retrying", "SELECT max(state) FROM orchestrator_dead_letters")
	g.opened.Store(true)
	w.awaitHandled("users", 2)
	require.NoError(t, r.stop())
	assert.NotContains(t, w.logs.String(), "42501", "a right is missing")
}

// What an operator reads of each change: that it has begun and why, and that it is over.
func TestTwoLinesOfLogForEachChange(t *testing.T) {
	w := newWorld(t)
	first := start(t, w.orchestrator("set"), recorder{name: "users"})
	w.awaitRunning("set", 1)
	from := len(w.logs.String())
	other := *w
	other.logs = newLogs()
	second := start(t, other.orchestrator("set"), recorder{name: "users"})
	w.awaitRunning("set", 2)
	require.NoError(t, second.stop())
	w.await("3 active", "SELECT number, state FROM orchestrator_generations WHERE state <> 'superseded'")
	w.awaitRunning("set", 1)
	require.NoError(t, first.stop())
	lines := strings.Split(w.logs.String()[from:], "\n")
	counts := map[string]int{}
	for _, line := range lines {
		for _, generation := range []string{"2", "3"} {
			if strings.Contains(line, "level=INFO") && strings.Contains(line, " generation="+generation+" ") {
				counts[generation]++
			}
		}
	}
	assert.Equal(t, map[string]int{"2": 2, "3": 2}, counts, w.logs.String()[from:])
}
