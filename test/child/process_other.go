//go:build !linux

package child

import "syscall"

// attributes makes the process a group of its own, so that Ctrl-C reaches only the parent. When the parent dies the
// process finds its standard input closed; one that is frozen then does so when it is thawed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
