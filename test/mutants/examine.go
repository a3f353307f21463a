package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// abreast is how many guards are worked on at a time.
	abreast = 2
	// testTimeout bounds the run of one test.
	testTimeout = 2 * time.Minute
	// togetherTimeout bounds each test of those that run together.
	togetherTimeout = 20 * time.Second
)

// result is what came of one guard.
type result struct {
	guard  guard
	fault  string // what is not as demanded; empty if the test noticed
	output string // of the compiler or the test, where there is a fault
	took   time.Duration
}

// examination is the places that one run works in.
type examination struct {
	root    string // of a copy of the module, so that it may be worked on meanwhile
	scratch string // temporary
}

// examine takes the guards away, one after the other, and tells of each. All of them must be where they are said to be before the first is.
func examine(ctx context.Context, all []guard, tell func(result)) (results []result, err error) {
	e, err := newExamination(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(e.scratch)) }()
	for _, g := range all {
		_, moved := g.mutant(e.root)
		err = errors.Join(err, moved)
	}
	if err != nil {
		return nil, err
	}
	if err := e.checkWhole(ctx, all); err != nil {
		return nil, err
	}
	results = make([]result, len(all))
	var working sync.WaitGroup
	var telling sync.Mutex
	turn := make(chan struct{}, abreast)
	for i, g := range all {
		if ctx.Err() != nil {
			break
		}
		turn <- struct{}{}
		working.Go(func() {
			defer func() { <-turn }()
			results[i] = e.without(ctx, g)
			telling.Lock()
			defer telling.Unlock()
			tell(results[i])
		})
	}
	working.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return results, nil
}

func newExamination(ctx context.Context) (examination, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return examination{}, fmt.Errorf("looking for the module: %w", err)
	}
	scratch, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return examination{}, fmt.Errorf("making a temporary directory: %w", err)
	}
	e := examination{root: filepath.Join(scratch, "copy"), scratch: scratch}
	if err := copyTree(e.root, filepath.Dir(strings.TrimSpace(string(out)))); err != nil {
		return examination{}, errors.Join(fmt.Errorf("copying the module: %w", err), os.RemoveAll(scratch))
	}
	return e, nil
}

// copyTree copies a directory without what is hidden.
func copyTree(to, from string) error {
	return fs.WalkDir(os.DirFS(from), ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path != "." && strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, path), 0o700)
		case !entry.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(filepath.Join(from, path))
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, path), text, 0o600)
	})
}

// checkWhole demands that the tests pass as long as all guards are in place.
func (e examination) checkWhole(ctx context.Context, all []guard) error {
	tests := map[string][]string{}
	for _, g := range all {
		if dir := g.dir(); !slices.Contains(tests[dir], g.Test) {
			tests[dir] = append(tests[dir], g.Test)
		}
	}
	for dir, names := range tests {
		program, output, err := e.compile(ctx, strings.ReplaceAll(dir, "/", "-"), dir)
		if err == nil {
			output, err = e.run(ctx, program, dir, names...)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return fmt.Errorf("the tests of %s fail with all guards in place: %w\n%s", dir, err, output)
		}
	}
	return nil
}

// without runs a guard's test without the guard.
func (e examination) without(ctx context.Context, g guard) result {
	began := time.Now()
	r := result{guard: g}
	r.fault, r.output = e.attempt(ctx, g)
	r.took = time.Since(began)
	return r
}

// attempt compiles and runs, and says what is not as demanded.
func (e examination) attempt(ctx context.Context, g guard) (fault, output string) {
	overlay, err := e.overlay(g)
	if err != nil {
		return err.Error(), ""
	}
	program, output, err := e.compile(ctx, g.Name, g.dir(), "-overlay="+overlay)
	if err != nil {
		return "it does not compile", output
	}
	defer os.Remove(program)
	output, err = e.run(ctx, program, g.dir(), g.Test)
	return verdict(g.Test, output, err), output
}

var (
	failedTest = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)
	panicked   = regexp.MustCompile(`(?m)^(panic|fatal error): .*`)
)

// verdict says what is not as demanded of the output and end of a test without its guard; nothing if it failed as a test does.
func verdict(test, output string, ended error) string {
	failed := failedTest.FindStringSubmatch(output)
	switch {
	case panicked.MatchString(output):
		return panicked.FindString(output)
	case ended == nil:
		return "the test passes"
	case failed == nil:
		return "no test fails: " + ended.Error()
	case failed[1] != test:
		return "another test fails: " + failed[1]
	}
	return ""
}

// overlay writes the mutant, and the file that tells the compiler to take it.
func (e examination) overlay(g guard) (string, error) {
	text, err := g.mutant(e.root)
	if err != nil {
		return "", err
	}
	mutant := filepath.Join(e.scratch, g.Name+filepath.Ext(g.File))
	replace := map[string]map[string]string{"Replace": {filepath.Join(e.root, filepath.FromSlash(g.File)): mutant}}
	encoded, err := json.Marshal(replace)
	if err != nil {
		return "", fmt.Errorf("writing the overlay of %s: %w", g.Name, err)
	}
	overlay := filepath.Join(e.scratch, g.Name+".json")
	err = errors.Join(os.WriteFile(mutant, []byte(text), 0o600), os.WriteFile(overlay, encoded, 0o600))
	if err != nil {
		return "", fmt.Errorf("writing the overlay of %s: %w", g.Name, err)
	}
	return overlay, nil
}

// compile makes a program of a package's tests.
func (e examination) compile(ctx context.Context, name, dir string, flags ...string) (program, output string, err error) {
	program = filepath.Join(e.scratch, name+".test")
	args := slices.Concat([]string{"test", "-c", "-vet=off", "-ldflags=-s -w", "-o", program}, flags, []string{"./" + dir})
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = e.root
	out, err := cmd.CombinedOutput()
	return program, string(out), err
}

// run runs some tests of a package in a directory of its own, with a copy of the package's testdata: what a failing test leaves behind must not lie in the
// checkout.
func (e examination) run(ctx context.Context, program, of string, tests ...string) (output string, err error) {
	dir := program + ".dir"
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("making a directory for the tests: %w", err)
	}
	const data = "testdata"
	err = os.CopyFS(filepath.Join(dir, data), os.DirFS(filepath.Join(e.root, filepath.FromSlash(of), data)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("copying the tests' data: %w", err)
	}
	pattern := "^(" + strings.Join(tests, "|") + ")$"
	cmd := exec.CommandContext(ctx, program, "-test.run="+pattern, "-test.timeout="+(testTimeout+time.Duration(len(tests)-1)*togetherTimeout).String())
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "no tests to run") {
		err = errors.Join(err, fmt.Errorf("there is no test %s", pattern))
	}
	return string(out), err
}
