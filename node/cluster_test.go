package node

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fence"
	"lifeboat/fsm"
	"lifeboat/hypervisor/mem"
	"lifeboat/notify"
	"lifeboat/transport"
	"lifeboat/transport/memnet"
	"lifeboat/transport/pki"
)

// world is a whole cluster in virtual time: management nodes with real Raft on
// a disk and mutual TLS over a network in memory, and hosts with real agents on
// hypervisors in memory.
type world struct {
	*testing.T
	dir     string
	net     *memnet.Network
	ca      *pki.CA
	shared  *mem.Storage
	log     hclog.Logger
	nodes   map[string]*testNode
	hosts   map[string]*testHost
	begun   map[fsm.VMID][]begun // every time a VM began to run
	mu      sync.Mutex           // guards begun
	closers []func()

	notifiers notify.Registry
}

// begun is one beginning of a VM.
type begun struct {
	host string
	at   time.Time
}

// testNode is one machine with a management node.
type testNode struct {
	w     *world
	id    string
	cfg   Config
	creds *transport.Credentials
	// Faults of the next start.
	faults     faults
	supervisor Supervisor
	registry   *prometheus.Registry

	n    *Node // of the newest run; nil = never ran
	stop context.CancelFunc
	done chan error // nil = does not run
}

// run builds a world and runs a story in it.
func run(t *testing.T, nodes int, story func(*world)) {
	t.Helper()
	runWith(t, nodes, func(*world) {}, story)
}

// runWith is run with something done to the world before it begins.
func runWith(t *testing.T, nodes int, prepare, story func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nodes)
		prepare(w)
		defer w.end()
		for _, n := range w.nodes {
			n.start()
		}
		w.leader()
		story(w)
	})
}

