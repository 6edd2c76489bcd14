package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"lifeboat/fence"
	"lifeboat/fsm"
	"lifeboat/fsm/raftfsm"
	"lifeboat/transport"
)

// FeatureLevel is the newest behaviour of Apply that this build knows.
const FeatureLevel = 1

// Deps are the parts of a node that the program chooses.
type Deps struct {
	Log     hclog.Logger
	Creds   *transport.Credentials
	Fences  fence.Registry
	Version string
	// Registry collects this node's metrics for /metrics; nil means one of its
	// own. Raft's own metrics come here if the program points its sink to it.
	Registry *prometheus.Registry
	// Listen opens Config.Listen; nil means TCP. Dial reaches other nodes; nil
	// means TCP. Tests put a network in memory here.
	Listen func(ctx context.Context, addr string) (net.Listener, error)
	Dial   transport.DialFunc
	// Ready is told once the node answers requests; may be nil.
	Ready func()

	started func(*Node) // benchmarks look inside
	faults  faults
}

// faults are for tests of this package: what goes wrong beneath a node.
type faults struct {
	logs  func(raft.LogStore) raft.LogStore // a disk
	clock time.Duration                     // the machine's clock is ahead by this
	// restoring is told of a restored state before Raft has it.
	restoring func()
}

// Node is a running management node.
type Node struct {
	cfg     Config
	deps    Deps
	log     hclog.Logger
	runID   string
	started int64 // unix ns, when this run began
	fsm     *raftfsm.FSM
	raft    *raft.Raft
	sealer  *sealer
	client  *http.Client // to other nodes
	metrics *metrics
	gate    gate
	tickets tickets
	// Archives on their way out and in, and one that a term ends for.
	outgoing, incoming parcels
	restoring          chan *restoring
	arrivals           *guardedTransport    // from the other nodes
	joined             atomic.Bool          // raft is set: the listener and Raft itself ask before
	term               atomic.Pointer[term] // while this node leads and serves
	stop               atomic.Bool          // a clean stop has begun
	// listening takes the time of the others before a term begins.
	listening atomic.Pointer[members]
	greeting  chan struct{} // capacity 1, held while a hello is out: the goodbye must come after it
}

// ErrStalled ends Run when this node led and could not commit: the process must
// end, so that another node can lead.
var ErrStalled = errors.New("this node led and could not commit; it ends so that another one can lead (is its disk stalled?)")

// Run is a management node from start to stop. It blocks until ctx ends (a
// clean stop: leadership is given away and the others are told) or the node
// cannot go on.
func Run(ctx context.Context, cfg Config, deps Deps) (err error) {
	log := deps.Log
	if got := deps.Creds.Identity(); got != (transport.Identity{Kind: transport.KindNode, Name: cfg.ID}) {
		return fmt.Errorf("the certificate is of %s, this node is lifeboat://node/%s; give it its own (`lifeboat ca issue node/%s`)", got, cfg.ID, cfg.ID)
	}
	seals, err := loadSealer(cfg.SecretKey)
	if err != nil {
		return err
	}
	store, err := openStorage(cfg.DataDir, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bounded(shutdownTimeout, store.Close)) }()
	if wrap := deps.faults.logs; wrap != nil {
		store.logs = wrap(store.logs)
	}

	kept, err := newGuard(cfg.DataDir, store.logs, store.snapshots, log.Named("snapshot"))
	if err != nil {
		return err
	}
	store.logs, store.snapshots = kept, kept
	n := &Node{cfg: cfg, deps: deps, log: log, runID: newID(), fsm: raftfsm.New(), sealer: seals, greeting: make(chan struct{}, 1), restoring: make(chan *restoring)}
	n.started = n.clock().UnixNano()
	n.metrics = newMetrics(n)
	raw, err := n.listen(ctx)
	if err != nil {
		return err
	}
	listener := transport.Serve(raw, deps.Creds, transport.Options{Authorize: n.authorize, Logger: log.Named("listener")})
	defer func() { _ = listener.Close() }() // closed before in a clean stop
	dial := transport.DialOptions{Dial: deps.Dial}
	n.client = transport.NewHTTPClient(deps.Creds, transport.ClientOptions{NameOf: n.nameOf, Dial: dial})
	defer n.client.CloseIdleConnections()
	streams := transport.NewRaftStreamLayer(listener, deps.Creds, transport.RaftOptions{Advertise: cfg.Advertise,
		NameOf: func(a raft.ServerAddress) string { return n.nameOf(string(a)) }, Dial: dial})
	if err := n.startRaft(store, streams); err != nil {
		return err
	}
	if deps.started != nil {
		deps.started(n)
	}
	return n.serve(ctx, kept, listener, streams)
}

