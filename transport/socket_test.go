package transport_test

import (
	"net"
	"testing"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"

	"lifeboat/transport"
)

// inspectingListener hands out what it accepts a second time.
func inspectingListener(t *testing.T) (net.Listener, <-chan *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan *net.TCPConn, 8)
	return &inspected{ln, ch}, ch
}

type inspected struct {
	net.Listener
	ch chan *net.TCPConn
}

func (l *inspected) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tc, ok := c.(*net.TCPConn); ok {
		l.ch <- tc
	}
	return c, err
}

func sockopt(t *testing.T, c *net.TCPConn, opt int) (value int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var serr error
	if err := raw.Control(func(fd uintptr) { value, serr = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, opt) }); err != nil || serr != nil {
		t.Fatal(err, serr)
	}
	return value
}

func raftAddr(l *transport.Listener) raft.ServerAddress { return raft.ServerAddress(l.Addr().String()) }
