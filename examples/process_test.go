package examples

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// programs is where the examples are built. TestMain makes the directory and removes it.
var programs string

// built builds all examples, once and together, under the race detector if the test is.
var built = sync.OnceValue(func() error {
	mains, err := filepath.Glob("*/main.go")
	if err != nil {
		return err
	}
	own, args := []string{}, []string{"build", "-o", programs + "/"}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	together := slices.Clone(args)
	for _, main := range mains {
		example := filepath.Dir(main)
		if _, err := os.Stat(filepath.Join(example, "go.mod")); err == nil {
			own = append(own, example)
		} else {
			together = append(together, "./"+example)
		}
	}
	err = goIn(".", together)
	for _, module := range own {
		err = errors.Join(err, goIn(module, append(args, ".")))
	}
	return err
})

func goIn(dir string, args []string) error {
	command := exec.Command("go", args...)
	command.Dir = dir
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s in %s: %w\n%s", args[0], dir, err, output)
	}
	return nil
}

// build returns an example's program.
func build(t *testing.T, example string) (binary string) {
	t.Helper()
	require.NoError(t, built())
	return filepath.Join(programs, example)
}

// process is a running example.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout lines
	stderr lines
	ended  chan error
}

// start starts a program; it is killed when the test ends.
func start(t *testing.T, binary string, environment ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	p := &process{t: t, cmd: exec.CommandContext(ctx, binary), ended: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), environment...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	require.NoError(t, p.cmd.Start())
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		p.ended <- p.cmd.Wait()
		p.stdout.close()
		p.stderr.close()
	}()
	t.Cleanup(func() {
		cancel()
		<-finished
		if t.Failed() {
			t.Logf("%s\nstdout:\n%s\nstderr:\n%s", binary, &p.stdout, &p.stderr)
		}
	})
	return p
}

// expect waits for a line on the process's standard output that matches, and
// returns it.
func (p *process) expect(pattern string) string {
	p.t.Helper()
	return p.await(&p.stdout, pattern)
}

// expectLog waits for a line on the process's standard error that matches.
func (p *process) expectLog(pattern string) {
	p.t.Helper()
	p.await(&p.stderr, pattern)
}

func (p *process) await(from *lines, pattern string) string {
	p.t.Helper()
	deadline := time.After(patience)
	matches := regexp.MustCompile(pattern)
	for {
		line, changed, found := from.find(matches)
		switch {
		case found:
			return line
		case changed == nil:
			require.FailNow(p.t, "the process ended without the line "+pattern)
		}
		select {
		case <-changed:
		case <-deadline:
			require.FailNow(p.t, "no line "+pattern)
		}
	}
}

// interrupt is Ctrl-C.
func (p *process) interrupt() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(os.Interrupt))
}

// wait waits for the process to end and returns its exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case err := <-p.ended:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			require.NoError(p.t, err)
		}
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		require.FailNow(p.t, "the process does not end")
		return -1
	}
}

// lines is a process's output so far.
type lines struct {
	mu      sync.Mutex
	written bytes.Buffer
	changed chan struct{} // closed when there is more; nil if nobody waits
	closed  bool
}

// Write takes a part of the output.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell()
	return l.written.Write(p)
}

// close says that nothing follows.
func (l *lines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.tell()
}

func (l *lines) tell() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// find looks for a whole line that matches. If there is none, changed is closed
// when there is more to look at, and nil if there will be no more.
func (l *lines) find(matches *regexp.Regexp) (line string, changed <-chan struct{}, found bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	written := l.written.Bytes()
	written = written[:bytes.LastIndexByte(written, '\n')+1]
	scanner := bufio.NewScanner(bytes.NewReader(written))
	for scanner.Scan() {
		if matches.Match(scanner.Bytes()) {
			return scanner.Text(), nil, true
		}
	}
	if l.closed {
		return "", nil, false
	}
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return "", l.changed, false
}

// String is the output so far.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.written.String()
}

// get returns what url serves.
func get(t require.TestingT, url string) string {
	response, err := http.Get(url) //nolint:noctx // the test's own server
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	return string(body)
}

// query returns the one value that a statement yields.
func query[T any](t *testing.T, dsn, statement string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))
	var value T
	require.NoError(t, conn.QueryRow(t.Context(), statement).Scan(&value))
	return value
}
