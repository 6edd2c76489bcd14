package transport_test

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"lifeboat/transport"
)

// BenchmarkHandshake is a whole Raft dial over loopback, both ends on this
// machine: what a reconnecting fleet costs a manager is about half of it.
func BenchmarkHandshake(b *testing.B) {
	a := newAuthority(b)
	creds := a.creds(node("n1"))
	l, err := transport.Listen(b.Context(), "127.0.0.1:0", creds, transport.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	layer := transport.NewRaftStreamLayer(l, creds, transport.RaftOptions{})
	defer layer.Close()
	for b.Loop() {
		c, err := layer.Dial(raft.ServerAddress(l.Addr().String()), 5*time.Second)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
