package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	urfave "github.com/urfave/cli/v3"
)

// noCommand is what a command that only has commands does.
func (a *app) noCommand(_ context.Context, c *urfave.Command) error {
	names := commandNames(c)
	if c.Args().Present() {
		return usage(c, errors.New(unknownCommand(c.Args().First(), names)))
	}
	c.Root().Writer = a.config.Stderr
	if err := urfave.ShowSubcommandHelp(c); err != nil {
		return err
	}
	return usageError{command: c.FullName(), err: fmt.Errorf("name a command of %s; %s", c.FullName(), thereIs(names)), helped: true}
}

// commandNames are those of the commands below, without hidden ones.
func commandNames(c *urfave.Command) (names []string) {
	for _, command := range c.Commands {
		if !command.Hidden {
			names = append(names, command.Name)
		}
	}
	return names
}

// unknownCommand says that there is no command of a name, and which there are: those with a name like it, or else all.
func unknownCommand(unknown string, names []string) string {
	near := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !alike(unknown, name) })
	if len(near) == 0 {
		near = names
	}
	return fmt.Sprintf("there is no command %q; %s", unknown, thereIs(near))
}

// thereIs says which names there are.
func thereIs(names []string) string {
	verb, quoted := "there are", make([]string, len(names))
	for i, name := range names {
		quoted[i] = strconv.Quote(name)
	}
	if len(names) == 1 {
		verb = "there is"
	}
	return verb + " " + strings.Join(quoted, ", ")
}

// noShell is what completion does where its argument is none of its commands, the shells.
func (a *app) noShell(ctx context.Context, c *urfave.Command) error {
	if c.Args().Present() {
		return usage(c, fmt.Errorf("there is no script for the shell %q; %s", c.Args().First(), thereIs(commandNames(c))))
	}
	return a.noCommand(ctx, c)
}

// alike says whether one name may have been typed for the other: it is its beginning, or takes at most two letters more, less or other ones, and at most
// half of them.
func alike(typed, name string) bool {
	if typed != "" && strings.HasPrefix(name, typed) {
		return true
	}
	return distance(typed, name) <= min(2, len(name)/2)
}

// distance is the Levenshtein distance: how many letters are to be added, left out or replaced, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0] // of the row above, one to the left
		row[0] = i + 1
		for j := range len(b) {
			replaced := before
			if a[i] != b[j] {
				replaced++
			}
			before = row[j+1]
			row[j+1] = min(replaced, before+1, row[j]+1)
		}
	}
	return row[len(b)]
}
