// Command pupsourcing-orchestrator looks at the workers of a database and operates them. See package cli.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/getpup/pupsourcing-orchestrator/v2/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[1:], cli.Config{})
	stop()
	os.Exit(code)
}
