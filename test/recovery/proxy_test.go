package main

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const testPatience = 10 * time.Second

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String()
}

// dial connects through the proxy.
func dial(t *testing.T, p *proxy) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp4", p.address(), testPatience)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// hears says what comes within d.
func hears(conn net.Conn, d time.Duration, n int) (string, error) {
	_ = conn.SetReadDeadline(time.Now().Add(d))
	buffer := make([]byte, n)
	n, err := io.ReadFull(conn, buffer)
	return string(buffer[:n]), err
}

func TestACutProxyIsSilentAndHealsWithoutLoss(t *testing.T) {
	p, err := newProxy(t.Context(), echo(t))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.close()) })
	conn := dial(t, p)
	_, err = conn.Write([]byte("one"))
	require.NoError(t, err)
	heard, err := hears(conn, testPatience, 3)
	require.NoError(t, err)
	assert.Equal(t, "one", heard)

	p.drop()
	_, err = conn.Write([]byte("two"))
	require.NoError(t, err)
	late := dial(t, p)
	_, err = late.Write([]byte("late"))
	require.NoError(t, err)
	for _, c := range []net.Conn{conn, late} {
		_, err = hears(c, 100*time.Millisecond, 3)
		var timeout net.Error
		require.ErrorAs(t, err, &timeout, "silence, not an end")
		require.True(t, timeout.Timeout())
	}

	p.heal()
	heard, err = hears(conn, testPatience, 3)
	require.NoError(t, err)
	assert.Equal(t, "two", heard)
	heard, err = hears(late, testPatience, 4)
	require.NoError(t, err)
	assert.Equal(t, "late", heard)
}

func TestAProxyPassesAnEndOn(t *testing.T) {
	p, err := newProxy(t.Context(), echo(t))
	require.NoError(t, err)
	conn := dial(t, p)
	_, err = conn.Write([]byte("x"))
	require.NoError(t, err)
	_, err = hears(conn, testPatience, 1)
	require.NoError(t, err)
	p.drop()
	require.NoError(t, p.close(), "also while it is cut")
	_, err = hears(conn, testPatience, 1)
	require.ErrorIs(t, err, io.EOF)
}
