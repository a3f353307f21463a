// Package child runs a test program again, as a process of its own that does a task. The program's main function, or TestMain, begins with [Serve] or [Asked]. A child
// ends when the process that started it does, however that ends.
package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
)

// variable carries the task, as JSON.
const variable = "PUPSOURCING_TEST_CHILD"

// Exit codes of a child.
const (
	ExitFailed   = 1
	ExitOrphaned = 3 // the process that started it is gone
)

// Asked returns the task, if [Start] started this process as a child. The terminal's SIGINT is then for the parent, which stops its children in its own order.
// What follows must end the process by [Exit], and must notice the end of its standard input, which is the end of the parent.
func Asked[T any]() (task T, asked bool) {
	encoded, asked := os.LookupEnv(variable)
	if !asked {
		return task, false
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP)
	if err := json.Unmarshal([]byte(encoded), &task); err != nil {
		Exit(fmt.Errorf("reading the child's task: %w", err))
	}
	return task, true
}

// Serve does the task and exits, if [Start] started this process as a child. Otherwise it does nothing. ctx ends with SIGTERM.
func Serve[T any](do func(ctx context.Context, task T) error) {
	task, asked := Asked[T]()
	if !asked {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	go exitWithParent(os.Stdin)
	err := do(ctx, task)
	stop()
	Exit(err)
}

// Exit ends a child. Its error, unless its context has ended, goes to standard error.
func Exit(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "the child failed:", err)
		os.Exit(ExitFailed)
	}
	os.Exit(0)
}

// exitWithParent ends the process when the other end of the pipe, which the parent holds, is closed.
func exitWithParent(pipe io.Reader) {
	_, err := io.Copy(io.Discard, pipe)
	fmt.Fprintln(os.Stderr, "the process that started this child is gone:", err)
	os.Exit(ExitOrphaned)
}

// Options say how a child runs. The zero value discards what it writes.
type Options struct {
	// Through is a command, with its arguments, that runs the process. It must replace itself by it.
	Through []string
	// Stdout and Stderr take what the child writes.
	Stdout, Stderr io.Writer
	// Answers has [Process.Out] take what the child writes to its standard output, in place of Stdout.
	Answers bool
}

// Process is a child that was started. Its methods may be called by several goroutines.
type Process struct {
	PID int
	// In is the child's standard input. When it is closed, the child ends.
	In io.WriteCloser
	// Out is the child's standard output with Options.Answers, and nil without. It ends with the child.
	Out *os.File

	process *os.Process
	done    chan struct{} // closed when it has ended and err is set
	err     error
}

// Start starts this program again as a child with the task.
func Start(task any, o Options) (*Process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(task)
	if err != nil {
		return nil, err
	}
	command := append(slices.Clone(o.Through), program)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), variable+"="+string(encoded))
	cmd.Stdout, cmd.Stderr = o.Stdout, o.Stderr
	cmd.SysProcAttr = attributes()
	p := &Process{done: make(chan struct{})}
	if p.In, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if o.Answers {
		out, in, err := os.Pipe()
		if err != nil {
			return nil, errors.Join(err, p.In.Close())
		}
		defer in.Close()
		cmd.Stdout, p.Out = in, out
	}
	started := make(chan error, 1)
	go p.run(cmd, started)
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", program, err), p.In.Close(), p.closeOut())
	}
	return p, nil
}

// run starts the process and waits for its end, on one thread: on Linux the child dies with the thread that forked it.
func (p *Process) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.process, p.PID = cmd.Process, cmd.Process.Pid
	started <- nil
	p.err = cmd.Wait()
	close(p.done)
}

func (p *Process) closeOut() error {
	if p.Out == nil {
		return nil
	}
	return p.Out.Close()
}

// Kill sends SIGKILL to the child. Outcome waits until it has ended.
func (p *Process) Kill() error { return p.signal(syscall.SIGKILL) }

// Terminate asks the child to leave, by SIGTERM.
func (p *Process) Terminate() error { return p.signal(syscall.SIGTERM) }

// Freeze stops the child where it is, by SIGSTOP, with its connections open.
func (p *Process) Freeze() error { return p.signal(syscall.SIGSTOP) }

// Thaw lets a frozen child go on, by SIGCONT.
func (p *Process) Thaw() error { return p.signal(syscall.SIGCONT) }

// signal sends a signal. The error is os.ErrProcessDone if the child has ended.
func (p *Process) signal(sig syscall.Signal) error {
	if err := p.process.Signal(sig); err != nil {
		return fmt.Errorf("sending %s to process %d: %w", sig, p.PID, err)
	}
	return nil
}

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended says whether the child has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Outcome waits for the child's end; its error is nil for exit code 0.
func (p *Process) Outcome() error {
	<-p.done
	return p.err
}
