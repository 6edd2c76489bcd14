package node

import (
	"context"
	"crypto/sha256"
	"maps"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fence"
	"lifeboat/fsm"
	"lifeboat/transport"
	"lifeboat/transport/memnet"
)

// startFails starts a node that must not come up, and returns why.
func (n *testNode) startFails() error {
	n.w.Helper()
	err := Run(context.Background(), n.cfg, Deps{
		Log: n.w.log.Named(n.id), Creds: n.creds, Version: "test",
		Fences: fence.NewRegistry(),
		Listen: func(_ context.Context, addr string) (net.Listener, error) { return n.w.net.Listen(addr) }, Dial: transport.DialFunc(n.w.net.Dialer(n.id)),
	})
	if err == nil {
		n.w.Fatalf("%s came up and stopped", n.id)
	}
	return err
}

// A member that has lost its disk, and is merely started again, does not come up: it
// would vote in a log of which it has forgotten what it acknowledged.
func TestEmptyDataDirectoryIsNotTheNode(t *testing.T) {
	runWith(t, 3, ownCA, func(w *world) {
		w.allUp()
		n := follower(w)
		n.crash(memnet.PowerLoss)
		_ = n.wait()
		w.must(os.RemoveAll(n.cfg.DataDir))
		w.net.Revive(n.id)
		if err := n.startFails(); !strings.Contains(err.Error(), "another data directory") || !strings.Contains(err.Error(), "server join") {
			t.Errorf("it says: %v", err)
		}
	})
}

// The old machine of a node that was replaced is switched on again, with its valid
// certificate: it is not taken for the node, nor does the log go there.
func TestReplacedMachineComesBack(t *testing.T) {
	runWith(t, 3, ownCA, func(w *world) {
		w.allUp()
		w.within(5*time.Second, "the cluster has a CA", func() bool { return w.state().CA != nil })
		old := follower(w)
		old.crash(memnet.PowerLoss)
		_ = old.wait()
		w.within(5*time.Second, "it is Down", w.nodeIs(old.id, fsm.NodeDown))
		c := w.newcomer(old.id)
		r, err := c.join(w.leader(), w.mustToken("server", old.id, 1))
		w.must(err)
		w.net.Revive(old.id)
		n := c.node(r)
		n.start()
		w.within(15*time.Second, "the new one votes", w.votes(n.id))

		old.cfg.Listen, old.cfg.Advertise = old.id+":7499", old.id+":7499"
		old.cfg.InitialCluster = maps.Clone(old.cfg.InitialCluster)
		old.cfg.InitialCluster[old.id] = old.cfg.Advertise
		old.start()
		w.stays(20*time.Second, "the new one stays the node", func() bool {
			servers, err := w.leader().n.servers()
			w.must(err)
			for _, s := range servers {
				if string(s.ID) == n.id {
					return string(s.Address) == n.cfg.Advertise
				}
			}
			return false
		})
		old.halt()
	})
}

// A slip of the pen in advertise costs nothing but a refusal.
func TestMoveToNowhere(t *testing.T) {
	runWith(t, 3, ownCA, func(w *world) {
		w.allUp()
		l := w.leader()
		rest := w.others(l)
		rest[0].crash(memnet.PowerLoss)
		w.within(5*time.Second, "one is dead", w.nodeIs(rest[0].id, fsm.NodeDown))
		n := rest[1]
		n.halt()
		n.cfg.Advertise = n.id + ":9999" // it listens where it did
		n.cfg.InitialCluster = maps.Clone(n.cfg.InitialCluster)
		n.cfg.InitialCluster[n.id] = n.cfg.Advertise
		n.start()
		w.within(20*time.Second, "the two go on", func() bool { return len(w.serving()) == 1 })
		w.stays(20*time.Second, "and on", func() bool { return len(w.serving()) == 1 })
	})
}

// A node that the leader does not reach is Down although others do: it gets no log,
// and nobody may count on it.
func TestReachedThroughAnotherIsNotUp(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		l := w.leader()
		n := w.others(l)[0]
		w.net.CutBoth(l.id, n.id)
		w.within(10*time.Second, "it is Down", w.nodeIs(n.id, fsm.NodeDown))
		w.stays(10*time.Second, "it stays so", w.nodeIs(n.id, fsm.NodeDown))
		w.net.HealAll()
		w.within(10*time.Second, "it is Up again", w.nodeIs(n.id, fsm.NodeUp))
	})
}

