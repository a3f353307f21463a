package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"

	urfave "github.com/urfave/cli/v3"
	"golang.org/x/term"
)

// changing are the flags of commands that change something.
func changing(more ...urfave.Flag) []urfave.Flag {
	return append(more,
		&urfave.StringFlag{Name: "reason", Usage: "`text` that says why, for orchestrator_operations"},
		&urfave.BoolFlag{Name: "dry-run", Usage: "say what would be done, and do nothing"})
}

// losing are the flags of commands that lose something.
func losing(more ...urfave.Flag) []urfave.Flag {
	return append(changing(more...), &urfave.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"})
}

// goAhead says what is about to be done to what, and whether to do it: not in a dry run, whose result that is.
func (a *app) goAhead(c *urfave.Command, to outcome, what string) (bool, error) {
	if c.Bool("dry-run") {
		to.Action, to.DryRun = c.Name, true
		return false, a.done(c, to, "Would %s. Nothing was changed.", what)
	}
	return true, nil
}

// confirmed says what is about to be done to what, and asks whether to do it. It is an error if nobody can be asked, or the answer is not yes.
func (a *app) confirmed(ctx context.Context, c *urfave.Command, to outcome, what string) (bool, error) {
	if ahead, err := a.goAhead(c, to, what); !ahead {
		return false, err
	}
	if c.Bool("yes") {
		return true, nil
	}
	if !isTerminal(a.config.Stdin) {
		a.say("This would %s. Nothing was changed: confirm it with --yes.", what)
		return false, errUnconfirmed
	}
	_, _ = fmt.Fprintf(a.config.Stderr, "This will %s.\nType yes to go on: ", what)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(a.config.Stdin).ReadString('\n')
		answer <- line
	}()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case line := <-answer:
		if strings.TrimSpace(strings.ToLower(line)) == "yes" {
			return true, nil
		}
	}
	a.say("Nothing was changed.")
	return false, errUnconfirmed
}

// isTerminal says whether a person sits at a stream.
func isTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
