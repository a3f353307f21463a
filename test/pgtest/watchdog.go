package pgtest

import (
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
)

// watchdog starts a shell that sends SIGQUIT to the process pid as soon as this process dies, which it notices by the end of
// file on a pipe. It is for systems without a signal at the parent's death. release ends the shell without a signal sent.
func watchdog(pid int) (release func(), err error) {
	shell := exec.Command("/bin/sh", "-c", `read -r word; [ "$word" = release ] || kill -QUIT "$0"`, strconv.Itoa(pid))
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	pipe, err := shell.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("preparing the watchdog of process %d: %w", pid, err)
	}
	if err := shell.Start(); err != nil {
		return nil, fmt.Errorf("starting the watchdog of process %d: %w", pid, err)
	}
	return func() {
		if _, err := pipe.Write([]byte("release\n")); err != nil {
			_ = shell.Process.Kill()
		}
		_ = pipe.Close()
		_ = shell.Wait()
	}, nil
}
