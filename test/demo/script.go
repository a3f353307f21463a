package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// script is what happens to whom, and when. A worker that is frozen stays so for longer than staleTimeout.
const script = `
  0s  start      w1 w2 w3
  6s  start      w4 w5
 11s  kill       w1
 16s  terminate  w2
 21s  freeze     w3
 27s  thaw       w3
 33s  end
`

// action is what is done to a worker.
type action string

const (
	start     action = "start"
	kill      action = "kill"      // SIGKILL
	terminate action = "terminate" // SIGTERM: it leaves
	freeze    action = "freeze"    // SIGSTOP
	thaw      action = "thaw"      // SIGCONT
	end       action = "end"       // of the writing
)

// step is a line of the script.
type step struct {
	At      time.Duration
	Action  action
	Workers []string
}

// parse reads a script and checks that it can be played.
func parse(text string) ([]step, error) {
	var steps []step
	for number, line := range strings.Split(text, "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		s, err := parseStep(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d of the script: %w", number+1, err)
		}
		steps = append(steps, s)
	}
	return steps, playable(steps)
}

func parseStep(fields []string) (step, error) {
	if len(fields) < 2 {
		return step{}, fmt.Errorf("want a time, an action and workers, got %q", fields)
	}
	at, err := time.ParseDuration(fields[0])
	if err != nil {
		return step{}, fmt.Errorf("reading the time: %w", err)
	}
	s := step{At: at, Action: action(fields[1]), Workers: fields[2:]}
	switch s.Action {
	case start, kill, terminate, freeze, thaw:
		if len(s.Workers) == 0 {
			return step{}, fmt.Errorf("%s whom?", s.Action)
		}
	case end:
		if len(s.Workers) > 0 {
			return step{}, errors.New("end takes no workers")
		}
	default:
		return step{}, fmt.Errorf("unknown action %q", s.Action)
	}
	return s, nil
}

// playable checks the order of the steps, and each worker's life.
func playable(steps []step) error {
	if len(steps) == 0 || steps[len(steps)-1].Action != end {
		return errors.New("the script must end with end")
	}
	state := map[string]action{} // what happened to a worker last
	for i, s := range steps {
		if i > 0 && s.At < steps[i-1].At {
			return fmt.Errorf("%s at %s comes after a step at %s", s.Action, s.At, steps[i-1].At)
		}
		if s.Action == end && i < len(steps)-1 {
			return fmt.Errorf("end at %s is not the last step", s.At)
		}
		for _, w := range s.Workers {
			if !slices.Contains(possibleAfter[s.Action], state[w]) {
				return fmt.Errorf("%s %s at %s: impossible after %q", s.Action, w, s.At, state[w])
			}
			state[w] = s.Action
		}
	}
	return nil
}

// possibleAfter is what may have happened to a worker last for an action to be possible; "" is nothing yet.
var possibleAfter = map[action][]action{
	start:     {""},
	kill:      {start, freeze, thaw},
	terminate: {start, thaw},
	freeze:    {start, thaw},
	thaw:      {freeze},
}

// touched are the workers that an action was done to.
func touched(steps []step, a action) []string {
	var workers []string
	for _, s := range steps {
		if s.Action == a {
			workers = append(workers, s.Workers...)
		}
	}
	return workers
}
