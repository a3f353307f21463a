// Package transcripts runs the command line against live replica sets. Each file in testdata is what an operator types, and what comes of it.
package transcripts

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/cli"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){
		"pupsourcing-orchestrator": func() { os.Exit(cli.Run(interruptible(), os.Args[1:], cli.Config{})) },
	})
}

// interruptible ends with an interrupt, as the program's context does.
func interruptible() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop)
	return ctx
}

// tests runs the tests with a server, and returns the code to exit with, as testscript has directories to remove.
type tests struct{ m *testing.M }

func (t tests) Run() int { return pgtest.RunMain(t.m) }

func TestTranscripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		Setup:               setUp,
		Cmds:                commands,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// testscript's own commands stop and skip end a script, which passes then whatever follows.
func TestNoTranscriptEndsBeforeItsEnd(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join("testdata", "*.txtar"))
	require.NoError(t, err)
	require.NotEmpty(t, scripts)
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		require.NoError(t, err)
		assert.NotRegexp(t, `(?m)^(\[[^\]]*\] *)?(stop|skip)\b`, string(text), script)
	}
}
