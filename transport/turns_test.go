package transport_test

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"lifeboat/transport"
	"lifeboat/transport/pki"
)

// mute says hello and hears nothing.
type mute struct {
	net.Conn
	said chan struct{}
	once *sync.Once
	over <-chan struct{}
}

func (m mute) Write(b []byte) (int, error) {
	n, err := m.Conn.Write(b)
	m.once.Do(func() { close(m.said) })
	return n, err
}

func (m mute) Read([]byte) (int, error) { <-m.over; return 0, net.ErrClosed }

// Handshakes take turns. Three hundred peers that say hello and nothing more hold up
// neither a node, which is in no queue at all, nor an agent by much.
func TestMutePeersDoNotHoldUpHandshakes(t *testing.T) {
	a := newAuthority(t)
	l, err := transport.Listen(t.Context(), "127.0.0.1:0", a.creds(node("n1")), transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	over := make(chan struct{})
	var all sync.WaitGroup
	defer all.Wait()
	defer close(over)
	for range 300 {
		raw, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		m := mute{raw, make(chan struct{}), &sync.Once{}, over}
		all.Go(func() {
			defer raw.Close()
			_ = tls.Client(m, a.rawConfig(nil, transport.ProtoHTTP)).Handshake() // it never gets an answer
		})
		<-m.said
	}
	began := time.Now()
	streams := transport.NewRaftStreamLayer(l, a.creds(node("n2")), transport.RaftOptions{Advertise: "127.0.0.1:1"})
	c, err := streams.Dial(raft.ServerAddress(l.Addr().String()), 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	t.Logf("a node is in after %s", time.Since(began))
	began = time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	files := a.issue(host("h1"), pki.IssueOptions{})
	d := tls.Dialer{Config: a.rawConfig(&files, transport.ProtoHTTP)}
	h, err := d.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		t.Fatalf("an agent waited for %s: %v", time.Since(began), err)
	}
	h.Close()
	t.Logf("an agent is in after %s", time.Since(began))
}
