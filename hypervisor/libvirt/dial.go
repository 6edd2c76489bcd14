package libvirt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// userTimeout is how long sent data may stay unacknowledged. Keepalive
	// alone does not notice a dead peer while a request is in flight.
	userTimeout = 3 * time.Second

	minPacket = 28       // length and header
	maxPacket = 33 << 20 // libvirt's own limit is 32 MiB
)

// dial connects to the daemon; the result's deadline is cleared.
func (e endpoint) dial(ctx context.Context, tlsConfig *tls.Config) (*conn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3},
		Control: func(network, _ string, raw syscall.RawConn) error {
			if network == "unix" {
				return nil
			}
			var serr error
			err := raw.Control(func(fd uintptr) {
				serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
			})
			return errors.Join(err, serr)
		},
	}
	c, err := d.DialContext(ctx, e.network, e.addr())
	if err != nil {
		return nil, err
	}
	if e.tls {
		if c, err = e.handshake(ctx, c, tlsConfig); err != nil {
			return nil, err
		}
	}
	return &conn{Conn: c, lost: make(chan struct{})}, nil
}

// addr is the first candidate that exists; sockets come and go with daemons.
func (e endpoint) addr() string {
	for _, a := range e.addrs {
		if len(e.addrs) == 1 {
			return a
		}
		if _, err := os.Stat(a); err == nil {
			return a
		}
	}
	return e.addrs[0]
}

// handshake speaks TLS and waits for the daemon's verdict: one byte, 1 when it
// accepts our certificate.
func (e endpoint) handshake(ctx context.Context, raw net.Conn, config *tls.Config) (net.Conn, error) {
	if config == nil {
		var err error
		if config, err = loadPKI(e.pki); err != nil {
			raw.Close()
			return nil, err
		}
	}
	config = config.Clone()
	if config.ServerName == "" {
		config.ServerName = e.host
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	c := tls.Client(raw, config)
	verdict := make([]byte, 1)
	err := c.HandshakeContext(ctx)
	if err == nil {
		if _, err = c.Read(verdict); err != nil {
			err = fmt.Errorf("the daemon did not accept our certificate: %w", err)
		} else if verdict[0] != 1 {
			err = errors.New("the daemon did not accept our certificate")
		}
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("tls: %w", err)
	}
	return c, nil
}

// loadPKI reads certificates from where libvirt's own clients look for them.
func loadPKI(dir string) (*tls.Config, error) {
	ca, cert, key := "/etc/pki/CA/cacert.pem", "/etc/pki/libvirt/clientcert.pem", "/etc/pki/libvirt/private/clientkey.pem"
	if dir != "" {
		ca, cert, key = filepath.Join(dir, "cacert.pem"), filepath.Join(dir, "clientcert.pem"), filepath.Join(dir, "clientkey.pem")
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("read libvirt CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read libvirt CA: there is no certificate in %s", ca)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("read libvirt client certificate: %w", err)
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// conn knows when it is lost and refuses packets that go-libvirt, which trusts
// their length, would allocate gigabytes for or panic on.
type conn struct {
	net.Conn
	once sync.Once
	lost chan struct{} // closed once nothing more will be received

	// position in the stream of packets; only Read uses it
	head [4]byte
	have int    // bytes of head that were read
	left uint32 // bytes of the packet that are to come
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if bad := c.follow(p[:n]); bad != nil {
		n, err = 0, bad
	}
	if err != nil {
		c.Close()
	}
	return n, err
}

func (c *conn) follow(b []byte) error {
	for len(b) > 0 {
		if c.left > 0 {
			n := min(len(b), int(c.left))
			b, c.left = b[n:], c.left-uint32(n)
			continue
		}
		n := copy(c.head[c.have:], b)
		b, c.have = b[n:], c.have+n
		if c.have < len(c.head) {
			return nil
		}
		size := uint32(c.head[0])<<24 | uint32(c.head[1])<<16 | uint32(c.head[2])<<8 | uint32(c.head[3])
		if size < minPacket || size > maxPacket {
			return fmt.Errorf("the peer does not speak libvirt's protocol (a packet of %d bytes)", size)
		}
		c.have, c.left = 0, size-uint32(len(c.head))
	}
	return nil
}

func (c *conn) Close() error {
	var err error
	c.once.Do(func() {
		err = c.Conn.Close()
		close(c.lost)
	})
	return err
}
