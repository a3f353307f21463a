package workload

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/child"
)

// Process is a worker that runs as a process of its own. It ends when the process that started it does. Its methods may be
// called by several goroutines.
type Process struct {
	*child.Process
	Name string
	// LogFile holds what the worker logged.
	LogFile string
}

// Spawn starts this program again as the worker of spec. Its log goes to <spec.Name>.log in logDir, after what is there.
func Spawn(spec WorkerSpec, logDir string) (*Process, error) {
	p := &Process{Name: spec.Name, LogFile: filepath.Join(logDir, spec.Name+".log")}
	log, err := os.OpenFile(p.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		defer log.Close()
		p.Process, err = child.Start(spec, child.Options{Through: spec.Through, Stdout: log, Stderr: log})
	}
	if err != nil {
		return nil, fmt.Errorf("starting worker %s: %w", spec.Name, err)
	}
	return p, nil
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
		case <-p.Done():
		case <-timeout:
			return errors.Join(failed, fmt.Errorf("worker %s (process %d) is still there %s after SIGKILL", p.Name, p.PID, limit))
		}
	}
	return failed
}