func (n *Node) listen(ctx context.Context) (net.Listener, error) {
	listen := n.deps.Listen
	if listen == nil {
		listen = func(ctx context.Context, addr string) (net.Listener, error) {
			return (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		}
	}
	l, err := listen(ctx, n.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", n.cfg.Listen, err)
	}
	return l, nil
}

// startRaft starts Raft, and founds the cluster on the very first start.
func (n *Node) startRaft(store *storage, streams *transport.RaftStreamLayer) error {
	log := n.log.Named("raft")
	trans := &guardedTransport{out: make(chan raft.RPC), NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: streams, MaxPool: 3, MaxRPCsInFlight: 1,
		Timeout: 10 * time.Second, MsgpackUseNewTimeFormat: true, Logger: log})}
	c := n.cfg.raft(log)
	fresh, err := store.fresh()
	if err != nil {
		return fmt.Errorf("look for an existing log: %w", err)
	}
	if fresh {
		var conf raft.Configuration
		for _, id := range sortedKeys(n.cfg.InitialCluster) {
			conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(n.cfg.InitialCluster[id])})
		}
		// All founders write the same configuration, so it does not matter who
		// is first.
		if err := raft.BootstrapCluster(c, store.logs, store.stable, store.snapshots, trans, conf); err != nil {
			return fmt.Errorf("found the cluster: %w", err)
		}
	}
	r, err := raft.NewRaft(c, n.fsm, store.logs, store.stable, store.snapshots, trans)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	n.raft = r
	n.joined.Store(true)
	n.arrivals = trans
	return nil
}

// serve runs until ctx ends or something breaks, and stops in order.
func (n *Node) serve(ctx context.Context, kept *guard, listener *transport.Listener, streams *transport.RaftStreamLayer) error {
	g, run := errgroup.WithContext(context.WithoutCancel(ctx))
	run, stop := context.WithCancel(run)
	defer stop()
	api := transport.NewHTTPServer(n.handler(), n.log.Named("api"))
	g.Go(func() error { return ignoreClosed(api.Serve(listener.HTTP())) })
	g.Go(func() error { return n.serveHealth(run) })
	g.Go(func() error { return n.leadership(run) })
	g.Go(func() error { return n.keepAlive(run) })
	g.Go(func() error { return n.wakeParked(run) })
	handed := make(chan struct{}) // closed when Raft takes nothing any more
	go n.arrivals.watch(handed, kept, n.raft.CurrentTerm)
	g.Go(func() error {
		select {
		case <-run.Done():
			return nil
		case <-kept.over:
			return kept.verdict()
		}
	})
	g.Go(func() error {
		select {
		case <-ctx.Done():
			n.farewell(run)
		case <-run.Done():
		}
		stop()
		// Where the disk hangs, so does Raft, but for its heartbeats: they must not
		// keep the others from electing. A node that was asked to stop leads no more.
		if ctx.Err() == nil {
			streams.Hangup()
		}
		_ = api.Close()
		n.gate.close()
		streams.Hangup()
		// The raft part of the port goes last: peers may hold streams open.
		err := bounded(shutdownTimeout, n.raft.Shutdown().Error)
		close(handed)
		return errors.Join(err, listener.Close())
	})
	if n.deps.Ready != nil {
		n.deps.Ready()
	}
	n.log.Info("node started", "node", n.cfg.ID, "address", n.cfg.Advertise, "run", n.runID, "version", n.deps.Version)
	err := g.Wait()
	if ctx.Err() != nil && err == nil {
		n.log.Info("node stopped", "node", n.cfg.ID)
	}
	return err
}

const (
	transferTimeout = 2 * time.Second
	farewellTimeout = 3 * time.Second
)