func newWorld(t *testing.T, nodes int) *world {
	level := hclog.LevelFromString(os.Getenv("LIFEBOAT_TEST_LOG"))
	if level == hclog.NoLevel {
		level = hclog.Warn
	}
	w := &world{
		T: t, dir: t.TempDir(), net: memnet.New(), nodes: map[string]*testNode{}, hosts: map[string]*testHost{},
		begun: map[fsm.VMID][]begun{},
		log:   hclog.New(&hclog.LoggerOptions{Output: t.Output(), Level: level, TimeFn: time.Now, TimeFormat: "04:05.000"}),
	}
	w.net.SetLatency(time.Millisecond)
	w.shared = mem.NewStorage(mem.StorageOptions{Name: "shared", Dir: "/shared", Shared: true})
	ca, err := pki.CreateCA(filepath.Join(w.dir, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	w.ca = ca
	key := filepath.Join(w.dir, "secret")
	w.must(os.WriteFile(key, []byte(hex.EncodeToString(make([]byte, SecretKeySize))), 0o600))
	initial := map[string]string{}
	for i := range nodes {
		id := fmt.Sprintf("n%d", i+1)
		initial[id] = id + ":7400"
	}
	for id, addr := range initial {
		w.nodes[id] = &testNode{w: w, id: id, creds: w.creds(transport.KindNode, id), cfg: Config{
			ID: id, Listen: addr, Advertise: addr, DataDir: filepath.Join(w.dir, id), SecretKey: key,
			InitialCluster: initial, RaftTimeout: defaultRaftTimeout,
		}}
	}
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) creds(kind transport.Kind, name string) *transport.Credentials {
	leaf, err := w.ca.Issue(transport.Identity{Kind: kind, Name: name}, pki.IssueOptions{})
	w.must(err)
	files, err := leaf.Write(filepath.Join(w.dir, "ca"))
	w.must(err)
	c, err := transport.LoadCredentials(files, nil)
	w.must(err)
	return c
}

// end stops everything, so that the bubble can end, after a last look at what
// must hold after every story.
func (w *world) end() {
	if !w.Failed() {
		w.check()
	}
	for _, f := range w.closers {
		f()
	}
	for _, n := range w.nodes {
		if n.done != nil {
			n.stop()
		}
	}
	for _, n := range w.nodes {
		_ = n.wait()
	}
	for _, h := range w.hosts {
		h.end()
	}
}

// check is what must hold at the end of every story: no VM was ever live twice,
// every replica's state keeps the invariants, and replicas at the same index
// are equal.
func (w *world) check() {
	w.Helper()
	if c := w.shared.Conflicts(); len(c) > 0 {
		w.Errorf("a disk was written by two live copies: %+v", c)
	}
	sums := map[uint64]string{}
	w.within(10*time.Second, "replicas agree", func() bool {
		clear(sums)
		for _, n := range w.live() {
			s := n.n.fsm.State()
			sums[s.Index] = n.id
		}
		return len(sums) <= 1
	})
	first := ""
	for _, n := range w.live() {
		s := n.n.fsm.State()
		if err := s.Check(); err != nil {
			w.Errorf("state of %s: %v", n.id, err)
		}
		sum := fmt.Sprintf("index %d digest %016x", s.Index, s.Sum())
		if first == "" {
			first = sum
		}
		if sum != first {
			w.Errorf("%s has %s, another node %s", n.id, sum, first)
		}
	}
}

// live are the nodes that run and are not cut off by their death, by id.
func (w *world) live() []*testNode {
	var out []*testNode
	for _, n := range w.nodes {
		if n.done != nil && n.n != nil && n.n.joined.Load() {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b *testNode) int { return len(a.id) - len(b.id) + int(a.id[1]) - int(b.id[1]) })
	return out
}

// within waits in virtual time until ok holds, and says how long it took.
func (w *world) within(most time.Duration, what string, ok func() bool) time.Duration {
	w.Helper()
	begin := time.Now()
	for {
		synctest.Wait()
		if ok() {
			return time.Since(begin)
		}
		if time.Since(begin) > most {
			w.story()
			w.Fatalf("after %s still not: %s", most, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// stays checks that something holds all the time.
func (w *world) stays(for_ time.Duration, what string, ok func() bool) {
	w.Helper()
	for begin := time.Now(); time.Since(begin) < for_; time.Sleep(20 * time.Millisecond) {
		synctest.Wait()
		if !ok() {
			w.story()
			w.Fatalf("after %s not any more: %s", time.Since(begin), what)
		}
	}
}

// story logs the audit of the newest state, for whoever reads a failure.
func (w *world) story() {
	var s *fsm.State
	for _, n := range w.live() {
		if x := n.n.fsm.State(); s == nil || x.Index > s.Index {
			s = x
		}
	}
	if s == nil {
		return
	}
	for _, e := range s.EventsAfter(0) {
		w.Logf("%s [%d] %s %s", time.Unix(0, e.Time).UTC().Format("04:05.000"), e.Index, e.Type, e.Text)
	}
}

// serving are the nodes that say they lead.
func (w *world) serving() []*testNode {
	return slices.DeleteFunc(w.live(), func(n *testNode) bool { return n.n.term.Load() == nil })
}

// leader waits until exactly one node leads and serves.
func (w *world) leader() *testNode {
	w.Helper()
	w.within(10*time.Second, "one node leads", func() bool { return len(w.serving()) == 1 })
	return w.serving()[0]
}

// others are the running nodes but one.
func (w *world) others(not *testNode) []*testNode {
	return slices.DeleteFunc(w.live(), func(n *testNode) bool { return n == not })
}

// state is the leader's view.
func (w *world) state() *fsm.State { w.Helper(); return w.leader().n.fsm.State() }

// version is what the build of the node says it is.
func (n *testNode) version() string {
	if l := n.faults.level; l != 0 {
		return fmt.Sprintf("0.%d", l)
	}
	return "test"
}

// start runs the node, as a process that begins.
func (n *testNode) start() {
	n.w.Helper()
	if n.done != nil {
		n.w.Fatalf("%s runs already", n.id)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	n.stop, n.done = cancel, done
	n.n = nil
	started := make(chan *Node, 1)
	failed := make(chan error, 1)
	go func() {
		err := Run(ctx, n.cfg, Deps{
			Log: n.w.log.Named(n.id), Creds: n.creds, Version: n.version(),
			Fences: fence.NewRegistry(n.w.bmcKind(n.id)), Notifiers: n.w.notifiers,
			Listen: func(_ context.Context, addr string) (net.Listener, error) { return n.w.net.Listen(addr) },
			Dial:   transport.DialFunc(n.w.net.Dialer(n.id)), started: func(x *Node) { started <- x }, faults: n.faults, Registry: n.registry, Supervisor: n.supervisor,
		})
		failed <- err
		done <- err
	}()
	select {
	case n.n = <-started:
	case err := <-failed:
		n.w.Fatalf("start %s: %v", n.id, err)
	}
	n.w.within(5*time.Second, n.id+" has started", n.n.joined.Load)
}

// wait waits until the process has ended.
func (n *testNode) wait() error {
	if n.done == nil {
		return nil
	}
	err := <-n.done
	n.done = nil
	return err
}

// halt stops the node cleanly.
func (n *testNode) halt() {
	n.w.Helper()
	n.stop()
	if err := n.wait(); err != nil {
		n.w.Errorf("clean stop of %s: %v", n.id, err)
	}
}

// crash ends the machine: nobody hears of it any more.
func (n *testNode) crash(how memnet.Death) {
	n.w.net.Kill(n.id, how)
	n.stop()
	n.n = nil
}

// back starts a crashed machine again, with its disk.
func (n *testNode) back() {
	_ = n.wait() // what still ran of it reached nobody
	n.w.net.Revive(n.id)
	n.start()
}

// http is a client of somebody, from a machine.
func (w *world) client(from string, kind transport.Kind, name string) (connect.HTTPClient, func()) {
	c := transport.NewHTTPClient(w.creds(kind, name), transport.ClientOptions{Dial: transport.DialOptions{Dial: transport.DialFunc(w.net.Dialer(from))}})
	return c, func() { transport.HangUp(c) }
}

// operator calls the API of a node as an operator.
func (w *world) operator(at *testNode, do func(context.Context, lifeboatv1connect.AdminServiceClient) error) error {
	w.Helper()
	c, done := w.client("desk", transport.KindOperator, "alice")
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return do(ctx, lifeboatv1connect.NewAdminServiceClient(c, "https://"+at.cfg.Listen))
}

// node is what the state says about a management node.
func (w *world) nodeIs(id string, want fsm.NodeState) func() bool {
	return func() bool {
		for _, n := range w.serving() {
			x := n.n.fsm.State().Node(fsm.NodeID(id))
			return x != nil && x.State == want
		}
		return false
	}
}

func (n *testNode) leads() bool { return n.n != nil && n.n.term.Load() != nil }
