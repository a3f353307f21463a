package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// What is wrong with the command line is said with the flag and the rule before a database is asked, and as an object where JSON is asked for.
func TestWhatIsWrongWithTheCommandLine(t *testing.T) {
	t.Parallel()
	nothing := func(string) string { return "" }
	for command, says := range map[string]string{
		"projections reset users --to 7 --yes":                           "--to must be start unless --checkpoints-only is given",
		"projections pause users --until 2020-01-01T00:00:00Z":           "--until must be in the future, got 2020-01-01 00:00:00Z",
		"projections cut-over a b --max-pause 0s":                        "--max-pause must be above 0",
		"projections resume users --reason " + strings.Repeat("x", 4097): "--reason must have at most 4096 bytes, and has 4097",
	} {
		var out, errs bytes.Buffer
		code := Run(t.Context(), append(strings.Fields(command), "-o", "json"), Config{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: nothing})
		assert.Equal(t, exitUsage, code, command)
		assert.Contains(t, errs.String(), says)
		assert.Contains(t, out.String(), `"error": "`+says)
		assert.Contains(t, out.String(), `"code": 2`)
	}
}