// farewell gives leadership away and tells the new leader that this node stops.
func (n *Node) farewell(ctx context.Context) {
	n.greeting <- struct{}{} // not before a hello that is out has been answered
	n.stop.Store(true)
	<-n.greeting
	ctx, cancel := context.WithTimeout(ctx, farewellTimeout)
	defer cancel()
	if n.raft.State() == raft.Leader && len(n.raft.GetConfiguration().Configuration().Servers) > 1 {
		if err := n.giveAway(ctx); err != nil {
			n.log.Warn("leadership could not be given away; the others will elect", "error", err)
		}
	}
	for pause(ctx, 50*time.Millisecond) {
		if err := n.sayHello(ctx, true); err == nil {
			return
		}
	}
	n.log.Warn("no leader could be told that this node stops; it will be missed instead")
}

// giveAway transfers leadership and waits until it is gone.
func (n *Node) giveAway(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- n.raft.LeadershipTransfer().Error() }()
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			return err
		}
	case <-ctx.Done():
	}
	for n.raft.State() == raft.Leader {
		if !pause(ctx, 20*time.Millisecond) {
			return ErrStalled
		}
	}
	return nil
}

// leadership runs a term each time this node is elected.
func (n *Node) leadership(ctx context.Context) error {
	var end context.CancelFunc
	var over chan error
	finish := func() {
		if end != nil {
			end()
			var restore *errRestoring
			if errors.As(<-over, &restore) {
				restore.job.done <- restored{err: errNoLeader}
			}
			end, over = nil, nil
		}
	}
	defer finish()
	begin := func() {
		var tctx context.Context
		tctx, end = context.WithCancel(ctx)
		ch := make(chan error, 1)
		over = ch
		go func() { ch <- n.lead(tctx) }()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case leads := <-n.raft.LeaderCh():
			finish()
			if leads {
				begin()
			}
		case err := <-over:
			end()
			end, over = nil, nil
			var restore *errRestoring
			if errors.As(err, &restore) {
				if err := n.restore(ctx, restore.job); err != nil {
					return err
				}
				if n.raft.State() == raft.Leader {
					begin()
				}
				continue
			}
			if again, err := n.termEnded(ctx, err); err != nil {
				return err
			} else if again {
				begin()
			}
		}
	}
}

// termEnded deals with a term that ended by itself. If this node still leads,
// somebody else must: it hands over, or begins anew when there is nobody.
func (n *Node) termEnded(ctx context.Context, err error) (again bool, fatal error) {
	if n.raft.State() != raft.Leader || ctx.Err() != nil || errors.Is(err, errOver) {
		return false, nil
	}
	n.log.Error("the term ended", "error", err)
	if errors.Is(err, errStalled) {
		return false, ErrStalled // a transfer would need the loop of Raft that hangs
	}
	if err := n.giveAway(ctx); err != nil {
		n.log.Warn("nobody else can lead; going on", "error", err)
		return pause(ctx, time.Second), nil
	}
	return false, nil
}

// authorize decides who may connect: management nodes only while they are
// members, and never somebody else on the raft side.
func (n *Node) authorize(proto string, id transport.Identity) error {
	if proto != transport.ProtoRaft {
		return nil
	}
	if id.Kind != transport.KindNode {
		return fmt.Errorf("only management nodes take part in Raft, not %s", id)
	}
	if n.joined.Load() && !n.isMember(fsm.NodeID(id.Name)) {
		return fmt.Errorf("node %s is not a member of this cluster", id.Name)
	}
	return nil
}

// nameOf says which node is at an address; "" when it is not known.
func (n *Node) nameOf(addr string) string {
	if n.joined.Load() {
		if f := n.raft.GetConfiguration(); f.Error() == nil {
			for _, s := range f.Configuration().Servers {
				if string(s.Address) == addr {
					return string(s.ID)
				}
			}
		}
	}
	for id, a := range n.cfg.InitialCluster {
		if a == addr {
			return id
		}
	}
	return ""
}

// bounded runs what a stalled disk may hold up for ever: the process must end
// all the same.
func bounded(limit time.Duration, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return errDisk
	}
}

const shutdownTimeout = 5 * time.Second

var errDisk = errors.New("the data directory could not be closed: its disk does not answer")

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// clock is the time by this machine's clock.
func (n *Node) clock() time.Time { return time.Now().Add(n.deps.faults.clock) }

// newID is 16 random hexadecimal digits.
func newID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
