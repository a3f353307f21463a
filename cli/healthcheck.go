package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v3"
)

// healthcheck is the command that asks a worker's process how it is: for images that have neither a shell nor curl.
func (a *app) healthcheck() *urfave.Command {
	return &urfave.Command{
		Name: "healthcheck", Usage: "ask a worker's health handler; the exit code is 0 if it answers 200, else 1", ArgsUsage: "URL",
		Description: "It needs no database. The URL is that of orchestrator.Orchestrator.LiveHandler or ReadyHandler.",
		Flags: []urfave.Flag{
			&urfave.DurationFlag{Name: "timeout", Value: 5 * time.Second, Usage: "`how long` to wait for the answer"},
		},
		Action: a.askHealth,
	}
}

func (a *app) askHealth(ctx context.Context, c *urfave.Command) error {
	if c.Args().Len() != 1 {
		return usage(c, fmt.Errorf("healthcheck needs one URL, got %d", c.Args().Len()))
	}
	address, timeout := c.Args().First(), c.Duration("timeout")
	parsed, err := url.Parse(address)
	switch {
	case timeout <= 0:
		return usage(c, fmt.Errorf("--timeout must be above 0, got %s", timeout))
	case err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https":
		return usage(c, fmt.Errorf("the URL must begin with http:// or https:// and name a host, got %q", address))
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(limited, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("asking %s: %w", address, err)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	answer, err := client.Do(request)
	if err != nil {
		if ctx.Err() == nil && limited.Err() != nil {
			return fmt.Errorf("asking %s: no answer within %s", address, timeout)
		}
		return err // it says what was asked
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", address, err)
	}
	if answer.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(fmt.Sprintf("%s answers %s: %s", address, answer.Status, text)))
	}
	for line := range strings.Lines(strings.TrimSpace(string(text))) {
		if _, err := fmt.Fprintln(a.config.Stdout, oneLine(strings.TrimSuffix(line, "\n"))); err != nil {
			return err
		}
	}
	return nil
}
