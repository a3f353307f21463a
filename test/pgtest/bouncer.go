package pgtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrNoBouncer is returned by [StartBouncer] where PgBouncer is not installed. The error that wraps it says what to install.
var ErrNoBouncer = errors.New("no PgBouncer found")

// bouncerPackage is PgBouncer's package, and its program.
const bouncerPackage = "pgbouncer"

// PoolMode says for how long a client of PgBouncer has a connection to the server for itself.
type PoolMode string

// PgBouncer's modes.
const (
	SessionMode     PoolMode = "session"     // until it disconnects
	TransactionMode PoolMode = "transaction" // until its transaction ends
	StatementMode   PoolMode = "statement"   // for one statement; transactions are refused
)

const (
	bouncerStart = 30 * time.Second
	bouncerStop  = 10 * time.Second
)

// Bouncer is a PgBouncer in front of a server, for all of its databases. Everybody is let in, as the user of the address that it
// was started with.
type Bouncer struct {
	home    *home
	port    int
	process *process
	release func()
	stop    func() // ends what keeps it up

	program, configuration string // what start was called with last
}

// bouncerDirs are where packages put the program besides PATH, which may lack the last ones.
var bouncerDirs = []string{"/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin", "/usr/local/bin"}

// findBouncer returns the program.
func findBouncer() (string, error) {
	if path, err := exec.LookPath(bouncerPackage); err == nil {
		return path, nil
	}
	for _, dir := range bouncerDirs {
		path := filepath.Join(dir, bouncerPackage)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 && !info.IsDir() {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: run `go run ./test/pgtest/cmd/pgtest install pgbouncer`, or type: %s", ErrNoBouncer, installHint([]string{bouncerPackage}))
}

// StartBouncer starts a PgBouncer in front of the server that dsn connects to and returns when it accepts connections, or when
// ctx ends. settings go into its configuration, above the package's own: the server's connections take turns, so that what a
// session leaves behind is met by others soon. Like a server, it runs as an unprivileged user, in a directory of its own, and ends
// with this process; it is the caller's to [Bouncer.Close]. If it dies before, it is started again.
func StartBouncer(ctx context.Context, dsn string, mode PoolMode, settings map[string]string) (*Bouncer, error) {
	program, err := findBouncer()
	if err != nil {
		return nil, err
	}
	server, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("reading the address of PgBouncer's server: %w", err)
	}
	h, err := newHome(false)
	if err != nil {
		return nil, err
	}
	b := &Bouncer{home: h}
	for range portAttempts {
		if b.port, err = freePort(); err != nil {
			break
		}
		// As with a server, an early end most likely means that the port was lost to another program.
		if err = b.start(ctx, program, bouncerConfiguration(server, mode, b.port, settings)); !errors.Is(err, errEnded) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, h.remove())
	}
	b.stop = b.keepUp()
	return b, nil
}

// bouncerConfiguration returns pgbouncer.ini. With auth_type any every user becomes the server's.
func bouncerConfiguration(server *pgx.ConnConfig, mode PoolMode, port int, settings map[string]string) string {
	all := map[string]string{
		"listen_addr":        "127.0.0.1",
		"listen_port":        strconv.Itoa(port),
		"unix_socket_dir":    "",
		"auth_type":          "any",
		"pool_mode":          string(mode),
		"max_client_conn":    "1000",
		"default_pool_size":  "40",
		"server_round_robin": "1",
	}
	maps.Copy(all, settings)
	var ini strings.Builder
	quote := func(value string) string { return "'" + strings.ReplaceAll(value, "'", "''") + "'" }
	fmt.Fprintf(&ini, "[databases]\n* = host=%s port=%d user=%s", quote(server.Host), server.Port, quote(cmp.Or(server.User, superuser)))
	if server.Password != "" {
		ini.WriteString(" password=" + quote(server.Password))
	}
	ini.WriteString("\n[pgbouncer]\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&ini, "%s = %s\n", name, all[name])
	}
	return ini.String()
}

func (b *Bouncer) start(ctx context.Context, program, configuration string) error {
	b.program, b.configuration = program, configuration
	ini := filepath.Join(b.home.dir, "pgbouncer.ini")
	if err := errors.Join(os.WriteFile(ini, []byte(configuration), 0o600), b.home.own(ini)); err != nil {
		return fmt.Errorf("configuring PgBouncer: %w", err)
	}
	log, err := os.OpenFile(b.home.log(), os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("starting PgBouncer: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(program, ini)
	b.home.adopt(cmd)
	cmd.Stdout, cmd.Stderr = log, log
	if b.process, err = spawn(cmd); err != nil {
		return fmt.Errorf("starting PgBouncer: %w", err)
	}
	if b.release, err = guard(b.process.pid); err != nil {
		b.release = func() {}
		return errors.Join(err, b.end())
	}
	if err := b.awaitReady(ctx); err != nil {
		return fmt.Errorf("starting PgBouncer on port %d: %w\nits log:\n%s", b.port, errors.Join(err, b.end()), b.Log())
	}
	return nil
}

// awaitReady waits until PgBouncer notes in its log that it is up, which it does when it listens. That the port accepts
// connections would not tell: another program may have it.
func (b *Bouncer) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, bouncerStart, fmt.Errorf("not ready within %s", bouncerStart))
	defer cancel()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for !strings.Contains(b.Log(), "process up") {
		select {
		case <-b.process.done:
			return fmt.Errorf("%w: %s", errEnded, b.process.outcome())
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-poll.C:
		}
	}
	return nil
}

// DSN returns the connection string of a database of the server through PgBouncer, for a pool that works there: pgx must not
// prepare statements, which belong to a connection of the server.
func (b *Bouncer) DSN(database string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable&default_query_exec_mode=exec", superuser, b.port, url.PathEscape(database))
}

// Log returns the end of PgBouncer's log, at most 64 KiB.
func (b *Bouncer) Log() string { return tail(b.home.log()) }

// keepUp starts PgBouncer again, on the same port, when it has died, until the function that it returns is called: version 1.18 dies of some
// cancel requests ("server in bad state"). A service manager would do the same.
func (b *Bouncer) keepUp() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-ctx.Done():
				return
			case <-b.process.done:
			}
			fmt.Fprintf(os.Stderr, "pgtest: PgBouncer has died (%s) and is started again; the end of its log:\n%s", b.process.outcome(), b.Log())
			b.release()
			if err := b.start(ctx, b.program, b.configuration); err != nil {
				fmt.Fprintln(os.Stderr, "pgtest:", err)
				return
			}
		}
	}()
	return func() {
		cancel()
		<-stopped
	}
}

// Close ends PgBouncer, with all connections through it, and removes its directory.
func (b *Bouncer) Close() error {
	b.stop()
	return errors.Join(b.end(), b.home.remove())
}

// end ends the process. Versions before 1.23 do not know SIGQUIT and die of it, which is as good.
func (b *Bouncer) end() error {
	defer b.release()
	if err := b.process.signal(syscall.SIGQUIT); err != nil {
		return fmt.Errorf("stopping PgBouncer: %w", err)
	}
	if b.process.wait(bouncerStop) {
		return nil
	}
	return errors.Join(fmt.Errorf("stopping PgBouncer: it took longer than %s and was killed", bouncerStop), b.process.signal(syscall.SIGKILL))
}
