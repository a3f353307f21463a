package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	superuser  = "postgres" // the role, and the database, that initdb creates
	homePrefix = "pgtest-"
	// longestBase leaves room for the rest of a socket's path, which may have 103 bytes at most.
	longestBase = 60
	// youngest is the age from which a directory without an owner is taken for a dead process's, not for one being made.
	youngest = time.Minute
)

// home is a server's directory. It is locked by the process that made it as long as that lives.
type home struct {
	dir  string
	lock *os.File
	cred *syscall.Credential // who the server runs as; nil for this process's user
}

// newHome makes the directory of a new server, after it has removed those of processes that died. A durable one is on disk.
func newHome(durable bool) (*home, error) {
	for _, base := range homeBases() {
		sweep(base)
	}
	base := homeBase(durable)
	cred, err := credential()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(base, homePrefix)
	if err != nil {
		return nil, fmt.Errorf("making a directory for PostgreSQL: %w", err)
	}
	h := &home{dir: dir, cred: cred}
	if h.lock, err = lockFile(h.lockPath(), os.O_CREATE); err == nil {
		_, err = fmt.Fprintln(h.lock, os.Getpid()) // for people who wonder whose it is
	}
	if err == nil {
		err = h.own(h.dir)
	}
	if err == nil {
		err = os.Mkdir(h.sockets(), 0o700)
	}
	if err == nil {
		err = h.own(h.sockets())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making a directory for PostgreSQL: %w", err), h.remove())
	}
	return h, nil
}

// homeBase returns where servers' directories are made. What need not survive a loss of power is kept in memory if there is room:
// a database consists of 300 files, and a disk's file system takes most of the time that CREATE DATABASE takes.
func homeBase(durable bool) string {
	if dir, roomy := inMemory(); roomy && !durable {
		return dir
	}
	return onDisk()
}

// homeBases returns all directories that may hold those of servers.
func homeBases() []string {
	if dir, _ := inMemory(); dir != "" {
		return []string{onDisk(), dir}
	}
	return []string{onDisk()}
}

// onDisk returns the directory of temporary files.
func onDisk() string {
	base := os.TempDir()
	// Root's temporary directory may be closed to the user that the server runs as.
	if len(base) > longestBase || os.Geteuid() == 0 {
		return "/tmp"
	}
	return base
}

func (h *home) data() string     { return filepath.Join(h.dir, "data") }
func (h *home) sockets() string  { return filepath.Join(h.dir, "s") }
func (h *home) log() string      { return filepath.Join(h.dir, "log") }
func (h *home) lockPath() string { return filepath.Join(h.dir, "lock") }

// own gives path to the user that the server runs as.
func (h *home) own(path string) error {
	if h.cred == nil {
		return nil
	}
	return os.Chown(path, int(h.cred.Uid), int(h.cred.Gid))
}

// adopt makes a program of PostgreSQL run in the directory, as the server's user, and without the settings that this
// process's environment has for clients and locales.
func (h *home) adopt(cmd *exec.Cmd) {
	cmd.Dir = h.dir
	cmd.SysProcAttr = attributes(h.cred, syscall.SIGQUIT)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PG") && !strings.HasPrefix(variable, "LC_") && !strings.HasPrefix(variable, "LANG") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C", "HOME="+h.dir)
}

// ready says whether the postmaster pid accepts connections. Its lock file has the pid in line 1 and the state in line 8.
func (h *home) ready(pid int) (bool, error) {
	content, err := os.ReadFile(filepath.Join(h.data(), "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading PostgreSQL's state: %w", err)
	}
	lines := bytes.Split(content, []byte("\n"))
	return len(lines) >= 8 && string(lines[0]) == strconv.Itoa(pid) && string(bytes.TrimSpace(lines[7])) == "ready", nil
}

func (h *home) remove() error {
	err := os.RemoveAll(h.dir)
	if h.lock != nil {
		err = errors.Join(err, h.lock.Close())
	}
	if err != nil {
		return fmt.Errorf("removing PostgreSQL's directory: %w", err)
	}
	return nil
}

// credential returns the user that the server runs as: nil, for this process's own, unless that is root.
func credential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		account, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and there is neither a user postgres nor nobody: %w", err)
	}
	uid, uidErr := strconv.ParseUint(account.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(account.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return nil, fmt.Errorf("looking up the user %s: %w", account.Username, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// sweep removes the directories in base whose makers died without having removed them. What it cannot remove it leaves.
func sweep(base string) {
	dirs, err := filepath.Glob(filepath.Join(base, homePrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < youngest {
			continue
		}
		lock, err := lockFile(filepath.Join(dir, "lock"), 0)
		if err != nil {
			continue // somebody's, or none of ours
		}
		_ = os.RemoveAll(dir)
		_ = lock.Close()
	}
}

// lockFile opens a file and locks it against other processes until it is closed or the process ends.
func lockFile(path string, flag int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|flag, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
