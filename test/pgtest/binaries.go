package pgtest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ErrNotInstalled is returned by [Find] and [Start] where no PostgreSQL server is installed. The error that wraps it says
// what to install.
var ErrNotInstalled = errors.New("no PostgreSQL server found")

// binaryPatterns are where packages put the server's programs, by preference. Of several matches of one pattern the highest
// version wins.
var binaryPatterns = []string{
	"/usr/lib/postgresql/*/bin",              // Debian, Ubuntu
	"/usr/pgsql-*/bin",                       // Red Hat's family, from the PostgreSQL project's packages
	"/opt/homebrew/opt/postgresql@*/bin",     // macOS, Apple silicon
	"/usr/local/opt/postgresql@*/bin",        // macOS, Intel
	"/usr/libexec/postgresql*",               // Alpine
	"/Applications/Postgres.app/*/*/*/bin",   // Postgres.app
	"/Library/PostgreSQL/*/bin",              // macOS, EDB's installer
	"/home/linuxbrew/.linuxbrew/opt/*@*/bin", // Homebrew on Linux
}

// Find returns the directory that holds initdb and postgres. It looks at the environment variable PG_BIN, which if set must
// be right, then at what pg_config says, at the places where packages install, and at PATH.
func Find() (string, error) {
	if dir := os.Getenv("PG_BIN"); dir != "" {
		if !holdsServer(dir) {
			return "", fmt.Errorf("PG_BIN is %q, which does not hold the programs initdb and postgres", dir)
		}
		return dir, nil
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		if dir := strings.TrimSpace(string(out)); holdsServer(dir) {
			return dir, nil
		}
	}
	for _, pattern := range binaryPatterns {
		if dir, ok := newest(pattern); ok {
			return dir, nil
		}
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if holdsServer(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("%w: run `go run ./test/pgtest/cmd/pgtest install`, or type: %s; if it is there, set PG_BIN to the directory that holds initdb and postgres",
		ErrNotInstalled, installHint([]string{serverPackage}))
}

// newest returns the match of pattern that holds a server and has the highest version number in its path.
func newest(pattern string) (string, bool) {
	dirs, err := filepath.Glob(pattern)
	if err != nil {
		return "", false
	}
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { return !holdsServer(dir) })
	if len(dirs) == 0 {
		return "", false
	}
	return slices.MaxFunc(dirs, func(a, b string) int { return cmp.Compare(versionIn(a), versionIn(b)) }), true
}

var number = regexp.MustCompile(`\d+(\.\d+)?`)

// versionIn returns the last number in path, 0 without one: 15 for /usr/lib/postgresql/15/bin.
func versionIn(path string) float64 {
	found := number.FindAllString(path, -1)
	if len(found) == 0 {
		return 0
	}
	version, err := strconv.ParseFloat(found[len(found)-1], 64)
	if err != nil {
		return 0
	}
	return version
}

func holdsServer(dir string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(dir, program))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}
