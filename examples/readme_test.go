package examples

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// varies is what is not the same in each run: times, numbers of statements, positions, ports.
var varies = regexp.MustCompile(`\d+ ms|at position \d+|\d+ statements|127\.0\.0\.1:\d+|\d+\.\d+s`)

// steady is an output without what varies.
func steady(output string) []string {
	return strings.Split(strings.TrimSpace(varies.ReplaceAllString(output, "…")), "\n")
}

// shown is the output that an example's README shows: its first block without a language.
func shown(t *testing.T, example string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(example, "README.md"))
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)\n\n```\n(.+?)\n```\n").FindSubmatch(text)
	require.NotNil(t, block, "no output in the README of %s", example)
	return steady(string(block[1]))
}

// Each example prints what its README shows, when it is run again too.
func TestExamplesPrintWhatTheirReadmesShow(t *testing.T) {
	for _, example := range []string{
		"basic", "batches", "partitions", "effects", "publisher", "error-policies", "rebuild-and-cut-over", "read-your-own-writes", "migration", "metrics-and-tracing", "database-sql",
	} {
		t.Run(example, func(t *testing.T) {
			t.Parallel()
			p := start(t, build(t, example), "DATABASE_URL="+pgtest.NewDSN(t))
			require.Zero(t, p.wait())
			assert.Equal(t, shown(t, example), steady(p.stdout.String()))
		})
	}
}

func TestGracefulShutdown(t *testing.T) {
	t.Parallel()
	p := start(t, build(t, "graceful-shutdown"), "DATABASE_URL="+pgtest.NewDSN(t))
	p.expect("^writing a report$")
	p.interrupt()
	require.Zero(t, p.wait())
	assert.Equal(t, shown(t, "graceful-shutdown"), steady(p.stdout.String()))
}

// The tests of the example testing pass as its README shows, and are skipped where there is no server.
func TestTesting(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "invoices.test")
	require.NoError(t, goIn("testing", []string{"test", "-c", "-o", binary}))
	test := func(url string) []string {
		command := exec.CommandContext(t.Context(), binary, "-test.v")
		command.Env = append(os.Environ(), "TEST_DATABASE_URL="+url)
		output, err := command.CombinedOutput()
		require.NoError(t, err, "%s", output)
		return regexp.MustCompile(`(?m)^--- .*$`).FindAllString(string(output), -1)
	}
	assert.Equal(t, shown(t, "testing"), steady(strings.Join(test(pgtest.NewDSN(t)), "\n")))
	for _, line := range test("") {
		assert.Contains(t, line, "SKIP")
	}
}
