package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// relayed are the signals that end Run's command, and it alone: Run itself ends after the command.
var relayed = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}

// Run runs a command with a server for its databases in PGTEST_URL, and returns the command's exit code: 128 and the signal's
// number for one that a signal ended. Where DATABASE_URL or PGTEST_URL names a server no other is started. SIGINT, SIGTERM,
// SIGHUP and SIGQUIT are passed on.
func Run(ctx context.Context, opts Options, command []string) (code int, err error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, relayed...)
	defer signal.Stop(signals)

	environment := os.Environ()
	if os.Getenv(DatabaseURLVariable) == "" && os.Getenv(ServerURLVariable) == "" {
		server, err := Start(ctx, opts)
		if err != nil {
			return 1, err
		}
		defer func() { err = errors.Join(err, server.Close()) }()
		environment = append(environment, ServerURLVariable+"="+server.DSN(superuser))
	}

	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environment, os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("running %s: %w", command[0], err)
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case sig := <-signals:
				_ = cmd.Process.Signal(sig) // fails only if the command has ended
			case <-ended:
				return
			}
		}
	}()
	return exitCode(cmd.Wait())
}

// exitCode turns how a command ended into the code that a shell would report.
func exitCode(ended error) (int, error) {
	exit, ok := errors.AsType[*exec.ExitError](ended)
	if !ok {
		if ended != nil {
			return 1, fmt.Errorf("waiting for the command: %w", ended)
		}
		return 0, nil
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}
