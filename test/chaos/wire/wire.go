// Package wire is a faulty network between a worker and its database: a TCP proxy that delays, holds back, refuses and cuts.
//
// It is written here rather than taken from toxiproxy, which would put some twenty modules into the go.mod of everybody who uses
// the library, and which can neither hold back one direction while the connection stays open nor cut at a chosen message.
package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// State is how the wire treats what passes. The zero value is a healthy wire.
type State struct {
	// Delay is added to each chunk, in both directions.
	Delay time.Duration
	// HoldUp and HoldDown hold back what the client, or the server, sends, with the connections open, until that changes: both
	// together are a network that is gone without a word, HoldDown alone loses answers.
	HoldUp, HoldDown bool
	// Refuse ends new connections at once.
	Refuse bool
}

// Proxy forwards connections to one server. Its methods may be called by several goroutines.
type Proxy struct {
	listener net.Listener
	server   string
	group    sync.WaitGroup

	mu      sync.Mutex
	state   State
	changed chan struct{} // closed when state changes
	links   map[*link]struct{}
	traps   []*trap
	closed  bool
}

// link is one client's connection and the one to the server that belongs to it.
type link struct {
	client, server *net.TCPConn
	once           sync.Once
	gone           chan struct{}
	sprung         *trap // the next answer is lost; nil if not
}

// trap waits for a message of the client.
type trap struct {
	match  []byte
	sprung chan struct{}
}

// Listen starts a proxy to the server on a port of its own on 127.0.0.1. The caller closes it.
func Listen(ctx context.Context, server string) (*Proxy, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for the clients of %s: %w", server, err)
	}
	p := &Proxy{listener: listener, server: server, changed: make(chan struct{}), links: map[*link]struct{}{}}
	p.group.Go(p.accept)
	return p, nil
}

// Port is where clients connect, on 127.0.0.1.
func (p *Proxy) Port() int {
	if address, ok := p.listener.Addr().(*net.TCPAddr); ok {
		return address.Port
	}
	return 0
}

// Set changes the wire. What is held back goes on its way when nothing holds it any more.
func (p *Proxy) Set(s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
	close(p.changed)
	p.changed = make(chan struct{})
}

// Cut resets all connections, as if the way between them had broken; new ones are possible. It returns how many there were.
func (p *Proxy) Cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
	return len(p.links)
}

// LoseAnswer waits for the first chunk that a client sends and that contains match, and resets that client's connection when the
// server has answered it, without the answer. The channel is closed when that has happened.
func (p *Proxy) LoseAnswer(match []byte) <-chan struct{} {
	t := &trap{match: match, sprung: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.traps = append(p.traps, t)
	return t.sprung
}

// Close ends all connections and the listener.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	for l := range p.links {
		l.reset()
	}
	p.mu.Unlock()
	err := p.listener.Close()
	p.group.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		if client, ok := conn.(*net.TCPConn); ok {
			p.group.Go(func() { p.serve(client) })
		}
	}
}

// dialTimeout bounds the connection to the server, which is near.
const dialTimeout = 5 * time.Second

// serve connects a client with the server.
func (p *Proxy) serve(client *net.TCPConn) {
	l := &link{client: client, gone: make(chan struct{})}
	if !p.keep(l) {
		l.reset()
		return
	}
	defer p.forget(l)
	conn, err := net.DialTimeout("tcp4", p.server, dialTimeout)
	if err != nil {
		return
	}
	server, ok := conn.(*net.TCPConn)
	if !ok || !p.connect(l, server) {
		_ = conn.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.pump(l, client, server, true) })
	both.Go(func() { p.pump(l, server, client, false) })
	both.Wait()
}

// keep takes note of a connection; false if it is refused.
func (p *Proxy) keep(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.state.Refuse {
		return false
	}
	p.links[l] = struct{}{}
	return true
}

// connect adds the server's side; false if the link has been reset meanwhile.
func (p *Proxy) connect(l *link, server *net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-l.gone:
		return false
	default:
		l.server = server
		return true
	}
}

func (p *Proxy) forget(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.reset()
	delete(p.links, l)
}

// reset ends both sides without a goodbye. The caller holds the proxy's lock, or the link is not known to it.
func (l *link) reset() {
	l.once.Do(func() {
		close(l.gone)
		for _, conn := range []*net.TCPConn{l.client, l.server} {
			if conn != nil {
				_ = conn.SetLinger(0)
				_ = conn.Close()
			}
		}
	})
}

// pump forwards one direction until one end is gone. The end of one direction is news too, and is delayed and held back like data.
func (p *Proxy) pump(l *link, from, to *net.TCPConn, up bool) {
	buffer := make([]byte, 32<<10)
	for {
		n, readErr := from.Read(buffer)
		if !p.pass(l, up) {
			return
		}
		if up {
			p.spring(l, buffer[:n])
		} else if n > 0 && p.loses(l) {
			break
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				break
			}
		}
		if readErr != nil {
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l.reset()
}

// spring looks whether the chunk is what a trap waits for: then the answer to it will be lost.
func (p *Proxy) spring(l *link, chunk []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, t := range p.traps {
		if l.sprung == nil && bytes.Contains(chunk, t.match) {
			p.traps = slices.Delete(p.traps, i, i+1)
			l.sprung = t
			return
		}
	}
}

// loses says whether what the server has just sent is to be lost, with the connection.
func (p *Proxy) loses(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.sprung == nil {
		return false
	}
	l.reset()
	close(l.sprung.sprung)
	return true
}

// pass waits as long as the wire wants; false if the link is gone.
func (p *Proxy) pass(l *link, up bool) bool {
	delayed := false
	for {
		p.mu.Lock()
		s, changed := p.state, p.changed
		p.mu.Unlock()
		var timer <-chan time.Time
		switch held := (up && s.HoldUp) || (!up && s.HoldDown); {
		case held:
		case s.Delay > 0 && !delayed:
			timer = time.After(s.Delay)
		default:
			return true
		}
		select {
		case <-timer:
			delayed = true
		case <-changed:
		case <-l.gone:
			return false
		}
	}
}
