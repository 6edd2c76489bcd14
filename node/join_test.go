package node

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/transport"
	"lifeboat/transport/memnet"
	"lifeboat/transport/pki"
)

// ownCA lets every node know the key of the world's CA.
func ownCA(w *world) {
	for _, n := range w.nodes {
		n.cfg.CAKey = filepath.Join(w.dir, "ca", pki.CAKeyFile)
		n.cfg.CA = filepath.Join(w.dir, "ca", pki.CACertFile)
	}
}

// newcomer is a machine that has nothing but a key.
type newcomer struct {
	w    *world
	name string
	key  []byte // PEM
	req  []byte // DER
	dir  string
}

func (w *world) newcomer(name string) *newcomer {
	w.Helper()
	_, keyPEM, err := pki.NewKey()
	w.must(err)
	req, err := pki.NewRequest(keyPEM)
	w.must(err)
	dir := filepath.Join(w.dir, "new-"+name)
	w.must(os.MkdirAll(dir, 0o700))
	return &newcomer{w: w, name: name, key: keyPEM, req: req, dir: dir}
}

// token has one made by an operator.
func (w *world) token(at *testNode, q *lifeboatv1.CreateTokenRequest) (text string, err error) {
	if q.LastsMs == 0 {
		q.LastsMs = time.Hour.Milliseconds()
	}
	err = w.operator(at, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
		r, err := c.CreateToken(ctx, connect.NewRequest(q))
		if err == nil {
			text = r.Msg.Token
		}
		return err
	})
	return text, err
}

func (w *world) mustToken(kind, name string, uses uint32) string {
	w.Helper()
	text, err := w.token(w.leader(), &lifeboatv1.CreateTokenRequest{Kind: kind, Name: name, Uses: uses})
	w.must(err)
	return text
}

// join shows a token at the door of a node.
func (c *newcomer) join(at *testNode, token string) (*lifeboatv1.JoinResponse, error) {
	t, err := transport.ParseToken(token)
	c.w.must(err)
	client := transport.NewJoinClient(t.Fingerprint, transport.DialOptions{Dial: transport.DialFunc(c.w.net.Dialer("console"))})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := lifeboatv1connect.NewJoinServiceClient(client, "https://"+at.cfg.Listen).Join(ctx, connect.NewRequest(&lifeboatv1.JoinRequest{
		Kind: t.Kind, TokenId: t.ID, Secret: t.Secret[:], Name: c.name, Request: c.req, Addr: c.name + ":7400"}))
	if err != nil {
		return nil, err
	}
	return r.Msg, nil
}

// node makes a management node of what was answered. It is not started.
func (c *newcomer) node(r *lifeboatv1.JoinResponse) *testNode {
	w := c.w
	w.Helper()
	files := transport.Files{Cert: filepath.Join(c.dir, "node.crt"), Key: filepath.Join(c.dir, "node.key"), CA: filepath.Join(c.dir, "ca.crt")}
	secret := filepath.Join(c.dir, "secret")
	for path, data := range map[string][]byte{
		files.Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate}), files.Key: c.key, files.CA: r.Ca,
		secret: []byte(hex.EncodeToString(r.SecretKey)),
	} {
		w.must(os.WriteFile(path, data, 0o600))
	}
	creds, err := transport.LoadCredentials(files, nil)
	w.must(err)
	peers := map[string]string{}
	for _, m := range r.Members {
		peers[m.Id] = m.Addr
	}
	addr := c.name + ":7400"
	n := &testNode{w: w, id: c.name, creds: creds, cfg: Config{ID: c.name, Listen: addr, Advertise: addr, DataDir: filepath.Join(c.dir, "data"),
		SecretKey: secret, Join: peers, RaftTimeout: defaultRaftTimeout, CA: files.CA}}
	n.cfg.checkMembers(func(key, format string, args ...any) { w.Errorf(key+": "+format, args...) })
	w.nodes[c.name] = n
	return n
}

// suffrage is what the leader's configuration says of a node.
func (w *world) suffrage(id string) string {
	servers, err := w.leader().n.servers()
	w.must(err)
	for _, s := range servers {
		if string(s.ID) == id {
			return s.Suffrage.String()
		}
	}
	return "none"
}

func (w *world) votes(id string) func() bool {
	return func() bool { return w.suffrage(id) == raft.Voter.String() }
}

// Who comes right after the cluster was founded waits until it has its CA.
func TestJoinWaitsForTheCA(t *testing.T) {
	runWith(t, 1, ownCA, func(w *world) {
		w.allUp()
		n1, c := w.leader(), w.newcomer("n2")
		token := w.mustToken("server", "", 1)
		if w.state().CA != nil {
			t.Fatal("the cluster has its CA already: this test sees nothing")
		}
		r, err := c.join(n1, token)
		w.must(err)
		if len(r.Certificate) == 0 {
			t.Error("n2 got no certificate")
		}
	})
}

