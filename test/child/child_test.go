package child

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	Serve(func(ctx context.Context, task string) error {
		fmt.Println("begun", task)
		if task == "fails" {
			return errors.New("no luck")
		}
		<-ctx.Done()
		return ctx.Err()
	})
	os.Exit(m.Run())
}

// begun is a child that has begun its task.
func begun(t *testing.T, task string, o Options) *Process {
	t.Helper()
	o.Answers = true
	p, err := Start(task, o)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = p.Kill()
		_ = p.Outcome()
		require.NoError(t, p.Out.Close())
	})
	line, err := bufio.NewReader(p.Out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "begun "+task+"\n", line)
	return p
}

func TestChildrenEndAsTheyShould(t *testing.T) {
	for name, test := range map[string]struct {
		task string
		end  func(*Process) error
		code int // -1: a signal has ended it
		says string
	}{
		"it fails":           {"fails", func(*Process) error { return nil }, ExitFailed, "no luck"},
		"it is asked to end": {"waits", (*Process).Terminate, 0, ""},
		"it is killed":       {"waits", (*Process).Kill, -1, ""},
		"its parent is gone": {"waits", func(p *Process) error { return p.In.Close() }, ExitOrphaned, "is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			var says bytes.Buffer
			p := begun(t, test.task, Options{Through: []string{"env"}, Stderr: &says})
			require.NoError(t, test.end(p))
			code := 0
			if exit, ended := errors.AsType[*exec.ExitError](p.Outcome()); ended {
				code = exit.ExitCode()
			}
			assert.Equal(t, test.code, code)
			assert.Contains(t, says.String(), test.says)
			assert.True(t, p.Ended())
			require.ErrorIs(t, p.Kill(), os.ErrProcessDone)
		})
	}
}
