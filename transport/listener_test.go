package transport_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat/transport"
	"lifeboat/transport/memnet"
	"lifeboat/transport/pki"
)

// world is a CA, a network in memory and node n1 listening on it.
type world struct {
	*authority
	net *memnet.Network
	l   *transport.Listener
	log journal
}

func newWorld(t *testing.T, opts transport.Options) *world {
	w := &world{authority: newAuthority(t), net: memnet.New()}
	ln, err := w.net.Listen("n1:7000")
	if err != nil {
		t.Fatal(err)
	}
	opts.Logger = w.log.logger()
	w.l = transport.Serve(ln, w.creds(node("n1")), opts)
	t.Cleanup(func() { w.l.Close() })
	return w
}

func (w *world) dial(from string) net.Conn {
	w.t.Helper()
	c, err := w.net.Dial(w.t.Context(), from, "n1:7000")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c
}

// tls makes a connection with the adversary's client and reads its first error.
func (w *world) tls(cfg *tls.Config) error {
	c := tls.Client(w.dial("stranger"), cfg)
	if err := c.Handshake(); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(time.Minute))
	_, err := c.Read(make([]byte, 1))
	return err
}

func (w *world) noneAccepted() {
	w.t.Helper()
	synctest.Wait()
	for name, l := range map[string]net.Listener{"raft": w.l.Raft(), "http": w.l.HTTP()} {
		got := make(chan net.Conn, 1)
		go func() {
			if c, err := l.Accept(); err == nil {
				got <- c
			}
		}()
		synctest.Wait()
		if len(got) > 0 {
			w.t.Errorf("the %s listener accepted a connection", name)
		}
		l.Close()
	}
}

func TestRandomBytesCostOneConnectionAndOneDebugLine(t *testing.T) {
	for i := range 20 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, transport.Options{})
			c := w.dial("stranger")
			junk := make([]byte, 1+i*97)
			rand.Read(junk)
			if i%2 == 0 {
				copy(junk, "\x16\x03\x01\x00\x40\x01") // begins like a ClientHello
			}
			c.Write(junk)
			start := time.Now()
			if _, err := io.Copy(io.Discard, c); err != nil {
				t.Errorf("the connection should end in order: %v", err)
			}
			if time.Since(start) > 5*time.Second {
				t.Errorf("closed after %v", time.Since(start))
			}
			synctest.Wait()
			if lines := w.log.lines(); len(lines) != 1 || !strings.HasPrefix(lines[0], "[DEBUG]") {
				t.Errorf("log: %q", lines)
			}
			w.noneAccepted()
		})
	}
}

func TestSlowHandshakeIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, transport.Options{})
		c := w.dial("stranger")
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { // slow loris: one byte of a plausible record a second
			for i := range 60 {
				if _, err := c.Write([]byte{"\x16\x03\x01\x01\x00\x01"[min(i, 5)]}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		io.Copy(io.Discard, c)
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("closed after %v, want 5s", took)
		}
		wg.Wait()
		w.noneAccepted()
	})
}

func TestSilentRaftPeerNeverReachesRaft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, transport.Options{})
		files := w.issue(node("n2"), pki.IssueOptions{})
		c := tls.Client(w.dial("n2"), w.rawConfig(&files, transport.ProtoRaft))
		start := time.Now()
		b, err := io.ReadAll(c)
		if string(b) != "L" || err != nil || time.Since(start) != 10*time.Second {
			t.Errorf("read %q, %v after %v; want the welcome, then the end after 10s", b, err, time.Since(start))
		}
		w.noneAccepted()
	})
}

func TestCertificatesThatAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, transport.Options{Authorize: func(proto string, id transport.Identity) error {
			if proto == transport.ProtoRaft && id != node("n2") {
				return errors.New("it is not in the raft configuration")
			}
			return nil
		}})
		stranger := newAuthority(t)
		wrongCA := stranger.issue(node("n2"), pki.IssueOptions{})
		expired := w.issue(node("old"), pki.IssueOptions{Now: time.Now().Add(-48 * time.Hour), Validity: 24 * time.Hour})
		agent := w.issue(host("h1"), pki.IssueOptions{})
		removed := w.issue(node("n9"), pki.IssueOptions{})
		member := w.issue(node("n2"), pki.IssueOptions{})
		oldTLS := w.rawConfig(&member, "h2")
		oldTLS.MaxVersion = tls.VersionTLS12

		for name, c := range map[string]struct {
			cfg *tls.Config
			log string
		}{
			"wrong CA":         {w.rawConfig(&wrongCA, "h2"), "unknown authority"},
			"no certificate":   {w.rawConfig(nil, "h2"), "didn't provide a certificate"},
			"expired":          {w.rawConfig(&expired, "h2"), "expired"},
			"host speaks raft": {w.rawConfig(&agent, transport.ProtoRaft), "only management nodes"},
			"removed node":     {w.rawConfig(&removed, transport.ProtoRaft), "not in the raft configuration"},
			"no ALPN":          {w.rawConfig(&member), "names no protocol"},
			"unknown ALPN":     {w.rawConfig(&member, "lifeboat-raft/2"), "unsupported application protocols"},
			"HTTP/1.1 only":    {w.rawConfig(&member, "http/1.1"), "names no protocol"},
			"TLS 1.2":          {oldTLS, "unsupported versions"},
		} {
			time.Sleep(2 * time.Second) // past the limit of one warning a second
			before := len(w.log.lines())
			if err := w.tls(c.cfg); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("%s: got %v, want a TLS alert", name, err)
			}
			synctest.Wait()
			if got := w.log.lines()[before:]; len(got) != 1 || !strings.Contains(got[0], c.log) {
				t.Errorf("%s: log %q, want one line with %q", name, got, c.log)
			}
		}
		w.noneAccepted()
	})
}

func TestCaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, transport.Options{MaxPerSource: 3, MaxTotal: 5, HandshakeTimeout: time.Hour})
		open := func(from string) bool {
			c := w.dial(from)
			c.SetReadDeadline(time.Now().Add(time.Second))
			_, err := c.Read(make([]byte, 1))
			var ne net.Error
			return errors.As(err, &ne) && ne.Timeout()
		}
		var got []bool
		for _, from := range []string{"a", "a", "a", "a", "b", "b", "b", "c"} {
			got = append(got, open(from))
		}
		if want := "[true true true false true true false false]"; fmt.Sprint(got) != want {
			t.Errorf("open connections %v, want %s", got, want)
		}
	})
}

func TestCapsCountOnlyOpenConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, transport.Options{MaxPerSource: 1})
		for range 10 {
			c := w.dial("a")
			c.Close()
			synctest.Wait()
		}
		files := w.issue(host("h1"), pki.IssueOptions{})
		if err := tls.Client(w.dial("a"), w.rawConfig(&files, "h2")).Handshake(); err != nil {
			t.Errorf("closed connections still count: %v", err)
		}
	})
}

func TestCloseConnsDropsARemovedIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var removed atomic.Bool
		w := newWorld(t, transport.Options{Authorize: func(_ string, id transport.Identity) error {
			if removed.Load() && id == node("n2") {
				return errors.New("removed")
			}
			return nil
		}})
		type end struct{ client, server net.Conn }
		connect := func(id transport.Identity) end {
			files := w.issue(id, pki.IssueOptions{})
			c := tls.Client(w.dial(id.Name), w.rawConfig(&files, "h2"))
			go c.Handshake()
			s, err := w.l.HTTP().Accept()
			if err != nil {
				t.Fatal(err)
			}
			return end{c, s}
		}
		gone, stays := connect(node("n2")), connect(node("n3"))
		removed.Store(true)
		if n := w.l.CloseConns(func(id transport.Identity) bool { return id == node("n2") }); n != 1 {
			t.Errorf("%d connections closed, want 1", n)
		}
		if _, err := gone.client.Read(make([]byte, 1)); err == nil {
			t.Error("the removed node is still connected")
		}
		go stays.server.Write([]byte("x"))
		if _, err := stays.client.Read(make([]byte, 1)); err != nil {
			t.Errorf("the other node was cut off too: %v", err)
		}
		w.l.Close()
		if _, err := stays.client.Read(make([]byte, 1)); err == nil {
			t.Error("Close left a connection open")
		}
		if _, err := w.net.Dial(context.Background(), "x", "n1:7000"); err == nil {
			t.Error("Close left the port open")
		}
	})
}

// A connection that passes Authorize just before its identity is removed must
// not survive, even when CloseConns could not see it yet.
func TestRemovalDuringTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		var calls atomic.Int32
		w = newWorld(t, transport.Options{Authorize: func(_ string, id transport.Identity) error {
			if calls.Add(1) == 1 { // the removal happens right after this answer
				go w.l.CloseConns(func(got transport.Identity) bool { return got == id })
				return nil
			}
			return errors.New("removed")
		}})
		files := w.issue(node("n2"), pki.IssueOptions{})
		if err := w.tls(w.rawConfig(&files, transport.ProtoRaft)); err == nil {
			t.Error("the removed node was let in")
		}
		w.noneAccepted()
	})
}

func TestRotatedCertificateServesTheNextHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, transport.Options{})
		files := w.issue(host("h1"), pki.IssueOptions{})
		serial := func() string {
			c := tls.Client(w.dial("h1"), w.rawConfig(&files, "h2"))
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
		}
		before := serial()
		rotated := w.issue(node("n1"), pki.IssueOptions{})
		time.Sleep(time.Second)
		if got := serial(); got == before || got != leafOf(t, rotated).SerialNumber.String() {
			t.Errorf("the listener still serves the certificate %s", got)
		}
	})
}

func TestListenSaysWhatToDoAboutATakenPort(t *testing.T) {
	a := newAuthority(t)
	creds := a.creds(node("n1"))
	l, err := transport.Listen(t.Context(), "127.0.0.1:0", creds, transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = transport.Listen(t.Context(), l.Addr().String(), creds, transport.Options{})
	if err == nil || !strings.Contains(err.Error(), "address already in use; choose another") {
		t.Errorf("got %v", err)
	}
}

// Who comes when HTTP is closed learns it before it sends a request: otherwise it
// could not know whether the request was carried out.
func TestClosedProtocolRefusesTheHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, transport.Options{})
		files := w.issue(host("h1"), pki.IssueOptions{})
		w.l.HTTP().Close()
		c := tls.Client(w.dial("h1"), w.rawConfig(&files, transport.ProtoHTTP))
		if err := c.Handshake(); err == nil {
			t.Error("the handshake succeeded")
		}
		files = w.issue(node("n2"), pki.IssueOptions{})
		raft := tls.Client(w.dial("n2"), w.rawConfig(&files, transport.ProtoRaft))
		if err := raft.Handshake(); err != nil {
			t.Errorf("Raft is refused as well: %v", err)
		}
	})
}
