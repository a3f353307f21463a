package pgtest

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// clockTick is the unit of the times in /proc/PID/stat, on all of Go's platforms.
const clockTick = 10 * time.Millisecond

// ProcessorTime returns what the server's processes have used of all processors since it was started: those that run now to the
// nanosecond, those that have ended to 10 ms in all.
func (c *Cluster) ProcessorTime() (time.Duration, error) {
	if c.server == nil {
		return 0, nil
	}
	children, err := childrenOf(c.server.pid)
	if err != nil {
		return 0, err
	}
	total, err := endedTime(c.server.pid)
	if err != nil {
		return 0, err
	}
	for _, pid := range append(children, c.server.pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
		if err != nil {
			continue // it has ended meanwhile
		}
		var ran int64
		if _, err := fmt.Sscan(string(text), &ran); err != nil {
			return 0, fmt.Errorf("reading how long process %d has run: %w", pid, err)
		}
		total += time.Duration(ran)
	}
	return total, nil
}

// endedTime is what the children of a process have used that have ended.
func endedTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading the times of process %d: %w", pid, err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	const user, system = 13, 14 // cutime and cstime, counted from the state
	if len(fields) <= system {
		return 0, fmt.Errorf("reading the times of process %d: found %d fields", pid, len(fields))
	}
	var ticks int64
	for _, field := range []string{fields[user], fields[system]} {
		var n int64
		if _, err := fmt.Sscan(field, &n); err != nil {
			return 0, fmt.Errorf("reading the times of process %d: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}
