package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is wrong with the command line is said with the flag and the rule before a database is asked, and as an object where JSON is asked for.
func TestWhatIsWrongWithTheCommandLine(t *testing.T) {
	t.Parallel()
	nothing := func(string) string { return "" }
	for command, says := range map[string]string{
		"projections reset users --to 7 --yes":                 "--to must be start unless --checkpoints-only is given",
		"projections pause users --until 2020-01-01T00:00:00Z": "--until must be in the future, got 2020-01-01 00:00:00Z",
		"projections cut-over a b --max-pause 0s":              "--max-pause must be above 0",
		"completion tcsh":         `there is no script for the shell "tcsh"; there are "bash", "zsh", "fish", "pwsh"`,
		"completion bash --nope":  "flag provided but not defined: -nope",
		"statu":                   `there is no command "statu"; there is "status"`,
		"proj":                    `there is no command "proj"; there is "projections"`,
		"projections re":          `there is no command "re"; there are "resume", "reset", "rebuild"`,
		"projections frobnicate":  `there is no command "frobnicate"; there are "list", "pause", "resume", "reset", "rebuild", "wait", "cut-over", "move"`,
		"help statu":              `there is no command "statu"; there is "status"`,
		"statu --help":            `there is no command "statu"; there is "status"`,
		"--schema x statu --help": `there is no command "statu"; there is "status"`,
		"--schema=x statu -h":     `there is no command "statu"; there is "status"`,
		"projections rese --help": `there is no command "rese"; there are "resume", "reset"`,
		"projections resume users --reason " + strings.Repeat("x", 4097): "--reason must have at most 4096 bytes, and has 4097",
	} {
		var out, errs bytes.Buffer
		code := Run(t.Context(), append(strings.Fields(command), "-o", "json"), Config{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: nothing})
		assert.Equal(t, exitUsage, code, command)
		assert.Contains(t, errs.String(), says)
		said, err := json.Marshal(says)
		require.NoError(t, err)
		assert.Contains(t, out.String(), `"error": `+strings.TrimSuffix(string(said), `"`))
		assert.Contains(t, out.String(), `"code": 2`)
	}
}

// Without a command the help is shown to a person, and a program learns which commands there are.
func TestNoCommand(t *testing.T) {
	t.Parallel()
	for command, says := range map[string]string{
		"":           `"error": "name a command of cli.test; there are \"status\", \"lag\", `,
		"workers":    `"error": "name a command of cli.test workers; there are \"list\", \"drain\", \"undrain\""`,
		"completion": `"error": "name a command of cli.test completion; there are \"bash\", \"zsh\", \"fish\", \"pwsh\""`,
	} {
		var out, errs bytes.Buffer
		code := Run(t.Context(), append(strings.Fields(command), "-o", "json"), Config{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs})
		assert.Equal(t, exitUsage, code, command)
		assert.Contains(t, out.String(), says)
		assert.Contains(t, errs.String(), "COMMANDS:")
		assert.NotContains(t, errs.String(), "name a command")
	}
}

// The distance of two names is that of the shortest way from one to the other, and the same both ways.
func TestDistance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "lag", 3}, {"lag", "lag", 0}, {"statsu", "status", 2}, {"pause", "paus", 1}, {"ist", "list", 1}, {"kitten", "sitting", 3}} {
		assert.Equal(t, tt.want, distance(tt.a, tt.b), tt)
		assert.Equal(t, tt.want, distance(tt.b, tt.a), tt)
	}
}
