package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Outcomes of a call of a handler for an event.
const (
	outcomeOK      = "ok"
	outcomeFailed  = "failed"
	outcomePanic   = "panic"
	outcomeLate    = "late"    // the context had ended meanwhile, so the batch will not be committed
	outcomeTrial   = "trial"   // an operator only wants to know
	outcomeOverlap = "overlap" // another live transaction was in a handler of the same projection and slot
)

// journal is a worker's effect outside of the database: a file with a line for the beginning and the end of each call. It
// outlives everything but the machine, so a call that was rolled back, or whose process was killed, stands in it.
type journal struct {
	mu   sync.Mutex
	file *os.File
	last int64
}

// journalName is the pattern of the files' names.
const journalName = "%s.journal"

// openJournal opens the worker's journal in dir.
func openJournal(dir, worker string) (*journal, error) {
	file, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf(journalName, worker)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the journal of worker %s: %w", worker, err)
	}
	return &journal{file: file}, nil
}

// begin notes that a handler begins with an event, in a transaction of the backend, and returns the call's number.
func (j *journal) begin(projection string, position int64, backend uint32) (call int64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last++
	_, err = fmt.Fprintf(j.file, "begin %d %s %d %d %d\n", j.last, projection, position, backend, time.Now().UnixNano())
	return j.last, err
}

// end notes that the handler is through with the event.
func (j *journal) end(call int64, outcome string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, err := fmt.Fprintf(j.file, "end %d %s %d\n", call, outcome, time.Now().UnixNano())
	return err
}

// entry is one call as a journal has it.
type entry struct {
	Worker       string
	Call         int64
	Projection   string
	Position     int64
	Backend      int64
	Began, Ended int64  // nanoseconds; Ended is 0 where the call never ended
	Outcome      string // empty then
}

// readJournal reads a worker's journal. A last line that was cut by the process's death counts as far as it can be read.
func readJournal(dir, worker string) ([]*entry, error) {
	file, err := os.Open(filepath.Join(dir, fmt.Sprintf(journalName, worker)))
	if os.IsNotExist(err) {
		return nil, nil // it never handled anything
	}
	if err != nil {
		return nil, fmt.Errorf("reading the journal of worker %s: %w", worker, err)
	}
	defer file.Close()
	var entries []*entry
	calls := map[int64]*entry{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		word := strings.Fields(lines.Text())
		switch {
		case len(word) == 6 && word[0] == "begin":
			e := &entry{Worker: worker, Call: number(word[1]), Projection: word[2], Position: number(word[3]), Backend: number(word[4]), Began: number(word[5])}
			calls[e.Call] = e
			entries = append(entries, e)
		case len(word) == 4 && word[0] == "end" && calls[number(word[1])] != nil:
			e := calls[number(word[1])]
			e.Outcome, e.Ended = word[2], number(word[3])
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the journal of worker %s: %w", worker, err)
	}
	return entries, nil
}

// number is a number that this program wrote.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
