package cli

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
)

// runHealthcheck runs the command and returns what it has printed.
func runHealthcheck(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, failures bytes.Buffer
	code = Run(ctx, append([]string{"healthcheck"}, args...), Config{Stdout: &out, Stderr: &failures, Getenv: func(string) string { return "" }})
	return code, out.String(), failures.String()
}

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/live":
			_, _ = fmt.Fprintln(w, "live\x1b[2J\nfor an hour")
		case "/stuck":
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprintln(w, "stuck: coordinator")
		case "/elsewhere":
			http.Redirect(w, r, "/live", http.StatusFound)
		case "/silent":
			<-done
		}
	}))
	t.Cleanup(func() {
		close(done)
		server.Close()
	})
	for _, c := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string
	}{
		{"200", []string{server.URL + "/live"}, exitDone, "live [2J\nfor an hour\n", ""},
		{"503", []string{server.URL + "/stuck"}, exitFailed, "", "/stuck answers 503 Service Unavailable: stuck: coordinator"},
		{"a redirection", []string{server.URL + "/elsewhere"}, exitFailed, "", "answers 302 Found"},
		{"no answer", []string{"--timeout", "50ms", server.URL + "/silent"}, exitFailed, "", "/silent: no answer within 50ms"},
		{"nobody listens", []string{"http://127.0.0.1:1/live"}, exitFailed, "", "connection refused"},
		{"no URL", nil, exitUsage, "", "healthcheck needs one URL, got 0"},
		{"two URLs", []string{"http://a", "http://b"}, exitUsage, "", "healthcheck needs one URL, got 2"},
		{"no scheme", []string{"localhost:8080/live"}, exitUsage, "", `must begin with http:// or https:// and name a host, got "localhost:8080/live"`},
		{"no host", []string{"http:///live"}, exitUsage, "", "must begin with http:// or https:// and name a host"},
		{"no time", []string{"--timeout", "0s", "http://a"}, exitUsage, "", "--timeout must be above 0, got 0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := runHealthcheck(t.Context(), c.args...)
			assert.Equal(t, c.code, code)
			assert.Equal(t, c.stdout, stdout)
			if assert.Contains(t, stderr, c.stderr); c.stderr == "" {
				assert.Empty(t, stderr)
			}
		})
	}
}
