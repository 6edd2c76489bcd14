package fsm

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// joinLab is a cluster at the feature level that knows joining.
func joinLab(t testing.TB) *lab {
	l := &lab{t: t, m: NewMachine(), now: epochStart, seqs: map[HostID]uint64{}}
	l.ok(&logpb.ClusterInit{ClusterId: "c1", FeatureLevel: LevelJoin})
	return l
}

func sum(s string) []byte { h := sha256.Sum256([]byte(s)); return h[:] }

// token is one that was made with the secret "s".
func token(kind Member, name string, uses uint32) *logpb.TokenCreate {
	c := &logpb.TokenCreate{Id: "t1", Kind: uint32(kind), Hash: sum("s"), Name: name, Uses: uses, LastsNs: int64(time.Hour)}
	if kind == MemberOperator {
		c.Role = uint32(RoleViewer)
	}
	return c
}

// use shows the secret of token t1.
func use(kind Member, name, key string) *logpb.TokenUse {
	return &logpb.TokenUse{Id: "t1", Hash: sum("s"), Kind: uint32(kind), Name: name, Key: sum(key), Addr: name + ":7400"}
}

// Every state of a token × every way to show it.
func TestTokenStates(t *testing.T) {
	made := func(c *logpb.TokenCreate, then ...proto.Message) func(l *lab) {
		return func(l *lab) {
			l.ok(c)
			for _, m := range then {
				l.ok(m)
			}
		}
	}
	scenes := []scene{
		{"none", func(*lab) {}},
		{"agent", made(token(MemberHost, "", 2))},
		{"agent, used once", made(token(MemberHost, "", 2), use(MemberHost, "h1", "k1"))},
		{"agent, used up", made(token(MemberHost, "", 1), use(MemberHost, "h1", "k1"))},
		{"agent h2", made(token(MemberHost, "h2", 1))},
		{"server", made(token(MemberNode, "", 2))},
		{"server, used once", made(token(MemberNode, "", 2), use(MemberNode, "n7", "k1"))},
		{"operator alice", made(token(MemberOperator, "alice", 1))},
		{"expired", func(l *lab) {
			l.ok(token(MemberHost, "", 2))
			l.ok(use(MemberHost, "h1", "k1"))
			l.wait(59 * time.Minute)
			l.ok(&logpb.Canary{})
			l.wait(2 * time.Minute)
		}},
		{"revoked", made(token(MemberHost, "", 2), &logpb.TokenRevoke{Id: "t1"})},
	}
	shows := func(name string, c *logpb.TokenUse) happening {
		return happening{name: name, body: func(*lab) proto.Message { return c }}
	}
	wrong := use(MemberHost, "h2", "k2")
	wrong.Hash = sum("guessed")
	short := use(MemberHost, "h2", "k2")
	short.Hash = short.Hash[:8]
	nowhere := use(MemberNode, "n2", "k2")
	nowhere.Addr = ""
	events := []happening{
		shows("host h1 again, same key", use(MemberHost, "h1", "k1")),
		shows("host h1, another key", use(MemberHost, "h1", "k2")),
		shows("host h2", use(MemberHost, "h2", "k2")),
		shows("host h2, wrong secret", wrong),
		shows("host h2, half a hash", short),
		shows("node n2", use(MemberNode, "n2", "k2")),
		shows("node n2, no address", nowhere),
		shows("node n7 again, same key", use(MemberNode, "n7", "k1")),
		shows("node n7, another key", use(MemberNode, "n7", "k2")),
		shows("node n1, which is Up", use(MemberNode, "n1", "k2")),
		shows("operator alice", use(MemberOperator, "alice", "k2")),
		shows("operator mallory", use(MemberOperator, "mallory", "k2")),
		{name: "revoke", body: func(*lab) proto.Message { return &logpb.TokenRevoke{Id: "t1"} }},
		{name: "made again", body: func(*lab) proto.Message { return token(MemberHost, "", 1) }},
	}
	look := func(l *lab) string {
		s := "no token"
		if k := l.state().Token("t1"); k != nil {
			s = fmt.Sprintf("%d left, %d used", k.Left, len(k.Used))
		}
		for id, n := range l.state().Nodes() {
			if n.Invited {
				s += fmt.Sprintf(", node %s at %s invited", id, n.Addr)
			}
		}
		for id, o := range l.state().Operators() {
			s += fmt.Sprintf(", operator %s is %s", id, o.Role)
		}
		return s
	}
	begin := func(t *testing.T) *lab {
		l := joinLab(t)
		l.ok(&logpb.NodeHello{Id: "n1", RunId: "r1", Version: "1"})
		return l
	}
	golden(t, "tokens.table", cross(t, begin, scenes, events, look))
}

