//go:build !linux

package pgtest

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// attributes returns how a child is started: as the user of cred if there is one, in a process group of its own, so that
// Ctrl-C reaches only whom it is for. The signal at this process's death is what guard is for.
func attributes(cred *syscall.Credential, _ syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: cred, Setpgid: true}
}

// guard makes sure that the process ends when this one does, until release is called.
func guard(pid int) (release func(), err error) {
	return watchdog(pid)
}

// childrenOf returns the processes whose parent is pid.
func childrenOf(pid int) ([]int, error) {
	list, err := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 1 {
		return nil, nil // no child
	}
	if err != nil {
		return nil, fmt.Errorf("listing the children of process %d: %w", pid, err)
	}
	var pids []int
	for field := range strings.FieldsSeq(string(list)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("listing the children of process %d: %w", pid, err)
		}
		pids = append(pids, child)
	}
	return pids, nil
}

// alive says whether the process exists.
func alive(pid int) bool {
	return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}
