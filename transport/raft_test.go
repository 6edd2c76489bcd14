package transport_test

import (
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

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"lifeboat/transport"
	"lifeboat/transport/pki"
)

// TestRaftOverMutualTLS: three nodes on real sockets elect a leader, replicate,
// and refuse a node with a valid certificate that is not in the configuration.
func TestRaftOverMutualTLS(t *testing.T) {
	a := newAuthority(t)
	ids := []string{"n1", "n2", "n3"}
	names := map[raft.ServerAddress]string{}
	members := func(proto string, id transport.Identity) error {
		if proto == transport.ProtoRaft && id.Name > "n3" {
			return errors.New("it is not in the raft configuration")
		}
		return nil
	}
	listeners := map[string]*transport.Listener{}
	var conf raft.Configuration
	for _, id := range ids {
		l, err := transport.Listen(t.Context(), "127.0.0.1:0", a.creds(node(id)), transport.Options{Authorize: members})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		addr := raft.ServerAddress(l.Addr().String())
		listeners[id], names[addr] = l, id
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(id), Address: addr})
	}
	nodes := map[string]*raft.Raft{}
	fsms := map[string]*countingFSM{}
	for _, id := range ids {
		layer := transport.NewRaftStreamLayer(listeners[id], a.creds(node(id)), transport.RaftOptions{
			NameOf: func(addr raft.ServerAddress) string { return names[addr] },
		})
		fsms[id] = &countingFSM{}
		nodes[id] = startRaft(t, id, layer, conf, fsms[id])
	}
	var leader string
	eventually(t, "there is a leader", func() bool {
		for id, r := range nodes {
			if r.State() == raft.Leader {
				leader = id
			}
		}
		return leader != ""
	})
	for range 10 {
		if err := nodes[leader].Apply(make([]byte, 64<<10), 5*time.Second).Error(); err != nil {
			t.Fatal(err)
		}
	}
	for id, f := range fsms {
		eventually(t, id+" has applied everything", func() bool { return f.n.Load() == 10 })
	}

	// An outsider is told so by Dial, not later by a broken stream.
	l, err := transport.Listen(t.Context(), "127.0.0.1:0", a.creds(node("n9")), transport.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	outsider := transport.NewRaftStreamLayer(l, a.creds(node("n9")), transport.RaftOptions{})
	_, err = outsider.Dial(conf.Servers[0].Address, 5*time.Second)
	if err == nil || !strings.Contains(err.Error(), "refused our certificate for lifeboat://node/n9") {
		t.Errorf("got %v", err)
	}
}

func startRaft(t *testing.T, id string, layer raft.StreamLayer, conf raft.Configuration, fsm raft.FSM) *raft.Raft {
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: 3, MaxRPCsInFlight: 1, Timeout: 10 * time.Second,
		MsgpackUseNewTimeFormat: true, Logger: hclog.NewNullLogger(),
	})
	cfg := raft.DefaultConfig()
	cfg.LocalID = raft.ServerID(id)
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = 500*time.Millisecond, 500*time.Millisecond, 400*time.Millisecond
	cfg.Logger = hclog.NewNullLogger()
	store, snaps := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
	if err := raft.BootstrapCluster(cfg, store, store, snaps, trans, conf); err != nil {
		t.Fatal(err)
	}
	r, err := raft.NewRaft(cfg, fsm, store, store, snaps, trans)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		trans.Close()
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// layers are the stream layers of n1 (the world's) and of n2 on one network.
func layers(t *testing.T, w *world, n1 transport.RaftOptions, n2 transport.RaftOptions) (a, b *transport.RaftStreamLayer) {
	ln, err := w.net.Listen("n2:7000")
	if err != nil {
		t.Fatal(err)
	}
	creds := w.creds(node("n2"))
	l := transport.Serve(ln, creds, transport.Options{})
	t.Cleanup(func() { l.Close() })
	n1.Dial.Dial, n2.Dial.Dial = w.net.Dialer("n1"), w.net.Dialer("n2")
	a = transport.NewRaftStreamLayer(w.l, w.creds(node("n1")), n1)
	b = transport.NewRaftStreamLayer(l, creds, n2)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestStreamLayerCarriesBothWaysAndClosesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, transport.Options{})
		a, b := layers(t, w, transport.RaftOptions{Advertise: "n1.example:7000"}, transport.RaftOptions{})
		if a.Addr().String() != "n1.example:7000" || b.Addr().String() != "n2:7000" {
			t.Errorf("addresses %v and %v", a.Addr(), b.Addr())
		}
		client, err := b.Dial("n1:7000", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		client.Write([]byte("hello"))
		server, err := a.Accept()
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 5)
		if _, err := io.ReadFull(server, buf); err != nil || string(buf) != "hello" {
			t.Fatalf("%q, %v", buf, err)
		}
		go server.Write([]byte("world"))
		if _, err := io.ReadFull(client, buf); err != nil || string(buf) != "world" {
			t.Fatalf("%q, %v", buf, err)
		}
		// A reader of either end is released by closing its own layer.
		var wg sync.WaitGroup
		wg.Go(func() { client.Read(buf) })
		b.Close()
		wg.Wait()
		if _, err := b.Dial("n1:7000", time.Second); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a closed layer dials: %v", err)
		}
		wg.Go(func() { server.Read(buf) })
		a.Close()
		wg.Wait()
	})
}

func TestStreamLayerChecksWhoAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, transport.Options{})
		_, b := layers(t, w, transport.RaftOptions{}, transport.RaftOptions{
			NameOf: func(a raft.ServerAddress) string { return map[raft.ServerAddress]string{"n1:7000": "n3"}[a] },
		})
		var wrong *transport.WrongPeerError
		if _, err := b.Dial("n1:7000", time.Second); !errors.As(err, &wrong) || wrong.Got != node("n1") || wrong.Want != node("n3") {
			t.Errorf("wrong name: %v", err)
		}

		// An agent that listens where a node should be.
		ln, err := w.net.Listen("h1:7000")
		if err != nil {
			t.Fatal(err)
		}
		l := transport.Serve(ln, w.creds(host("h1")), transport.Options{})
		defer l.Close()
		if _, err := b.Dial("h1:7000", time.Second); !errors.As(err, &wrong) || wrong.Got != host("h1") {
			t.Errorf("wrong kind: %v", err)
		}

		// A node of another cluster.
		other := newAuthority(t)
		ln, err = w.net.Listen("n7:7000")
		if err != nil {
			t.Fatal(err)
		}
		foreign := transport.Serve(ln, other.creds(node("n7")), transport.Options{})
		defer foreign.Close()
		if _, err := b.Dial("n7:7000", time.Second); err == nil || !strings.Contains(err.Error(), "signed by another CA than ours") {
			t.Errorf("wrong CA: %v", err)
		}
	})
}

func TestDialTimeoutCoversAPeerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, transport.Options{})
		_, b := layers(t, w, transport.RaftOptions{}, transport.RaftOptions{})
		for _, addr := range []string{"hung:7000", "dead:7000"} {
			if _, err := w.net.Listen(addr); err != nil { // accepts in the kernel only
				t.Fatal(err)
			}
		}
		w.net.CutBoth("n2", "dead")
		for addr, limit := range map[raft.ServerAddress]time.Duration{"hung:7000": 700 * time.Millisecond, "dead:7000": 800 * time.Millisecond} {
			start := time.Now()
			if _, err := b.Dial(addr, limit); err == nil || time.Since(start) != limit {
				t.Errorf("%s: %v after %v", addr, err, time.Since(start))
			}
		}
		start := time.Now()
		_, err := b.Dial("hung:7000", 0)
		if err == nil || !strings.Contains(err.Error(), "did not answer in time") || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// A dead peer does not hold up who hangs up.
func TestHangupEndsDialling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, transport.Options{})
		_, b := layers(t, w, transport.RaftOptions{}, transport.RaftOptions{})
		w.net.CutBoth("n2", "dead")
		failed := make(chan error, 1)
		go func() {
			_, err := b.Dial("dead:7000", time.Minute)
			failed <- err
		}()
		synctest.Wait()
		start := time.Now()
		b.Hangup()
		if err := <-failed; err == nil || time.Since(start) != 0 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if _, err := b.Dial("n1:7000", time.Second); err == nil {
			t.Error("it still dials")
		}
	})
}

func TestStreamLayerDropsARemovedNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, transport.Options{})
		_, b := layers(t, w, transport.RaftOptions{}, transport.RaftOptions{})
		c, err := b.Dial("n1:7000", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if n := b.CloseConns(func(id transport.Identity) bool { return id == node("n1") }); n != 1 {
			t.Errorf("%d connections closed, want 1", n)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("the connection to the removed node lives")
		}
	})
}

func TestRaftListenerClosesItsConnectionsHTTPDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, transport.Options{})
		_, b := layers(t, w, transport.RaftOptions{}, transport.RaftOptions{})
		c, err := b.Dial("n1:7000", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("x"))
		if _, err := w.l.Raft().Accept(); err != nil {
			t.Fatal(err)
		}
		files := w.issue(host("h1"), pki.IssueOptions{})
		h := tlsClient(w, &files)
		if _, err := w.l.HTTP().Accept(); err != nil {
			t.Fatal(err)
		}
		w.l.Raft().Close()
		w.l.HTTP().Close()
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("the raft connection lives")
		}
		h.SetReadDeadline(time.Now().Add(time.Second))
		var ne net.Error
		if _, err := h.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("the HTTP connection was closed: %v", err)
		}
	})
}

type countingFSM struct{ n atomic.Int64 }

func (f *countingFSM) Apply(*raft.Log) any                 { f.n.Add(1); return nil }
func (f *countingFSM) Snapshot() (raft.FSMSnapshot, error) { return nil, fmt.Errorf("not needed here") }
func (f *countingFSM) Restore(r io.ReadCloser) error       { return r.Close() }
