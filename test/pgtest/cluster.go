package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Options says how a server is set up. The zero value is what tests want.
type Options struct {
	// Settings go into postgresql.conf, after and so above the package's own: max_connections 300,
	// max_prepared_transactions 20, TimeZone UTC.
	Settings map[string]string

	// Durable makes the server write as it would in production (fsync, full_page_writes). Without it, which is the default, a
	// committed transaction survives the death of the server, but not the loss of the machine's power.
	Durable bool

	// Trusted is a network, such as 10.0.0.0/8, everybody in which is trusted as on 127.0.0.1. The setting listen_addresses must let
	// them in as well.
	Trusted string

	// StartTimeout is how long a start, recovery included, may take. Defaults to 60s.
	StartTimeout time.Duration

	// StopTimeout is how long a stop may take before the server is killed and an error returned. Defaults to 30s.
	StopTimeout time.Duration
}

// StopMode is one of PostgreSQL's ways to shut down.
type StopMode syscall.Signal

// The ways to shut down.
const (
	Smart     = StopMode(syscall.SIGTERM) // waits until all clients have left
	Fast      = StopMode(syscall.SIGINT)  // ends the sessions, rolls back, writes a checkpoint
	Immediate = StopMode(syscall.SIGQUIT) // ends at once; the next start recovers from the log
)

const (
	pollInterval = 10 * time.Millisecond
	portAttempts = 5
	// Ports are drawn from below the ranges that Linux (32768) and macOS (49152) draw clients' ports from, so that no
	// client's connection takes a server's port while the server restarts.
	lowestPort, highestPort = 20000, 32767
	logTail                 = 64 << 10 // bytes
)

// errEnded is the cause of a start's failure where the server ended before it was ready.
var errEnded = errors.New("the server ended before it was ready")

// Cluster is a PostgreSQL server with its data directory. [Cluster.DSN], [Cluster.Log] and [Cluster.CreateDatabase] may be
// called at any time; of the methods that start and stop the server, one at a time.
type Cluster struct {
	opts    Options
	bin     string
	home    *home
	port    int
	server  *process // nil if it was stopped
	release func()   // ends the guard of server
	primary *Cluster // whose standby it was set up as; nil if it was not
}

// Start sets up a new server in a temporary directory, which is in memory unless the server is durable, and returns when it accepts connections, or when ctx ends. The server
// listens on 127.0.0.1 and trusts everybody there. It is the caller's to [Cluster.Close].
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	bin, err := Find()
	if err != nil {
		return nil, err
	}
	return startWith(ctx, bin, opts)
}

// startWith starts a new server with the programs in bin.
func startWith(ctx context.Context, bin string, opts Options) (*Cluster, error) {
	if opts.StartTimeout == 0 {
		opts.StartTimeout = time.Minute
	}
	if opts.StopTimeout == 0 {
		opts.StopTimeout = 30 * time.Second
	}
	return (&Cluster{opts: opts, bin: bin}).create(ctx, (*Cluster).initialise)
}

// create makes the directory of a new server, fills it, and starts the server on a port that is free.
func (c *Cluster) create(ctx context.Context, fill func(*Cluster, context.Context) error) (*Cluster, error) {
	h, err := newHome(c.opts.Durable)
	if err != nil {
		return nil, err
	}
	c.home = h
	if err := fill(c, ctx); err != nil {
		return nil, errors.Join(err, h.remove())
	}
	for range portAttempts {
		if c.port, err = freePort(); err != nil {
			break
		}
		// A server that ends at once most likely lost its port to another one since freePort looked.
		if err = c.start(ctx); !errors.Is(err, errEnded) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, h.remove())
	}
	return c, nil
}

// initialise creates the data directory and writes the configuration.
func (c *Cluster) initialise(ctx context.Context) error {
	initdb := exec.CommandContext(ctx, filepath.Join(c.bin, "initdb"), "--pgdata="+c.home.data(), "--username="+superuser,
		"--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	c.home.adopt(initdb)
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("creating a PostgreSQL data directory with %s: %w: %s", initdb.Path, err, out)
	}
	if c.opts.Trusted != "" {
		if err := c.add("pg_hba.conf", fmt.Sprintf("host %[1]s %[1]s %[2]s trust\n", "all", c.opts.Trusted)); err != nil {
			return err
		}
	}
	return c.configure()
}

// configure adds this server's settings to postgresql.conf.
func (c *Cluster) configure() error {
	return c.add("postgresql.conf", c.opts.configuration(c.home.sockets()))
}

// add adds lines to one of the configuration's files.
func (c *Cluster) add(name, lines string) error {
	file, err := os.OpenFile(filepath.Join(c.home.data(), name), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("configuring PostgreSQL: %w", err)
	}
	_, err = file.WriteString(lines)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("configuring PostgreSQL: %w", err)
	}
	return nil
}

