package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	urfave "github.com/urfave/cli/v3"
)

// column is one of a list's.
type column[T any] struct {
	heading string
	text    func(T) string
}

// forms are those of a result.
var forms = []string{"table", "plain", "json"}

// form is the one that was asked for.
func form(c *urfave.Command) (string, error) {
	asked := c.String("output")
	if !slices.Contains(forms, asked) {
		return "", usage(c, fmt.Errorf("--output must be one of %s, got %q", strings.Join(forms, ", "), asked))
	}
	return asked, nil
}

// printList prints a list in the form that was asked for.
func printList[T any](a *app, c *urfave.Command, list []T, columns ...column[T]) error {
	asked, err := form(c)
	if err != nil {
		return err
	}
	if asked == "json" {
		if list == nil {
			list = []T{}
		}
		return a.printJSON(list)
	}
	var rows [][]string
	if asked == "table" {
		headings := make([]string, len(columns))
		for i, col := range columns {
			headings[i] = strings.ToUpper(col.heading)
		}
		rows = append(rows, headings)
	}
	for _, one := range list {
		row := make([]string, len(columns))
		for i, col := range columns {
			row[i] = oneLine(col.text(one))
		}
		rows = append(rows, row)
	}
	return writeRows(a.config.Stdout, asked, rows)
}

// printOne prints a value with names, in the form that was asked for: the fields are lines.
func printOne(a *app, c *urfave.Command, value any, fields ...[2]string) error {
	asked, err := form(c)
	if err != nil {
		return err
	}
	if asked == "json" {
		return a.printJSON(value)
	}
	rows := make([][]string, len(fields))
	for i, f := range fields {
		rows[i] = []string{f[0], oneLine(f[1])}
	}
	return writeRows(a.config.Stdout, asked, rows)
}

func (a *app) printJSON(value any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	if err == nil {
		_, err = io.WriteString(a.config.Stdout, escaped(text.String()))
	}
	if err != nil {
		return fmt.Errorf("printing the result: %w", err)
	}
	return nil
}

// escaped is JSON whose strings have escapes for what the encoder leaves as it is, and a terminal does not.
func escaped(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && controls(r) }) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if r != '\n' && controls(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// writeRows writes rows as aligned columns, or with tabs between them.
func writeRows(w io.Writer, form string, rows [][]string) error {
	aligned := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	out := w
	if form == "table" {
		out = aligned
	}
	for _, row := range rows {
		if _, err := fmt.Fprintln(out, strings.Join(row, "\t")); err != nil {
			return fmt.Errorf("printing the result: %w", err)
		}
	}
	if err := aligned.Flush(); err != nil {
		return fmt.Errorf("printing the result: %w", err)
	}
	return nil
}

// oneLine is a text without what would break a row, or control a terminal.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if controls(r) {
			return ' '
		}
		return r
	}, text)
}

// controls says whether a rune controls a terminal, or the direction of what follows.
func controls(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }

// moment is a time as results have it.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// orDash is a text, or a dash for an empty text. With plain output, every column has something in it then.
func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// shortened is the first of a text, for a column.
func shortened(text string, most int) string {
	runes := []rune(oneLine(text))
	if len(runes) <= most {
		return string(runes)
	}
	return string(runes[:most-1]) + "…"
}

// counted is a number with its noun.
func counted[N int | int64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