// A cluster of one grows to three, whichever node is asked and in whatever order
// they start; and then survives the loss of the one that founded it.
func TestJoin(t *testing.T) {
	runWith(t, 1, ownCA, func(w *world) {
		w.allUp()
		w.within(5*time.Second, "the cluster has a CA", func() bool { return w.state().CA != nil })
		n1 := w.leader()
		token := w.mustToken("server", "", 2)

		c2, c3 := w.newcomer("n2"), w.newcomer("n3")
		r2, err := c2.join(n1, token)
		w.must(err)
		n2 := c2.node(r2)
		w.stays(2*time.Second, "n2 is no member before it comes", func() bool { return w.suffrage("n2") == "none" })
		n2.start()
		w.within(5*time.Second, "n2 is Up", w.nodeIs("n2", fsm.NodeUp))
		if got := w.suffrage("n2"); got != "Nonvoter" {
			t.Errorf("n2 came as %s", got)
		}
		t.Logf("n2 votes after %s", w.within(10*time.Second, "n2 has a vote", w.votes("n2")))

		r3, err := c3.join(n2, token) // a follower passes it on
		w.must(err)
		again, err := c3.join(n1, token) // the answer was lost
		w.must(err)
		if len(again.Members) != 2 || string(again.SecretKey) != string(r3.SecretKey) {
			t.Errorf("the second answer: %d members", len(again.Members))
		}
		if _, err := w.newcomer("n3").join(n1, token); err == nil {
			t.Error("another machine joined as n3")
		}
		if _, err := w.newcomer("n4").join(n1, token); err == nil || !strings.Contains(err.Error(), "used as often") {
			t.Errorf("a third one by a token for two: %v", err)
		}
		n3 := c3.node(again)
		n3.start()
		w.within(15*time.Second, "n3 has a vote", w.votes("n3"))
		w.must(w.operator(n3, func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			_, err := c.SetPolicy(ctx, connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: "max_restart", Value: "7"}}}))
			return err
		}))
		n1.crash(memnet.PowerLoss)
		w.within(10*time.Second, "another leads", func() bool { s := w.serving(); return len(s) == 1 && s[0] != n1 })
		if w.state().Policy.MaxRestart != 7 {
			t.Error("what was committed is gone")
		}
		n1.back()
		w.within(5*time.Second, "n1 is Up", w.nodeIs("n1", fsm.NodeUp))
	})
}

// One that joined while only the founder was there, and starts when that one does
// not lead any more, finds the leader through it.
func TestJoinStartsLate(t *testing.T) {
	runWith(t, 3, ownCA, func(w *world) {
		w.allUp()
		w.within(5*time.Second, "the cluster has a CA", func() bool { return w.state().CA != nil })
		old := w.leader()
		c := w.newcomer("n4")
		r, err := c.join(old, w.mustToken("server", "", 1))
		w.must(err)
		n4 := c.node(r)
		maps.DeleteFunc(n4.cfg.Join, func(id, _ string) bool { return id != old.id })
		old.handOver()
		w.within(5*time.Second, "another leads", func() bool { s := w.serving(); return len(s) == 1 && s[0] != old })
		n4.start()
		w.within(15*time.Second, "n4 has a vote", w.votes("n4"))
	})
}

// A machine that has lost its disk takes its old place by a token for its name: it
// gets no vote before it has everything.
func TestJoinReplaces(t *testing.T) {
	runWith(t, 3, ownCA, func(w *world) {
		w.allUp()
		w.within(5*time.Second, "the cluster has a CA", func() bool { return w.state().CA != nil })
		dead := follower(w)
		if _, err := w.newcomer(dead.id).join(w.leader(), w.mustToken("server", dead.id, 1)); err == nil || !strings.Contains(err.Error(), "is Up") {
			t.Errorf("a running node was replaced: %v", err)
		}
		dead.crash(memnet.PowerLoss)
		_ = dead.wait()
		w.within(5*time.Second, "it is Down", w.nodeIs(dead.id, fsm.NodeDown))
		if _, err := w.newcomer(dead.id).join(w.leader(), w.mustToken("server", "", 1)); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("anybody's token takes the place of a member: %v", err)
		}
		c := w.newcomer(dead.id)
		r, err := c.join(w.leader(), w.mustToken("server", dead.id, 1))
		w.must(err)
		if got := w.suffrage(dead.id); got != "none" {
			t.Errorf("the old one is still %s", got)
		}
		w.net.Revive(dead.id)
		n := c.node(r)
		n.start()
		w.within(5*time.Second, "it is Up", w.nodeIs(n.id, fsm.NodeUp))
		w.within(10*time.Second, "it has a vote", w.votes(n.id))
	})
}