// A token that makes no sense is not made.
func TestTokenCreateRefuses(t *testing.T) {
	l := joinLab(t)
	for name, change := range map[string]func(*logpb.TokenCreate){
		"no id":                 func(c *logpb.TokenCreate) { c.Id = "" },
		"no hash":               func(c *logpb.TokenCreate) { c.Hash = nil },
		"no kind":               func(c *logpb.TokenCreate) { c.Kind = 0 },
		"unknown kind":          func(c *logpb.TokenCreate) { c.Kind = 4 },
		"no uses":               func(c *logpb.TokenCreate) { c.Uses = 0 },
		"too many uses":         func(c *logpb.TokenCreate) { c.Uses = MaxTokenUses + 1 },
		"no life":               func(c *logpb.TokenCreate) { c.LastsNs = 0 },
		"a life of centuries":   func(c *logpb.TokenCreate) { c.LastsNs = 1 << 62 },
		"a role for a host":     func(c *logpb.TokenCreate) { c.Role = uint32(RoleAdmin) },
		"one name, many uses":   func(c *logpb.TokenCreate) { c.Name, c.Uses = "h1", 2 },
		"operator without name": func(c *logpb.TokenCreate) { c.Kind, c.Role = uint32(MemberOperator), uint32(RoleAdmin) },
		"operator without role": func(c *logpb.TokenCreate) { c.Kind, c.Name = uint32(MemberOperator), "alice" },
		"unknown role":          func(c *logpb.TokenCreate) { c.Kind, c.Name, c.Role = uint32(MemberOperator), "alice", 9 },
	} {
		c := token(MemberHost, "", 1)
		change(c)
		if l.rejected(c); l.state().Token(c.Id) != nil {
			t.Errorf("%s: it was made", name)
		}
	}
}

// A level that the log has not reached is refused, and changes nothing.
func TestJoinWaitsForItsLevel(t *testing.T) {
	l := newLab(t)
	for _, c := range []proto.Message{
		token(MemberHost, "", 1), &logpb.CASet{Cert: []byte{1}, SealedKey: []byte{2}}, &logpb.OperatorSet{Name: "a", Role: 1},
		&logpb.HostControl{Host: "h1", Action: HostAdmit},
		&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "unknown_operator", Value: "viewer"}}},
	} {
		before := l.state().Sum()
		l.rejected(c)
		if l.state().Sum() != before {
			t.Errorf("%T changed something", c)
		}
	}
}

// A removed host is refused, whatever certificate it has, until it is admitted
// again; and again after the next removal.
func TestRemovedHostIsBarred(t *testing.T) {
	for name, admit := range map[string][]proto.Message{
		"by hand":    {&logpb.HostControl{Host: "h1", Action: HostAdmit}},
		"by a token": {token(MemberHost, "h1", 1), use(MemberHost, "h1", "k1")},
	} {
		l := joinLab(t)
		l.ok(registration("h1", "b1"))
		for range 2 {
			l.ok(&logpb.HostLeave{Host: "h1", Epoch: l.state().Host("h1").Epoch, Session: l.state().Host("h1").Session, Reason: "stopped"})
			l.ok(&logpb.HostControl{Host: "h1", Action: HostRemove})
			l.rejected(registration("h1", "b1"))
			l.rejected(registration("h1", "b2"))
			if admit == nil {
				continue
			}
			for _, m := range admit {
				l.ok(m)
			}
			l.ok(registration("h1", "b2"))
			if h := l.state().Host("h1"); h.Status != Up || h.Admitted {
				t.Fatalf("%s: %+v", name, h)
			}
			admit = []proto.Message{&logpb.HostControl{Host: "h1", Action: HostAdmit}}
		}
	}
}

