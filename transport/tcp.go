package transport

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// defaultUserTimeout is how long a TCP connection waits for an acknowledgement.
// Only the peer's kernel has to answer, so a busy process is not a dead one.
const defaultUserTimeout = 3 * time.Second

// keepAlive probes an idle connection. With TCP_USER_TIMEOUT set the kernel
// gives up after that time instead of after Count probes.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3}
}

func listenTCP(ctx context.Context, addr string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive()}
	return lc.Listen(ctx, "tcp", addr)
}

func tcpDialer(connect, user time.Duration) DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := net.Dialer{Timeout: connect, KeepAliveConfig: keepAlive()}
		c, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if err := setUserTimeout(c, user); err != nil {
			c.Close()
			return nil, err
		}
		return c, nil
	}
}

// setUserTimeout sets TCP_USER_TIMEOUT: without it data in flight to a machine
// that lost power is retransmitted for a quarter of an hour. Connections that
// are not TCP are left alone.
func setUserTimeout(c net.Conn, d time.Duration) error {
	tc, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return fmt.Errorf("set TCP user timeout: %w", err)
	}
	var serr error
	err = raw.Control(func(fd uintptr) {
		serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
	if err == nil {
		err = serr
	}
	if err != nil {
		return fmt.Errorf("set TCP user timeout: %w", err)
	}
	return nil
}
