// Package transcripts runs the command line against live replica sets. Each file in testdata is what an operator types, and what comes of it.
package transcripts

import (
	"context"
	"os"
	"os/signal"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

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