// configuration returns the lines that are added to postgresql.conf; of several lines for one setting the last counts.
func (o Options) configuration(sockets string) string {
	var conf strings.Builder
	set := func(name, value string) {
		fmt.Fprintf(&conf, "%s = '%s'\n", name, strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(value))
	}
	set("listen_addresses", "127.0.0.1")
	set("unix_socket_directories", sockets)
	set("max_connections", "300")
	set("max_prepared_transactions", "20")
	set("timezone", "UTC")
	set("log_timezone", "UTC")
	set("log_line_prefix", "%m [%p] %q%d %a ")
	if !o.Durable {
		set("fsync", "off")
		set("full_page_writes", "off")
		set("max_wal_size", "256MB") // memory holds it
	}
	for name, value := range o.Settings {
		set(name, value)
	}
	return conf.String()
}

// DSN returns the connection string of a database of the server: "postgres" always exists. It stays valid over restarts.
func (c *Cluster) DSN(database string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", superuser, c.port, database)
}

// CreateDatabase creates an empty database and returns its connection string.
func (c *Cluster) CreateDatabase(ctx context.Context, name string) (dsn string, err error) {
	return createDatabase(ctx, c.DSN(superuser), name, emptyTemplate)
}

// Start starts the server again, on the same port and data, after [Cluster.Stop] or [Cluster.Kill], and returns when it
// accepts connections. A server that runs is left alone.
func (c *Cluster) Start() error {
	if c.server != nil && c.server.running() {
		return nil
	}
	return c.start(context.Background())
}

func (c *Cluster) start(ctx context.Context) error {
	log, err := os.OpenFile(c.home.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	defer log.Close()
	postgres := exec.Command(filepath.Join(c.bin, "postgres"), "-D", c.home.data(), "-p", strconv.Itoa(c.port))
	c.home.adopt(postgres)
	postgres.Stdout, postgres.Stderr = log, log
	server, err := spawn(postgres)
	if err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	c.server = server
	if c.release, err = guard(server.pid); err != nil {
		c.release = func() {}
		return errors.Join(err, c.Kill())
	}
	if err := c.awaitReady(ctx); err != nil {
		return fmt.Errorf("starting PostgreSQL on port %d: %w\nits log:\n%s", c.port, errors.Join(err, c.Kill()), c.Log())
	}
	return nil
}

// awaitReady waits until the postmaster notes in its lock file that it accepts connections.
func (c *Cluster) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.opts.StartTimeout, fmt.Errorf("not ready within %s", c.opts.StartTimeout))
	defer cancel()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		select {
		case <-c.server.done:
			return fmt.Errorf("%w: %s", errEnded, c.server.outcome())
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-poll.C:
		}
		if ready, err := c.home.ready(c.server.pid); ready || err != nil {
			return err
		}
	}
}

// Stop shuts the server down and returns when it has ended; its data stay. A server that does not end within
// [Options.StopTimeout] is killed, and one that had ended by itself, or was killed from outside, is an error.
func (c *Cluster) Stop(mode StopMode) error {
	if c.server == nil {
		return nil
	}
	if !c.server.running() {
		outcome := c.server.outcome()
		c.forget()
		return fmt.Errorf("stopping PostgreSQL: it had ended before: %s\nits log:\n%s", outcome, c.Log())
	}
	if err := c.server.signal(syscall.Signal(mode)); err != nil {
		return fmt.Errorf("stopping PostgreSQL: %w", err)
	}
	if !c.server.wait(c.opts.StopTimeout) {
		return errors.Join(fmt.Errorf("stopping PostgreSQL: it took longer than %s and was killed", c.opts.StopTimeout), c.Kill())
	}
	c.forget()
	return nil
}

// Restart is [Cluster.Stop], then [Cluster.Start].
func (c *Cluster) Restart(mode StopMode) error {
	if err := c.Stop(mode); err != nil {
		return err
	}
	return c.Start()
}

// Kill ends the server with all its processes by SIGKILL and returns when they are gone; its data stay.
func (c *Cluster) Kill() error {
	if c.server == nil {
		return nil
	}
	if err := c.server.killTree(c.opts.StopTimeout); err != nil {
		return fmt.Errorf("killing PostgreSQL: %w", err)
	}
	c.forget()
	return nil
}

func (c *Cluster) forget() {
	c.release()
	c.server = nil
}

// Close ends the server, if it runs, and removes its data.
func (c *Cluster) Close() error {
	var err error
	if c.server != nil && c.server.running() {
		err = c.Stop(Immediate)
	}
	return errors.Join(err, c.home.remove())
}

// Log returns the end of the server's log, at most 64 KiB.
func (c *Cluster) Log() string { return tail(c.home.log()) }

// tail returns the end of a log.
func tail(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if _, err := file.Seek(-logTail, io.SeekEnd); err != nil {
		_, err = file.Seek(0, io.SeekStart)
		if err != nil {
			return err.Error()
		}
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// freePort returns a port of 127.0.0.1 that nobody listens on at the moment.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := lowestPort + rand.IntN(highestPort-lowestPort+1)
		var listener net.Listener
		if listener, err = net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("looking for a free port: %w", err)
}
