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
)

// taskVariable makes the test binary do one of runTask's tasks instead of testing.
const taskVariable = "PGTEST_TASK"

// runTask starts a child, prints "<the child's pid> <its directory>" and then waits to be killed, or for the end of its input.
func runTask(task string) int {
	switch task {
	case "server":
		c, err := Start(context.Background(), Options{})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println(c.server.pid, c.home.dir)
	case "watchdog":
		child := exec.Command("sleep", "600")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if _, err := watchdog(child.Process.Pid); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println(child.Process.Pid, "-")
	}
	_, _ = os.Stdin.Read(make([]byte, 1))
	return 0
}

// startTask runs a task in another process, and returns a function that kills it, the pid of its child and its directory.
func startTask(t *testing.T, task string) (kill func(), pid int, dir string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), taskVariable+"="+task)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	first, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
	pid, err = strconv.Atoi(first)
	require.NoError(t, err)
	require.True(t, alive(pid))
	return func() { require.NoError(t, cmd.Process.Kill()) }, pid, dir
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
	require.NoError(t, os.Chtimes(dir, old, old))
	sweep(filepath.Dir(dir))
	require.NoDirExists(t, dir)
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
