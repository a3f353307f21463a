package child

import "syscall"

// attributes makes the process a group of its own, so that Ctrl-C reaches only the parent, and has the kernel kill it
// when the parent dies, however.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
