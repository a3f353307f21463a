package pgtest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/child"
)

// runTask starts a process, prints "<its pid> <its directory>" and then waits to be killed.
func runTask(ctx context.Context, task string) error {
	switch task {
	case "server":
		c, err := Start(ctx, Options{})
		if err != nil {
			return err
		}
		fmt.Println(c.server.pid, c.home.dir)
	case "watchdog":
		sleeping := exec.Command("sleep", "600")
		sleeping.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := sleeping.Start(); err != nil {
			return err
		}
		if _, err := watchdog(sleeping.Process.Pid); err != nil {
			return err
		}
		fmt.Println(sleeping.Process.Pid, "-")
	}
	<-ctx.Done()
	return nil
}

// startTask runs a task in another process, and returns a function that kills it, the pid of what it has started and its directory.
func startTask(t *testing.T, task string) (kill func(), pid int, dir string) {
	t.Helper()
	c, err := child.Start(task, child.Options{Stderr: os.Stderr, Answers: true})
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = c.In.Close()
		_ = c.Outcome()
		_ = c.Out.Close()
	})
	line, err := bufio.NewReader(c.Out).ReadString('\n')
	require.NoError(t, err)
	first, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
	pid, err = strconv.Atoi(first)
	require.NoError(t, err)
	require.True(t, alive(pid))
	return func() { require.NoError(t, c.Kill()) }, pid, dir
}

func TestKilledProcessLeavesNoServer(t *testing.T) {
	kill, postmaster, dir := startTask(t, "server")
	children, err := childrenOf(postmaster)
	require.NoError(t, err)
	require.NotEmpty(t, children)
	old := time.Now().Add(-2 * youngest)
	require.NoError(t, os.Chtimes(dir, old, old))
	sweep(filepath.Dir(dir))
	require.DirExists(t, dir, "swept while its owner lives")

	kill()

	for _, pid := range append(children, postmaster) {
		require.Eventually(t, func() bool { return !alive(pid) }, patience, pollInterval, "process %d", pid)
	}
	require.NoError(t, os.Chtimes(dir, time.Now(), time.Now()))
	sweep(filepath.Dir(dir))
	require.DirExists(t, dir, "swept though it may be just being made")
	require.Eventually(t, func() bool { // a child that ends may still write there
		_ = os.Chtimes(dir, old, old)
		sweep(filepath.Dir(dir))
		_, err := os.Stat(dir)
		return os.IsNotExist(err)
	}, patience, pollInterval, "it is never swept")
}

func TestWatchdogEndsTheChildOfAKilledProcess(t *testing.T) {
	kill, child, _ := startTask(t, "watchdog")
	kill()
	require.Eventually(t, func() bool { return !alive(child) }, patience, pollInterval)
}

func TestReleasedWatchdogDoesNothing(t *testing.T) {
	child := exec.Command("cat")
	stdin, err := child.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	release, err := watchdog(child.Process.Pid)
	require.NoError(t, err)
	release()
	require.NoError(t, stdin.Close())
	assert.NoError(t, child.Wait(), "cat ended by itself, not by a signal")
}
