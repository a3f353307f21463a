//go:build !linux

package pgtest

import (
	"errors"
	"time"
)

// ProcessorTime is not known on this system.
func (c *Cluster) ProcessorTime() (time.Duration, error) {
	return 0, errors.New("the processor time of the server's processes is known on Linux only")
}
