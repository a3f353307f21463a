package workload

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// Process is a worker that runs as a process of its own. It ends when the process that started it does. Its methods may be
// called by several goroutines.
type Process struct {
	Name string
	PID  int
	// LogFile holds what the worker logged.
	LogFile string

	process *os.Process
	done    chan struct{} // closed when it has ended and err is set
	err     error
}

// Spawn starts this program again as the worker of spec. Its log goes to <spec.Name>.log in logDir, after what is there.
func Spawn(spec WorkerSpec, logDir string) (*Process, error) {
	p, err := spawn(spec, filepath.Join(logDir, spec.Name+".log"))
	if err != nil {
		return nil, fmt.Errorf("starting worker %s: %w", spec.Name, err)
	}
	return p, nil
}

func spawn(spec WorkerSpec, logFile string) (*Process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	command := append(slices.Clone(spec.Through), program)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), specVariable+"="+string(encoded))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = attributes()
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p := &Process{Name: spec.Name, LogFile: logFile, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(cmd, started)
	if err := <-started; err != nil {
		return nil, errors.Join(err, pipe.Close())
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

// Kill ends the process by SIGKILL, without a word.
func (p *Process) Kill() error { return p.signal(syscall.SIGKILL) }

// Terminate asks the worker to leave, by SIGTERM.
func (p *Process) Terminate() error { return p.signal(syscall.SIGTERM) }

// Freeze stops the process where it is, by SIGSTOP, with its connections open.
func (p *Process) Freeze() error { return p.signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on, by SIGCONT.
func (p *Process) Thaw() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(sig syscall.Signal) error {
	if err := p.process.Signal(sig); err != nil {
		return fmt.Errorf("sending %s to worker %s: %w", sig, p.Name, err)
	}
	return nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended says whether the process has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Outcome waits for the process's end; its error is nil for exit code 0.
func (p *Process) Outcome() error {
	<-p.done
	return p.err
}

// KillAll ends all processes, frozen ones too, and waits until they are gone, for at most limit.
func KillAll(processes []*Process, limit time.Duration) error {
	var failed error
	for _, p := range processes {
		if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			failed = errors.Join(failed, err)
		}
	}
	timeout := time.After(limit)
	for _, p := range processes {
		select {
		case <-p.done:
		case <-timeout:
			return errors.Join(failed, fmt.Errorf("worker %s (process %d) is still there %s after SIGKILL", p.Name, p.PID, limit))
		}
	}
	return failed
}
