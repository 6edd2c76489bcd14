package node

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"lifeboat/fence"
	"lifeboat/fsm"
	"lifeboat/transport"
	"lifeboat/transport/pki"
)

// benchCluster is three management nodes as they run in production: boltdb with
// fsync, mutual TLS on loopback. They share a process.
type benchCluster struct {
	nodes []*Node
	ca    *pki.CA
	dir   string
}

// benchKey is a secret key for tests.
func benchKey() []byte { return make([]byte, SecretKeySize) }

func newBenchCluster(b *testing.B) *benchCluster {
	b.Helper()
	c := &benchCluster{dir: b.TempDir()}
	var err error
	if c.ca, err = pki.CreateCA(c.dir, "bench"); err != nil {
		b.Fatal(err)
	}
	key := filepath.Join(c.dir, "secret")
	if err := os.WriteFile(key, []byte(hex.EncodeToString(benchKey())), 0o600); err != nil {
		b.Fatal(err)
	}
	peers := map[string]string{}
	listeners := map[string]net.Listener{}
	for i := range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		id := fmt.Sprintf("n%d", i+1)
		listeners[id], peers[id] = l, l.Addr().String()
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	started := make(chan *Node, len(listeners))
	b.Cleanup(func() { stop(); running.Wait() })
	for id, l := range listeners {
		cfg := Config{ID: id, Listen: peers[id], Advertise: peers[id], DataDir: filepath.Join(c.dir, id), SecretKey: key,
			InitialCluster: peers, RaftTimeout: 2 * time.Second} // no elections under load
		deps := Deps{Log: hclog.NewNullLogger(), Creds: c.creds(b, transport.KindNode, id), Fences: fence.NewRegistry(),
			Listen:  func(context.Context, string) (net.Listener, error) { return l, nil },
			started: func(n *Node) { started <- n }}
		running.Go(func() {
			if err := Run(ctx, cfg, deps); err != nil {
				b.Errorf("node %s: %v", id, err)
			}
		})
	}
	for range listeners {
		c.nodes = append(c.nodes, <-started)
	}
	return c
}

func (c *benchCluster) creds(b *testing.B, kind transport.Kind, name string) *transport.Credentials {
	b.Helper()
	leaf, err := c.ca.Issue(transport.Identity{Kind: kind, Name: name}, pki.IssueOptions{})
	if err != nil {
		b.Fatal(err)
	}
	files, err := leaf.Write(c.dir)
	if err != nil {
		b.Fatal(err)
	}
	creds, err := transport.LoadCredentials(files, hclog.NewNullLogger())
	if err != nil {
		b.Fatal(err)
	}
	return creds
}

// leader waits for a term that serves.
func (c *benchCluster) leader(b *testing.B) *term {
	b.Helper()
	for range 600 {
		for _, n := range c.nodes {
			if t := n.term.Load(); t != nil && t.node.fsm.State().ClusterID != "" {
				return t
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.Fatal("no leader within 30 s")
	return nil
}

// httpClient is an agent's way to the leader.
func (c *benchCluster) httpClient(b *testing.B, t *term, host string) *http.Client {
	return transport.NewHTTPClient(c.creds(b, transport.KindHost, host), transport.ClientOptions{NameOf: t.node.nameOf})
}

// agree waits until all nodes have applied what the leader has, and compares
// their digests.
func (c *benchCluster) agree(b *testing.B, t *term) {
	b.Helper()
	want := t.node.fsm.State()
	for _, n := range c.nodes {
		for range 600 {
			if n.fsm.State().Index >= want.Index {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	var sums []fsm.DigestAt
	for range 100 {
		sums = sums[:0]
		same := true
		for _, n := range c.nodes {
			sums = append(sums, n.fsm.State().Digest)
			same = same && sums[len(sums)-1] == sums[0] && sums[0].Index >= want.Index
		}
		if same {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.Fatalf("replicas differ: %v", sums)
}