// A node that is admitted is not missed before it has come, and its place is free
// once it is removed.
func TestInvitedNode(t *testing.T) {
	l := joinLab(t)
	l.ok(token(MemberNode, "", 3))
	l.ok(use(MemberNode, "n2", "k"))
	l.m.Members(l.index+1, []NodeID{"n1"})
	l.index++
	if n := l.state().Node("n2"); n.State != NodeDown || !n.Invited || n.Gone() || l.state().CountOpenAlerts() != 0 {
		t.Fatalf("%+v, %d alerts", n, l.state().CountOpenAlerts())
	}
	l.ok(&logpb.NodeControl{Id: "n2", Action: uint32(GoingRemove)})
	if n := l.state().Node("n2"); n.Invited || !n.Gone() {
		t.Fatalf("removed: %+v", n)
	}
	l.rejected(use(MemberNode, "n2", "k2")) // it was removed: anybody's token does not bring it back
	named := token(MemberNode, "n2", 1)
	named.Id, named.Hash = "t2", sum("s2")
	l.ok(named)
	back := use(MemberNode, "n2", "k2")
	back.Id, back.Hash = "t2", sum("s2")
	l.ok(back)
	l.ok(&logpb.NodeHello{Id: "n2", RunId: "r1", Version: "1", Instance: "i1"})
	l.rejected(back) // it has come: the same use does not take its place again
	for instance, refused := range map[string]bool{"i1": false, "i2": true, "": false} {
		c := &logpb.NodeHello{Id: "n2", RunId: "r1", Version: "1", Instance: instance}
		if no := l.do(c); (no != "") != refused {
			t.Errorf("a hello with data directory %q: %q", instance, no)
		}
		l.ok(&logpb.NodeHello{Id: "n2", RunId: "r1", Version: "1", Instance: "i1"})
	}
	if n := l.state().Node("n2"); n.State != NodeUp || n.Invited || n.Going != 0 {
		t.Fatalf("come: %+v", n)
	}
}