// A node that comes back at another address is reached there, and keeps its vote.
func TestNodeMoves(t *testing.T) {
	runWith(t, 3, ownCA, func(w *world) {
		w.allUp()
		n := follower(w)
		n.halt()
		n.cfg.Listen, n.cfg.Advertise = n.id+":7499", n.id+":7499"
		n.cfg.InitialCluster = maps.Clone(n.cfg.InitialCluster)
		n.cfg.InitialCluster[n.id] = n.cfg.Advertise
		n.start()
		w.within(15*time.Second, "it is Up", w.nodeIs(n.id, fsm.NodeUp))
		w.within(5*time.Second, "it is a voter there", func() bool {
			servers, err := w.leader().n.servers()
			w.must(err)
			for _, s := range servers {
				if string(s.ID) == n.id {
					return string(s.Address) == n.cfg.Advertise && s.Suffrage == raft.Voter
				}
			}
			return false
		})
		// It counts: with the third one gone the two of them go on.
		for _, o := range w.others(n) {
			if o != w.leader() {
				o.crash(memnet.PowerLoss)
				break
			}
		}
		w.stays(5*time.Second, "the two go on", func() bool { return len(w.serving()) == 1 })
	})
}

// Dead nodes are taken out where the policy says so: one after the other, never
// below three voters, and none that is back in time.
func TestDeadNodeCleanup(t *testing.T) {
	run(t, 5, func(w *world) {
		w.allUp()
		w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			_, err := c.SetPolicy(ctx, connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: "dead_node_cleanup", Value: "2m"}}}))
			return err
		}))
		rest := w.others(w.leader())
		rest[0].crash(memnet.PowerLoss)
		rest[1].crash(memnet.PowerLoss)
		time.Sleep(time.Minute)
		rest[1].back()
		w.within(5*time.Second, "it is Up again", w.nodeIs(rest[1].id, fsm.NodeUp))
		w.within(2*time.Minute, "the dead one is taken out", func() bool { return w.suffrage(rest[0].id) == "none" })
		rest[1].crash(memnet.PowerLoss)
		w.within(3*time.Minute, "the second one is taken out", func() bool { return w.suffrage(rest[1].id) == "none" })
		rest[2].crash(memnet.PowerLoss)
		time.Sleep(5 * time.Minute)
		if got := w.suffrage(rest[2].id); got != "Voter" {
			t.Errorf("with three voters left the cleanup made of one: %s", got)
		}
	})
}

// Every role may do what it may and no more, whichever node is asked, from the
// moment it is given or taken.
func TestRolesAreKept(t *testing.T) {
	run(t, 3, func(w *world) {
		w.allUp()
		set := func(name, role string) {
			w.Helper()
			w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.SetOperator(ctx, connect.NewRequest(&lifeboatv1.SetOperatorRequest{Name: name, Role: role}))
				return err
			}))
		}
		calls := map[string]func(context.Context, lifeboatv1connect.AdminServiceClient) error{
			"viewer": func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.ListNodes(ctx, connect.NewRequest(&lifeboatv1.ListNodesRequest{}))
				return err
			},
			"operator": func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.ControlHA(ctx, connect.NewRequest(&lifeboatv1.ControlHARequest{Action: "arm"}))
				return err
			},
			"admin": func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.SetPolicy(ctx, connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: "max_restart", Value: "2"}}}))
				return err
			},
		}
		ranks := []string{"none", "viewer", "operator", "admin"}
		for rank, role := range ranks {
			set("bob", role)
			for need, call := range calls {
				for _, n := range w.live() {
					c, done := w.client("desk", transport.KindOperator, "bob")
					ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
					err := call(ctx, lifeboatv1connect.NewAdminServiceClient(c, "https://"+n.cfg.Listen))
					cancel()
					done()
					may := false
					for i, r := range ranks {
						may = may || r == need && rank >= i
					}
					if may && err != nil || !may && connect.CodeOf(err) != connect.CodePermissionDenied {
						t.Errorf("%s does what takes %s, at %s: %v", role, need, n.id, err)
					}
				}
			}
		}
		told := 0
		for _, e := range w.state().EventsAfter(0) {
			if e.Subject == "operator bob" && e.Actor == "operator/alice" {
				told++
			}
		}
		if told != len(ranks) {
			t.Errorf("%d events tell of it", told)
		}
	})
}

