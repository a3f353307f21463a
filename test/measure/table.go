package measure

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Print prints a table for people, and below it the lines for scripts.
func Print(w io.Writer, header []string, rows [][]string, lines []string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		fmt.Fprintln(table, strings.Join(row, "\t"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
