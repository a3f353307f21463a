package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// screen shows changes, which stay, and a table, which is refreshed in place below them if the output is a terminal. If it is
// not, a status line is written now and then instead.
type screen struct {
	out   io.Writer
	live  bool
	drawn int // lines of the table on the terminal
	last  time.Time
}

// plainInterval is how often a status line is written.
const plainInterval = 3 * time.Second

func newScreen(out io.Writer, live bool) *screen { return &screen{out: out, live: live} }

// refreshable says whether the file is a terminal that moves its cursor.
func refreshable(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "" && os.Getenv("TERM") != "dumb"
}

const (
	clearBelow = "\r\x1b[J"
	wrapOff    = "\x1b[?7l" // a line that is too long is cut, not continued on the next
	wrapOn     = "\x1b[?7h"
)

// say writes lines that stay. The table vanishes until it is drawn again.
func (s *screen) say(lines ...string) {
	s.write(s.erase() + joined(lines))
	s.drawn = 0
}

// draw refreshes the table, or writes the status line if it is time.
func (s *screen) draw(now time.Time, table []string, status string) {
	if s.live {
		s.write(s.erase() + wrapOff + joined(table) + wrapOn)
		s.drawn = len(table)
		return
	}
	if now.Sub(s.last) >= plainInterval {
		s.last = now
		s.write(status + "\n")
	}
}

// erase is what moves the cursor to where the table began.
func (s *screen) erase() string {
	if s.drawn == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA", s.drawn) + clearBelow
}

// write writes at once, so that a refresh does not flicker. Where nobody reads any more nothing is shown.
func (s *screen) write(text string) { _, _ = io.WriteString(s.out, text) }

func joined(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}
