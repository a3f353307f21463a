package pgtest

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is a child that was started, and that is waited for.
type process struct {
	pid  int
	done chan struct{} // closed when the child has ended and err is set
	err  error         // what Wait returned: nil if the exit code was 0
}

// spawn starts cmd. On Linux cmd may ask for a signal at its parent's death (Pdeathsig): the kernel sends it when the *thread*
// that forked ends, so the child is started, and waited for, on a thread that lives as long as the child.
func spawn(cmd *exec.Cmd) (*process, error) {
	p := &process{done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(cmd, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", cmd.Path, err)
	}
	return p, nil
}

func (p *process) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.pid = cmd.Process.Pid
	started <- nil
	p.err = cmd.Wait()
	close(p.done)
}

// outcome says how the child, which has ended, did so.
func (p *process) outcome() string {
	if p.err != nil {
		return p.err.Error()
	}
	return "exit code 0"
}

// running says whether the child has not ended yet.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal sends sig to the child alone; a child that has just ended is no error.
func (p *process) signal(sig syscall.Signal) error {
	if !p.running() {
		return nil
	}
	if err := syscall.Kill(p.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("sending %s to process %d: %w", sig, p.pid, err)
	}
	return nil
}

// wait waits for the child's end; false if it takes longer than limit.
func (p *process) wait(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}

// killTree ends the child and its children by SIGKILL, as the kernel's out-of-memory killer or a lost container would, and
// returns when all are gone. The child is frozen first, so that it can neither fork nor react in between.
func (p *process) killTree(limit time.Duration) error {
	if !p.running() {
		return nil
	}
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	children, err := childrenOf(p.pid)
	if err != nil {
		return errors.Join(err, p.signal(syscall.SIGKILL))
	}
	for _, child := range children {
		if err := syscall.Kill(child, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return errors.Join(fmt.Errorf("killing process %d: %w", child, err), p.signal(syscall.SIGKILL))
		}
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	if !p.wait(limit) {
		return fmt.Errorf("process %d is still there %s after SIGKILL", p.pid, limit)
	}
	return gone(children, limit)
}

// gone waits until none of the processes runs.
func gone(pids []int, limit time.Duration) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for _, pid := range pids {
		for alive(pid) {
			select {
			case <-deadline.C:
				return fmt.Errorf("process %d is still there %s after SIGKILL", pid, limit)
			case <-poll.C:
			}
		}
	}
	return nil
}