// What a stranger says does not get into the log, and what older members do not know
// neither.
func TestStrangersWriteNoLog(t *testing.T) {
	runWith(t, 3, ownCA, func(w *world) {
		w.allUp()
		w.within(5*time.Second, "the cluster has a CA", func() bool { return w.state().CA != nil })
		index := w.state().Index
		begin := time.Now()
		forged := transport.NewToken("server", [32]byte{})
		for range 20 {
			c := w.newcomer("nx")
			client := transport.NewJoinClient(sumOf(w), transport.DialOptions{Dial: transport.DialFunc(w.net.Dialer("console"))})
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			_, err := lifeboatv1connect.NewJoinServiceClient(client, "https://"+w.leader().cfg.Listen).Join(ctx, connect.NewRequest(&lifeboatv1.JoinRequest{
				Kind: "server", TokenId: forged.ID, Secret: forged.Secret[:], Name: "nx", Request: c.req, Addr: "nx:7400", OwnCertificate: true}))
			cancel()
			if connect.CodeOf(err) != connect.CodeFailedPrecondition {
				t.Fatalf("it was answered: %v", err)
			}
		}
		// Canaries alone.
		if grown, most := w.state().Index-index, uint64(time.Since(begin)/time.Second)+3; grown > most {
			t.Errorf("the log has grown by %d entries in %s", grown, time.Since(begin))
		}
	})
}

// Half way through an upgrade nothing that older members would stop at gets into the
// log, whoever asks for it.
func TestJoiningWaitsForTheLevel(t *testing.T) {
	runWith(t, 3, func(w *world) {
		ownCA(w)
		for _, n := range w.nodes {
			n.faults.level = levelNodes // builds of then
		}
	}, func(w *world) {
		w.allUp()
		n := w.leader() // takes the new build, as the others keep theirs
		n.halt()
		n.faults.level = 0
		n.start()
		w.within(10*time.Second, "it is Up", w.nodeIs(n.id, fsm.NodeUp))
		w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			_, err := c.ControlNode(ctx, connect.NewRequest(&lifeboatv1.ControlNodeRequest{Action: "transfer-leadership", Id: n.id}))
			return err
		}))
		w.within(10*time.Second, "the new build leads", func() bool { s := w.serving(); return len(s) == 1 && s[0] == n })
		for what, err := range map[string]error{
			"a token": second(w.token(n, &lifeboatv1.CreateTokenRequest{Kind: "agent", Uses: 1})),
			"a role": w.operator(n, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.SetOperator(ctx, connect.NewRequest(&lifeboatv1.SetOperatorRequest{Name: "bob", Role: "viewer"}))
				return err
			}),
			"a revocation": w.operator(n, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.RevokeToken(ctx, connect.NewRequest(&lifeboatv1.RevokeTokenRequest{Id: "x"}))
				return err
			}),
			"a forced remove": w.operator(n, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.ControlHost(ctx, connect.NewRequest(&lifeboatv1.ControlHostRequest{Host: "h1", Action: "remove", Force: true}))
				return err
			}),
		} {
			if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "feature level") {
				t.Errorf("%s: %v", what, err)
			}
		}
		w.stays(5*time.Second, "everybody goes on", func() bool { return len(w.live()) == 3 && len(w.serving()) == 1 })
		for _, o := range w.nodes {
			if !w.nodeIs(o.id, fsm.NodeUp)() {
				t.Errorf("%s is not Up", o.id)
			}
		}
	})
}

func second(_ string, err error) error { return err }

func sumOf(w *world) [32]byte { return sha256.Sum256(w.ca.Cert.Raw) }

// The same key and token again, once the node has come: it keeps its place.
func TestJoinAgainKeepsTheNode(t *testing.T) {
	runWith(t, 1, ownCA, func(w *world) {
		w.within(5*time.Second, "the cluster has a CA", func() bool { return w.state().CA != nil })
		token := w.mustToken("server", "", 5)
		c := w.newcomer("n2")
		r, err := c.join(w.leader(), token)
		w.must(err)
		n := c.node(r)
		n.start()
		w.within(15*time.Second, "n2 votes", w.votes("n2"))
		if _, err := c.join(w.leader(), token); err == nil {
			t.Error("it joined again while it runs")
		}
		if !w.votes("n2")() {
			t.Error("it has lost its vote")
		}
	})
}
