package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	urfave "github.com/urfave/cli/v3"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
)

// The exit codes.
const (
	exitDone = iota
	exitFailed
	exitUsage
	exitFalse
	exitUnconfirmed
)

// usageError says that the command line is wrong.
type usageError struct {
	command string
	err     error
	helped  bool // the help was printed, which says more to a person
}

func (e usageError) Error() string { return e.err.Error() }

func (e usageError) Unwrap() error { return e.err }

func usage(c *urfave.Command, err error) error {
	if _, already := errors.AsType[usageError](err); already {
		return err
	}
	return usageError{command: c.FullName(), err: err}
}

// errFalse says that a condition does not hold, which was printed.
var errFalse = errors.New("")

// errUnconfirmed says that nobody has confirmed.
var errUnconfirmed = errors.New("")

// end prints an error, for people and, if that is the form, as JSON, and returns the exit code.
func (a *app) end(ctx context.Context, name string, err error) int {
	code := a.report(ctx, name, err)
	if a.json && code != exitDone && code != exitFalse {
		text := strings.TrimSpace(err.Error())
		if text == "" {
			text = codeTexts[code]
		}
		_ = a.printJSON(failure{Error: text, Code: code})
	}
	return code
}

// failure is a command that failed, as JSON has it. What does not hold was printed as a result.
type failure struct {
	Error string `json:"error"`
	Code  int    `json:"code"`
}

// codeTexts are of errors that say nothing more.
var codeTexts = map[int]string{exitUnconfirmed: "it was not confirmed"}

// report prints an error for a person, and returns the exit code.
func (a *app) report(ctx context.Context, name string, err error) int {
	var wrong usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errFalse):
		return exitFalse
	case errors.Is(err, errUnconfirmed):
		return exitUnconfirmed
	case errors.As(err, &wrong):
		if !wrong.helped {
			a.say("%s: %v\nTry: %s --help", name, wrong.err, wrong.command)
		}
		return exitUsage
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		a.say("%s: interrupted: %v", name, err)
	case errors.Is(err, admin.ErrInvalid):
		a.say("%s: %v", name, err)
		return exitUsage
	default:
		a.say("%s: %v", name, err)
		if errors.Is(err, migrations.ErrMissing) || errors.Is(err, migrations.ErrOutdated) {
			a.say("Try: %s migrate up", name)
		}
	}
	return exitFailed
}

// say prints a line for a person.
func (a *app) say(format string, args ...any) {
	lines := strings.Split(fmt.Sprintf(format, args...), "\n")
	for i, line := range lines {
		lines[i] = oneLine(line) // what comes from a database does not control the terminal
	}
	_, _ = fmt.Fprintln(a.config.Stderr, strings.Join(lines, "\n"))
}
