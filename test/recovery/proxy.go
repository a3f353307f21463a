package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// proxy is a way to the server that can be cut: then nothing passes in either direction and no connection ends, also none that is
// made meanwhile. What was sent is not lost: it arrives when the way is whole again, as TCP would send it again.
//
// The kernels at both ends go on acknowledging, so keepalives do not notice: only silence tells. A host whose kernel is gone as
// well is noticed no later than this.
type proxy struct {
	listener net.Listener
	target   string
	group    sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	whole chan struct{} // closed while everything passes
	cut   bool
	ended chan struct{}
}

// newProxy listens on a port of its own.
func newProxy(ctx context.Context, target string) (*proxy, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for a worker's connections: %w", err)
	}
	p := &proxy{listener: listener, target: target, conns: map[net.Conn]bool{}, whole: make(chan struct{}), ended: make(chan struct{})}
	close(p.whole)
	p.group.Go(p.accept)
	return p, nil
}

// address is where workers connect.
func (p *proxy) address() string { return p.listener.Addr().String() }

// drop cuts the way.
func (p *proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.cut {
		p.cut, p.whole = true, make(chan struct{})
	}
}

// heal makes the way whole again.
func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		p.cut = false
		close(p.whole)
	}
}

// close ends all connections.
func (p *proxy) close() error {
	err := p.listener.Close()
	p.mu.Lock()
	close(p.ended)
	for conn := range p.conns {
		err = errors.Join(err, conn.Close())
	}
	p.conns = nil
	p.mu.Unlock()
	p.group.Wait()
	return err
}

func (p *proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.keep(conn) {
			p.group.Go(func() { p.serve(conn) })
		}
	}
}

// keep takes note of a connection; false if the proxy has been closed.
func (p *proxy) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		_ = conn.Close()
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *proxy) forget(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns[conn] {
		delete(p.conns, conn)
		_ = conn.Close()
	}
}

const dialTimeout = 5 * time.Second

// serve passes on what comes, both ways, until one end closes.
func (p *proxy) serve(client net.Conn) {
	defer p.forget(client)
	if !p.pass() {
		return
	}
	server, err := net.DialTimeout("tcp4", p.target, dialTimeout)
	if err != nil || !p.keep(server) {
		return
	}
	p.group.Go(func() {
		p.pump(client, server)
		p.forget(client)
	})
	p.pump(server, client)
	p.forget(server)
}

// pass waits while the way is cut; false if the proxy has been closed.
func (p *proxy) pass() bool {
	p.mu.Lock()
	whole := p.whole
	p.mu.Unlock()
	select {
	case <-p.ended:
		return false
	default:
	}
	select {
	case <-whole:
		return true
	case <-p.ended:
		return false
	}
}

// pump passes on what from sends. An end is news too, and waits like everything else.
func (p *proxy) pump(to io.Writer, from io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, readErr := from.Read(buffer)
		if !p.pass() {
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if readErr != nil {
			return
		}
	}
}
