//go:build !linux

package pgtest

// inMemory returns no directory: not every system has one in memory.
func inMemory() (dir string, roomy bool) { return "", false }
