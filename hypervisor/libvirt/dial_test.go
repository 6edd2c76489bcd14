package libvirt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/hypervisor"
)

// A machine that vanishes with a request in flight is noticed only with
// TCP_USER_TIMEOUT, one that vanishes between two requests only with keepalive.
func TestDialSetsSocketOptions(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	e := endpoint{network: "tcp", addrs: []string{ln.Addr().String()}}
	c, err := e.dial(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []struct {
		name               string
		level, opt, atMost int
	}{
		{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 5000},
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 2},
		{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 2},
		{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 5},
	} {
		var got int
		var gerr error
		err := raw.Control(func(fd uintptr) { got, gerr = unix.GetsockoptInt(int(fd), o.level, o.opt) })
		if err := errors.Join(err, gerr); err != nil || got < 1 || got > o.atMost {
			t.Errorf("%s is %d (%v), want 1 to %d", o.name, got, err, o.atMost)
		}
	}
}

// peer is a program at the driver's address that is no libvirtd.
func peer(t *testing.T, dialTimeout time.Duration, serve func(net.Conn)) *Driver {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	d, err := Open("qemu+tcp://"+ln.Addr().String()+"/system", Options{DialTimeout: dialTimeout, CallTimeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// Whatever answers there, the driver neither hangs nor panics nor allocates by
// the peer's word.
func TestStrangePeers(t *testing.T) {
	packet := func(size uint32, body []byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, size), body...)
	}
	for name, serve := range map[string]func(net.Conn){
		"silent":        func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"closing":       func(net.Conn) {},
		"web server":    func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") },
		"huge packet":   func(c net.Conn) { _, _ = c.Write(packet(1<<31, make([]byte, 64))); _, _ = io.Copy(io.Discard, c) },
		"empty packets": func(c net.Conn) { _, _ = c.Write(make([]byte, 4096)); _, _ = io.Copy(io.Discard, c) },
		"half a packet": func(c net.Conn) { _, _ = c.Write(packet(64, make([]byte, 20))); _, _ = io.Copy(io.Discard, c) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := peer(t, 300*time.Millisecond, serve)
			begin := time.Now()
			_, err := d.Domains(t.Context())
			if !errors.Is(err, hypervisor.ErrUnavailable) || time.Since(begin) > 2*time.Second {
				t.Errorf("after %v: %v, want ErrUnavailable", time.Since(begin), err)
			}
			if err := d.Start(t.Context(), hypervisor.StartRequest{UUID: hypervisor.UUID{1}, XML: []byte("<domain/>")}); err == nil {
				t.Error("started something")
			}
		})
	}
}

// Close does not wait for a peer that never answers.
func TestCloseWhileConnecting(t *testing.T) {
	accepted := make(chan struct{}, 16)
	d := peer(t, time.Hour, func(c net.Conn) { accepted <- struct{}{}; _, _ = io.Copy(io.Discard, c) })
	<-accepted
	began := time.Now()
	if err := d.Close(); err != nil || time.Since(began) > 2*time.Second {
		t.Errorf("close took %v: %v", time.Since(began), err)
	}
}

func TestCallerGivesUpWhileConnecting(t *testing.T) {
	d := peer(t, time.Hour, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := d.Domains(ctx)
	if !errors.Is(err, hypervisor.ErrUnavailable) || !strings.Contains(err.Error(), "deadline") {
		t.Errorf("got %v", err)
	}
}

// pipe is a connection that delivers b in pieces.
type pipe struct {
	net.Conn
	b    *bytes.Reader
	step int
}

func (p pipe) Read(b []byte) (int, error) { return p.b.Read(b[:min(len(b), p.step)]) }
func (p pipe) Close() error               { return nil }

// The bytes pass unchanged, in whatever pieces they come, up to the first
// packet that libvirt would never send.
func FuzzConnFraming(f *testing.F) {
	good := append(binary.BigEndian.AppendUint32(nil, 32), make([]byte, 28)...)
	f.Add(good, 1)
	f.Add(append(good, 0xff, 0xff, 0xff, 0xff), 3)
	f.Add(append(good, 0, 0, 0, 1), 7)
	f.Fuzz(func(t *testing.T, stream []byte, step int) {
		step = 1 + (step&0xff)%64
		c := &conn{Conn: pipe{b: bytes.NewReader(stream), step: step}, lost: make(chan struct{})}
		got, err := io.ReadAll(c)
		if !bytes.HasPrefix(stream, got) {
			t.Fatal("bytes were changed")
		}
		ok := true
		for rest := stream; len(rest) >= 4 && ok; {
			size := binary.BigEndian.Uint32(rest)
			ok = size >= minPacket && size <= maxPacket
			rest = rest[min(len(rest), int(min(size, maxPacket))):]
			if size == 0 {
				break
			}
		}
		if ok != (err == nil) {
			t.Errorf("well-formed %v, error %v", ok, err)
		}
		select {
		case <-c.lost:
		default:
			t.Error("the end of the stream was not noticed")
		}
	})
}
