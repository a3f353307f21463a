package pgtest

import "syscall"

// memory is a file system in memory, which every Linux has.
const memory = "/dev/shm"

// roomInMemory is what must be free there. A container may have 64 MiB.
const roomInMemory = 4 << 30

// inMemory returns a directory in memory, and whether it has room for servers.
func inMemory() (dir string, roomy bool) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(memory, &stat); err != nil {
		return "", false
	}
	return memory, stat.Bavail*uint64(stat.Bsize) >= roomInMemory
}
