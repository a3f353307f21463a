package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/child"
)

const (
	// askEvery is how often a process is asked how far it is.
	askEvery = 20 * time.Millisecond
	// patience is how long a job may take.
	patience = 15 * time.Minute
	// stopPatience is how long a process may take to end.
	stopPatience = 30 * time.Second
)

// process is this program, started again for a job. Only the goroutine that measures uses it. It ends when its input does, so
// also when this program does.
type process struct {
	*child.Process
	job     job
	out     *json.Decoder
	stopped bool
}

// start starts a process. The caller stops or kills it.
func start(j job) (*process, error) {
	p, err := child.Start(j, child.Options{Stderr: os.Stderr, Answers: true})
	if err != nil {
		return nil, fmt.Errorf("starting a process for %s: %w", j.Kind, err)
	}
	return &process{Process: p, job: j, out: json.NewDecoder(p.Out)}, nil
}

// ask says a word and returns the answer.
func (p *process) ask(word string) (outcome, error) {
	var o outcome
	if _, err := io.WriteString(p.In, word+"\n"); err != nil {
		return o, fmt.Errorf("speaking to the process for %s: %w", p.job.Kind, err)
	}
	if err := p.out.Decode(&o); err != nil {
		return o, fmt.Errorf("listening to the process for %s: %w", p.job.Kind, err)
	}
	if o.Err != "" {
		return o, fmt.Errorf("the process for %s failed: %s", p.job.Kind, o.Err)
	}
	return o, nil
}

// until asks until the outcome is as wanted.
func (p *process) until(ctx context.Context, wanted func(outcome) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("the process for %s was not done after %s", p.job.Kind, patience))
	defer cancel()
	for {
		o, err := p.ask(wordHowFar)
		if err != nil || wanted(o) {
			return err
		}
		if err := wait(ctx, askEvery); err != nil {
			return err
		}
	}
}

// stop asks the process to end, waits until it has, and returns its last outcome.
func (p *process) stop() (outcome, error) {
	timer := time.AfterFunc(stopPatience, func() { _ = p.Kill() })
	defer timer.Stop()
	o, err := p.ask(wordStop)
	p.stopped = true
	return o, errors.Join(err, p.Outcome(), p.Out.Close())
}

// kill ends a process that was not stopped.
func (p *process) kill() {
	if !p.stopped {
		p.stopped = true
		_ = p.Kill()
		_ = p.Outcome()
		_ = p.Out.Close()
	}
}

// run starts a process, waits until its job is done, and returns the outcome.
func run(ctx context.Context, j job) (outcome, error) {
	p, err := start(j)
	if err != nil {
		return outcome{}, err
	}
	defer p.kill()
	if err := p.until(ctx, func(o outcome) bool { return o.Done }); err != nil {
		return outcome{}, err
	}
	return p.stop()
}
