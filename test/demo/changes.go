package main

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// watcher turns snapshots into changes: what is new since the last one.
type watcher struct {
	generation int64 // the last one that was told of
	states     map[uuid.UUID]string
}

func newWatcher() *watcher { return &watcher{states: map[uuid.UUID]string{}} }

// news are the changes since the last snapshot, as sentences.
func (w *watcher) news(s workload.Snapshot) []string {
	var news []string
	for _, worker := range s.Workers {
		before := w.states[worker.ID]
		if sentence := change(worker, before); sentence != "" {
			news = append(news, sentence)
		}
		w.states[worker.ID] = worker.State
	}
	for _, g := range s.Generations {
		if g.Number <= w.generation || !g.Activated {
			continue
		}
		w.generation = g.Number
		news = append(news, fmt.Sprintf("generation %d is active with %s after a pause of %s (%s: %s)",
			g.Number, counted(len(g.Members), "worker"), g.Took.Round(time.Millisecond), g.Cause, g.Reason))
	}
	return news
}

// change says what became of a worker, of that which a spectator wants to know.
func change(w workload.WorkerStatus, before string) string {
	switch {
	case w.State == before:
		return ""
	case w.State == "dead":
		return fmt.Sprintf("%s was declared dead: %s", w.Name, w.Detail)
	case w.State == "stopped":
		return fmt.Sprintf("%s has stopped: %s", w.Name, w.Detail)
	case before == "dead":
		return fmt.Sprintf("%s is back: %s", w.Name, w.State)
	}
	return ""
}

// counted is a number with its noun.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
