package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// guard is something that the library must not lose, and the test that notices if it does.
type guard struct {
	Name string // for ONLY: lower case, words joined by hyphens
	File string // from the module's root, with slashes
	// Old is the text of the guard, which stands in File exactly once, and New is what the mutant has in its place.
	Old, New string
	Test     string // in the package of File, unless Package says otherwise
	Package  string // from the module's root; empty for the directory of File
	Promise  string // what the guard is there for
}

// dir is the directory of the package whose test notices.
func (g guard) dir() string {
	if g.Package != "" {
		return g.Package
	}
	return path.Dir(g.File)
}

// guards is all of them, in the order of the table.
func guards() []guard {
	return slices.Concat(fenceGuards, generationGuards, horizonGuards, announcingGuards, horizonEnvironmentGuards, membershipGuards, handlingGuards, appendGuards, batchGuards, readingGuards, hungGuards, connectionGuards, coordinationGuards, leadingGuards, tableGuards, installGuards, manualGuards, failureGuards, countingGuards, rightsGuards, replacedGuards, hostileGuards, errorPolicyGuards, aidGuards, requestGuards, lookingGuards, manualLetterGuards, resetGuards, waitingGuards, drainGuards, moveGuards, statusPageGuards, healthGuards, sqlGuards, observingGuards, cutOverGuards, tracingGuards)
}

// selected is the guards that ONLY names, all of them if it names none, and of these the part that PART says.
func selected(only, part string) ([]guard, error) {
	all := guards()
	names := strings.FieldsFunc(only, func(r rune) bool { return r == ',' || r == ' ' })
	for _, name := range names {
		if !slices.ContainsFunc(all, func(g guard) bool { return g.Name == name }) {
			return nil, fmt.Errorf("ONLY names the guard %q, which there is not: see -l", name)
		}
	}
	if len(names) > 0 {
		all = slices.DeleteFunc(all, func(g guard) bool { return !slices.Contains(names, g.Name) })
	}
	if part == "" {
		return all, nil
	}
	var which, of int
	if n, err := fmt.Sscanf(part, "%d/%d", &which, &of); err != nil || n != 2 || part != fmt.Sprintf("%d/%d", which, of) || which < 1 || which > of {
		return nil, fmt.Errorf("PART must be like 1/4, the first of four parts, got %q", part)
	}
	var some []guard
	for i := which - 1; i < len(all); i += of {
		some = append(some, all[i])
	}
	return some, nil
}

// mutant is the file of the guard, below root, without the guard. It is an error if the guard's text is not there, or there twice.
func (g guard) mutant(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(g.File)))
	if err != nil {
		return "", fmt.Errorf("reading the file of the guard %s: %w", g.Name, err)
	}
	if n := strings.Count(string(text), g.Old); n != 1 {
		return "", fmt.Errorf("the guard %s has moved: %s has its text %d times, which must be once:\n%s", g.Name, g.File, n, g.Old)
	}
	return strings.Replace(string(text), g.Old, g.New, 1), nil
}

// table is all guards as a table in Markdown, as README.md has it.
func table(all []guard) string {
	var b strings.Builder
	b.WriteString("| guard | what it is there for | file | test that fails without it |\n| --- | --- | --- | --- |\n")
	for _, g := range all {
		test := "`" + g.Test + "`"
		if g.Package != "" {
			test += " in `" + g.Package + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s |\n", g.Name, g.Promise, g.File, test)
	}
	return b.String()
}