// Nobody locks everybody out by mistake, and a role counts at once.
func TestRoles(t *testing.T) {
	l := joinLab(t)
	if l.state().RoleOf("root") != RoleAdmin {
		t.Fatal("a new cluster has nobody who may do anything")
	}
	l.ok(&logpb.OperatorSet{Name: "alice", Role: uint32(RoleAdmin)})
	c := command(&logpb.OperatorSet{Name: "alice", Role: uint32(RoleNone)})
	c.Actor = "operator/alice"
	if r := l.m.Apply([]Entry{l.entry(c)})[0]; r.Rejected == "" {
		t.Fatal("she took the role from herself")
	}
	l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "unknown_operator", Value: "none"}}})
	l.ok(&logpb.OperatorSet{Name: "bob", Role: uint32(RoleViewer)})
	l.ok(token(MemberOperator, "carol", 1))
	l.ok(&logpb.OperatorSet{Name: "carol"})
	l.rejected(use(MemberOperator, "carol", "k"))
	for name, want := range map[string]Role{"alice": RoleAdmin, "carol": RoleNone, "bob": RoleViewer, "root": RoleNone} {
		if got := l.state().RoleOf(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// After a restore no token is good, what was taken from operators since stays
// taken, and the CA is the one that signed what the nodes show.
func TestWakeGivesNothingBack(t *testing.T) {
	l := joinLab(t)
	l.ok(&logpb.CASet{Cert: []byte("ca"), SealedKey: []byte("key")})
	l.ok(token(MemberHost, "", 1))
	l.ok(&logpb.OperatorSet{Name: "bob", Role: uint32(RoleAdmin)})
	l.ok(&logpb.OperatorSet{Name: "carol", Role: uint32(RoleAdmin)})
	l.ok(registration("h9", "b1"))
	old := l.state()
	l.ok(&logpb.HostControl{Host: "h9", Action: HostRemove, Force: true})
	l.ok(&logpb.PolicySet{Settings: []*logpb.Setting{{Key: "unknown_operator", Value: "none"}}})
	l.ok(&logpb.OperatorSet{Name: "bob", Role: uint32(RoleNone)})
	l.ok(use(MemberHost, "h1", "k"))
	s := old.Wake(l.state(), Waking{Index: l.index + 1, Term: 2, Now: l.now, Actor: "operator/x"})
	if s.Token("t1") != nil || s.RoleOf("bob") != RoleNone || s.CA == nil || string(s.CA.Cert) != "ca" {
		t.Errorf("token %v, bob %s, CA %v", s.Token("t1"), s.RoleOf("bob"), s.CA)
	}
	if s.RoleOf("somebody") != RoleNone {
		t.Errorf("somebody is %s again", s.RoleOf("somebody"))
	}
	if h := s.Host("h9"); h == nil || h.Unwanted() == "" {
		t.Errorf("a removed host is wanted again: %+v", h)
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

// Old tokens are forgotten, so that there can be new ones.
func TestTokensAreTrimmed(t *testing.T) {
	l := joinLab(t)
	for i := range maxTokens {
		c := token(MemberHost, "", 1)
		c.Id = fmt.Sprint("t", i)
		l.ok(c)
	}
	c := token(MemberHost, "", 1)
	c.Id = "more"
	l.rejected(c)
	for range 24*7 + 2 {
		l.wait(time.Hour)
		l.ok(&logpb.Canary{})
	}
	l.ok(c)
	if n := l.state().tokens.len(); n != 1 {
		t.Errorf("%d tokens are kept", n)
	}
}

// Whatever is said of joining, the state holds together, a snapshot gives it back,
// and nothing of a secret is in what people read.
func TestJoinHoldsTogether(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 7))
		l := joinLab(t)
		names := []string{"", "n1", "n2", "h1", "h2", "alice"}
		one := func() string { return names[r.IntN(len(names))] }
		for range 200 {
			kind, id := uint32(r.IntN(5)), fmt.Sprint("t", r.IntN(4))
			switch r.IntN(9) {
			case 0, 1:
				l.do(&logpb.TokenCreate{Id: id, Kind: kind, Hash: sum("s"), Name: one(), Role: uint32(r.IntN(5)), Uses: uint32(r.IntN(4)), LastsNs: int64(r.IntN(3)) * int64(time.Minute)})
			case 2, 3:
				l.do(&logpb.TokenUse{Id: id, Kind: kind, Hash: sum("s"), Name: one(), Key: sum(one()), Addr: one()})
			case 4:
				l.do(&logpb.TokenRevoke{Id: id})
			case 5:
				l.do(&logpb.OperatorSet{Name: one(), Role: uint32(r.IntN(5))})
			case 6:
				l.do(&logpb.NodeHello{Id: one(), RunId: one(), Version: "1"})
			case 7:
				l.do(&logpb.NodeControl{Id: one(), Action: uint32(r.IntN(4))})
			default:
				l.do(&logpb.NodeAdmit{Id: one(), Step: uint32(r.IntN(5)), Addr: one()})
			}
			l.wait(time.Duration(r.IntN(20)) * time.Second)
		}
		if err := l.m.Check(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		var b bytes.Buffer
		if _, err := l.state().WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		again, err := ReadState(&b)
		if err != nil || again.Sum() != l.state().Sum() || essence(again) != essence(l.state()) {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, e := range l.state().EventsAfter(0) {
			if strings.Contains(e.Text, fmt.Sprintf("%x", sum("s"))) {
				t.Fatalf("an event shows the hash: %s", e.Text)
			}
		}
	}
}

// Who was removed comes back by a token made for the name, not by anybody's; and what
// a removed administrator has made is of no use.
func TestRemovedStaysRemoved(t *testing.T) {
	l := joinLab(t)
	l.ok(registration("h1", "b1"))
	l.ok(token(MemberHost, "", 100))
	l.ok(use(MemberHost, "h2", "k2"))
	l.rejected(&logpb.HostControl{Host: "h1", Action: HostRemove}) // it still reports
	l.ok(&logpb.HostControl{Host: "h1", Action: HostRemove, Force: true})
	l.rejected(use(MemberHost, "h1", "k1"))
	l.rejected(registration("h1", "b1"))
	l.ok(&logpb.HostControl{Host: "h2", Action: HostRemove, Force: true}) // it has never come
	l.rejected(use(MemberHost, "h2", "k2"))
	l.rejected(registration("h2", "b1"))

	l.ok(&logpb.OperatorSet{Name: "bob", Role: uint32(RoleAdmin)})
	made := command(&logpb.TokenCreate{Id: "bobs", Kind: uint32(MemberOperator), Hash: sum("x"), Name: "bob2", Role: uint32(RoleAdmin), Uses: 1, LastsNs: int64(time.Hour)})
	made.Actor = "operator/bob"
	if r := l.m.Apply([]Entry{l.entry(made)})[0]; r.Rejected != "" {
		t.Fatal(r.Rejected)
	}
	l.ok(&logpb.OperatorSet{Name: "bob"})
	l.rejected(&logpb.TokenUse{Id: "bobs", Hash: sum("x"), Kind: uint32(MemberOperator), Name: "bob2", Key: sum("k")})
}

// Somebody is always an administrator, however the last one is taken away.
func TestNobodyIsLockedOut(t *testing.T) {
	policy := func(v string) *logpb.PolicySet {
		return &logpb.PolicySet{Settings: []*logpb.Setting{{Key: "unknown_operator", Value: v}}}
	}
	l := joinLab(t)
	l.rejected(policy("none"))
	l.ok(&logpb.OperatorSet{Name: "alice", Role: uint32(RoleAdmin)})
	l.ok(policy("none"))
	l.rejected(&logpb.OperatorSet{Name: "alice"})
	l.rejected(&logpb.OperatorSet{Name: "alice", Role: uint32(RoleViewer)})
	c := token(MemberOperator, "alice", 1)
	l.ok(c)
	l.rejected(use(MemberOperator, "alice", "k"))
	l.ok(&logpb.OperatorSet{Name: "bob", Role: uint32(RoleAdmin)})
	l.ok(use(MemberOperator, "alice", "k"))
	if r := l.state().RoleOf("bob"); r != RoleAdmin {
		t.Errorf("bob is %s", r)
	}
}

// What a leader looks at before it writes a stranger's words into the log agrees with
// what Apply says of them.
func TestMayJoinAgreesWithApply(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 8))
		l := joinLab(t)
		names := []string{"n1", "n2", "h1", "alice"}
		for range 120 {
			name := names[r.IntN(len(names))]
			kind, id := uint32(r.IntN(4)), fmt.Sprint("t", r.IntN(3))
			switch r.IntN(5) {
			case 0:
				l.do(&logpb.TokenCreate{Id: id, Kind: kind, Hash: sum("s"), Name: []string{"", name}[r.IntN(2)], Role: uint32(r.IntN(4)), Uses: uint32(1 + r.IntN(2)), LastsNs: int64(time.Minute)})
			case 1:
				l.do(&logpb.NodeHello{Id: name, RunId: "r", Version: "1"})
			case 2:
				l.do(&logpb.NodeControl{Id: name, Action: uint32(1 + r.IntN(2))})
			default:
				c := &logpb.TokenUse{Id: id, Kind: kind, Hash: sum("s"), Name: name, Key: sum(names[r.IntN(2)]), Addr: "a:1"}
				before := l.state().MayJoin(c, l.now)
				if no := l.do(c); no != before {
					t.Fatalf("seed %d: the leader said %q, Apply %q", seed, before, no)
				}
			}
			l.wait(time.Second)
		}
	}
}