// A removed host is refused although its certificate is valid, and comes back when
// an operator says so. Its VMs are not touched meanwhile.
func TestRemovedHostIsRefused(t *testing.T) {
	runWith(t, 1, ownCA, func(w *world) {
		w.fleet(2, 0)
		h := w.hosts["h1"]
		h.end()
		host := func(action string) error {
			return w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
				_, err := c.ControlHost(ctx, connect.NewRequest(&lifeboatv1.ControlHostRequest{Host: "h1", Action: action}))
				return err
			})
		}
		w.within(2*time.Minute, "it is removed", func() bool { return host("remove") == nil })
		x := w.raw("h1", w.leader())
		if err := x.register(); connect.CodeOf(err) != connect.CodePermissionDenied {
			t.Errorf("it registered: %v", err)
		}
		w.must(host("admit"))
		if err := x.register(); err != nil {
			t.Errorf("admitted, and refused: %v", err)
		}
	})
}

// A node's certificate is renewed long before it expires, for as long as it runs.
func TestNodeRenewsItsCertificate(t *testing.T) {
	runWith(t, 1, func(w *world) {
		ownCA(w)
		leaf, err := w.ca.Issue(transport.Identity{Kind: transport.KindNode, Name: "n1"}, pki.IssueOptions{Validity: time.Hour})
		w.must(err)
		files, err := leaf.Write(filepath.Join(w.dir, "ca"))
		w.must(err)
		w.nodes["n1"].creds, err = transport.LoadCredentials(files, nil)
		w.must(err)
	}, func(w *world) {
		w.within(5*time.Second, "the cluster has a CA", func() bool { return w.state().CA != nil })
		w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			_, err := c.SetPolicy(ctx, connect.NewRequest(&lifeboatv1.SetPolicyRequest{Settings: []*lifeboatv1.Setting{{Key: "certificate_validity", Value: "1h"}}}))
			return err
		}))
		time.Sleep(37 * time.Minute)
		if left := time.Until(w.nodes["n1"].creds.Expires()); left > 24*time.Minute {
			t.Fatalf("after 37 minutes its certificate is valid for %s: it was renewed too early", left)
		}
		time.Sleep(5 * time.Minute)
		if left := time.Until(w.nodes["n1"].creds.Expires()); left < 55*time.Minute {
			t.Fatalf("after 42 minutes its certificate is valid for %s", left)
		}
	})
}

// Whoever is wanted gets another certificate of the same name, whichever node is
// asked; whoever is not does not, although the one he has is valid.
func TestRenew(t *testing.T) {
	runWith(t, 3, ownCA, func(w *world) {
		w.allUp()
		w.within(5*time.Second, "the cluster has a CA", func() bool { return w.state().CA != nil })
		w.must(w.operator(w.leader(), func(ctx context.Context, c lifeboatv1connect.AdminServiceClient) error {
			_, err := c.SetOperator(ctx, connect.NewRequest(&lifeboatv1.SetOperatorRequest{Name: "mallory", Role: "none"}))
			return err
		}))
		for _, c := range []struct {
			kind   transport.Kind
			name   string
			wanted bool
		}{
			{transport.KindNode, "n1", true}, {transport.KindNode, "n9", false}, {transport.KindHost, "h1", true},
			{transport.KindOperator, "alice", true}, {transport.KindOperator, "mallory", false},
		} {
			for _, n := range w.live() {
				client, done := w.client("console", c.kind, c.name)
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				r, err := lifeboatv1connect.NewJoinServiceClient(client, "https://"+n.cfg.Listen).Renew(ctx, connect.NewRequest(&lifeboatv1.RenewRequest{Request: w.newcomer("x").req}))
				cancel()
				done()
				if !c.wanted {
					if err == nil {
						t.Errorf("%s %s got a certificate from %s", c.kind, c.name, n.id)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s %s at %s: %v", c.kind, c.name, n.id, err)
					continue
				}
				leaf, err := x509.ParseCertificate(r.Msg.Certificate)
				w.must(err)
				if id, err := transport.CertIdentity(leaf); err != nil || id != (transport.Identity{Kind: c.kind, Name: c.name}) {
					t.Errorf("%s %s got a certificate for %v (%v)", c.kind, c.name, id, err)
				}
			}
		}
	})
}

// Without a CA of its own the cluster takes certificates of another, and says how.
func TestJoinWithOwnPKI(t *testing.T) {
	run(t, 1, func(w *world) {
		w.allUp()
		token := w.mustToken("server", "", 1)
		if _, err := w.newcomer("n2").join(w.leader(), token); err == nil || !strings.Contains(err.Error(), "--own-cert") {
			t.Errorf("it says: %v", err)
		}
		if k := w.state().Token(strings.Split(token, "-")[2]); k.Left != 1 {
			t.Error("the token was spent on that")
		}
	})
}
