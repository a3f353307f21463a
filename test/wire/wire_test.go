package wire

import (
	"bufio"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// echo is a server that sends back each line.
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
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	t.Cleanup(func() {
		assert.NoError(t, listener.Close())
		<-done
	})
	return listener.Addr().String()
}

func newProxy(t *testing.T) *Proxy {
	t.Helper()
	p, err := Listen(t.Context(), echo(t))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p
}

// client is a connection through the wire.
type client struct {
	net.Conn
	answers *bufio.Reader
}

func dial(t *testing.T, p *Proxy) client {
	t.Helper()
	conn, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port())))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return client{conn, bufio.NewReader(conn)}
}

func (c client) say(t *testing.T, line string) {
	t.Helper()
	_, err := io.WriteString(c, line+"\n")
	require.NoError(t, err)
}

func (c client) hear(t *testing.T, line string) {
	t.Helper()
	answer, err := c.answers.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, line+"\n", answer)
}

// broken waits for the connection's end.
func (c client) broken(t *testing.T) {
	t.Helper()
	_, err := c.answers.ReadString('\n')
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection stands")
}

// refused makes sure that a new connection ends at once, if it comes to stand at all.
func refused(t *testing.T, p *Proxy) {
	t.Helper()
	conn, err := net.Dial("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port())))
	if err != nil {
		require.ErrorIs(t, err, syscall.ECONNRESET)
		return
	}
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	client{conn, bufio.NewReader(conn)}.broken(t)
}

// deaf makes sure that nothing is heard for a while.
func (c client) deaf(t *testing.T) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err := c.answers.ReadByte()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
}

func TestHealthyAndDelayed(t *testing.T) {
	p := newProxy(t)
	c := dial(t, p)
	c.say(t, "one")
	c.hear(t, "one")
	p.Set(State{Delay: 60 * time.Millisecond})
	began := time.Now()
	c.say(t, "two")
	c.hear(t, "two")
	assert.GreaterOrEqual(t, time.Since(began), 120*time.Millisecond, "there and back")
}

func TestHeldBackThenWhole(t *testing.T) {
	for name, s := range map[string]State{"up": {HoldUp: true}, "down": {HoldDown: true}, "both": {HoldUp: true, HoldDown: true}} {
		t.Run(name, func(t *testing.T) {
			p := newProxy(t)
			c := dial(t, p)
			c.say(t, "before")
			c.hear(t, "before")
			p.Set(s)
			c.say(t, "held")
			late := dial(t, p)
			late.say(t, "late")
			c.deaf(t)
			late.deaf(t)
			p.Set(State{})
			c.hear(t, "held")
			late.hear(t, "late")
		})
	}
}

func TestAHeldWireIsClosed(t *testing.T) {
	p, err := Listen(t.Context(), echo(t))
	require.NoError(t, err)
	c := dial(t, p)
	c.say(t, "one")
	c.hear(t, "one")
	p.Set(State{HoldUp: true, HoldDown: true})
	require.NoError(t, p.Close())
	c.broken(t)
}

func TestForgottenConnectionsAreSilentForEver(t *testing.T) {
	p := newProxy(t)
	c := dial(t, p)
	c.say(t, "one")
	c.hear(t, "one")
	p.Forget()
	c.say(t, "two")
	c.deaf(t)
	other := dial(t, p)
	other.say(t, "three")
	other.hear(t, "three")
	c.say(t, "four")
	c.deaf(t)
}

func TestLostMessage(t *testing.T) {
	p := newProxy(t)
	lost := p.LoseMessage([]byte("COMMIT"))
	c := dial(t, p)
	c.say(t, "one")
	c.hear(t, "one")
	c.say(t, "COMMIT")
	<-lost
	c.broken(t)
	other := dial(t, p)
	other.say(t, "COMMIT")
	other.hear(t, "COMMIT")
}

func TestCutAndRefused(t *testing.T) {
	p := newProxy(t)
	c := dial(t, p)
	c.say(t, "one")
	c.hear(t, "one")
	p.Set(State{Refuse: true, HoldUp: true})
	assert.Equal(t, 1, p.Cut())
	c.broken(t)
	refused(t, p)
	p.Set(State{})
	again := dial(t, p)
	again.say(t, "two")
	again.hear(t, "two")
}

func TestLostAnswer(t *testing.T) {
	p := newProxy(t)
	lost := p.LoseAnswer([]byte("COMMIT"), nil)
	c, other := dial(t, p), dial(t, p)
	c.say(t, "one")
	c.hear(t, "one")
	c.say(t, "COMMIT")
	c.broken(t)
	select {
	case <-lost:
	case <-time.After(patience):
		t.Fatal("nobody says that the answer was lost")
	}
	other.say(t, "COMMIT")
	other.hear(t, "COMMIT")
}

func TestTheAnswerThatIsLostIsTheOneThatIsNamed(t *testing.T) {
	p := newProxy(t)
	lost := p.LoseAnswer([]byte("ask"), []byte("answer"))
	c := dial(t, p)
	c.say(t, "answer")
	c.hear(t, "answer")
	c.say(t, "ask")
	c.hear(t, "ask")
	c.say(t, "answer")
	<-lost
	c.broken(t)
}

func TestServerIsGone(t *testing.T) {
	p, err := Listen(t.Context(), "127.0.0.1:1")
	require.NoError(t, err)
	refused(t, p)
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
}
