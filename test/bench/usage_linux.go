package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// peakMemory is the most memory, in bytes, that the process has had resident (VmHWM). getrusage's would begin with that of
// the process that started this one.
func peakMemory() int64 {
	file, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			var kib int64
			if _, err := fmt.Sscan(text, &kib); err == nil {
				return kib << 10
			}
		}
	}
	return 0
}
