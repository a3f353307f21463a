// Package wire is a faulty network between a worker and its database: a TCP proxy that delays, holds back, forgets, refuses and cuts.
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

	"github.com/jackc/pgx/v5/pgconn"
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
	forgotten      bool
}

// trap waits for a message of the client.
type trap struct {
	match  []byte
	answer []byte // what is in the chunk that is lost; nil for the next one
	before bool   // the message itself is lost
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

// Through makes a client connect through the wire.
func (p *Proxy) Through(config *pgconn.Config) {
	config.Host, config.Port, config.Fallbacks = "127.0.0.1", uint16(p.Port()), nil
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

// Forget makes all connections silent, as a NAT that has lost its table: what either side sends is lost from now on, and the end of
// a side too. New connections are possible.
func (p *Proxy) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.forgotten = true
	}
}

// Commit and Committed are PostgreSQL's client that asks for a COMMIT, and its server that has done it.
var (
	Commit    = []byte("COMMIT\x00")
	Committed = []byte("C\x00\x00\x00\x0bCOMMIT\x00")
)

// LoseMessage waits for the first chunk that a client sends and that contains match, and resets that client's connection before the
// server gets it. The channel is closed when that has happened.
func (p *Proxy) LoseMessage(match []byte) <-chan struct{} {
	return p.set(&trap{match: match, before: true, sprung: make(chan struct{})})
}

// LoseAnswer waits for the first chunk that a client sends and that contains match, and resets that client's connection when the
// server has answered it, without the answer: the next chunk that contains answer, or any if that is nil. Without match it is the first
// such answer on any connection. The channel is closed when that has happened.
func (p *Proxy) LoseAnswer(match, answer []byte) <-chan struct{} {
	return p.set(&trap{match: match, answer: answer, sprung: make(chan struct{})})
}

func (p *Proxy) set(t *trap) <-chan struct{} {
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
		if p.silent(l) {
			if readErr != nil {
				return
			}
			continue
		}
		if up && p.spring(l, buffer[:n]) || !up && n > 0 && p.loses(l, buffer[:n]) {
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

// silent says whether the link has been forgotten.
func (p *Proxy) silent(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return l.forgotten
}

// spring looks whether the chunk is what a trap waits for: then it is lost, with the connection, or the answer to it will be.
func (p *Proxy) spring(l *link, chunk []byte) (lost bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, t := range p.traps {
		if l.sprung != nil || t.match == nil || !bytes.Contains(chunk, t.match) {
			continue
		}
		p.traps = slices.Delete(p.traps, i, i+1)
		if t.before {
			l.reset()
			close(t.sprung)
			return true
		}
		l.sprung = t
		return false
	}
	return false
}

// loses says whether what the server has just sent is to be lost, with the connection. A trap without a question waits for the answer
// of any connection.
func (p *Proxy) loses(l *link, chunk []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.IndexFunc(p.traps, func(t *trap) bool { return t.match == nil && bytes.Contains(chunk, t.answer) }); i >= 0 && l.sprung == nil {
		l.sprung = p.traps[i]
		p.traps = slices.Delete(p.traps, i, i+1)
	}
	if l.sprung == nil || !bytes.Contains(chunk, l.sprung.answer) {
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
