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
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"lifeboat/fence"
	"lifeboat/fsm"
	"lifeboat/fsm/raftfsm"
	"lifeboat/transport"
)

// featureLevel is the newest behaviour of Apply that this build knows.
const featureLevel = 2

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
	// Hurry, once closed, shortens what is left of a stop; nil = nobody is ever in
	// a hurry.
	Hurry <-chan struct{}

	started func(*Node) // benchmarks look inside
	faults  faults
}

// faults are for tests of this package: what goes wrong beneath a node.
type faults struct {
	logs  func(raft.LogStore) raft.LogStore // a disk
	clock time.Duration                     // the machine's clock is ahead by this
	// stop replaces how a component stops.
	stop func(component string, real stopFunc) stopFunc
}

type stopFunc = func(ctx context.Context, why error) error

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
	calls   *calls
	crowd   crowd
	tickets tickets
	joined  atomic.Bool          // raft is set: the listener and Raft itself ask before
	term    atomic.Pointer[term] // while this node leads and serves
	leaving atomic.Bool          // the stop has begun: nobody should come here any more
	hushed  atomic.Bool          // no hello is said any more
	// listening takes the time of the others before a term begins.
	listening atomic.Pointer[members]
	heard     atomic.Pointer[members] // of the newest term of this node
	gaveAway  time.Time               // when a term last ended because this node should not lead; the term's own
	shutdown  context.CancelFunc      // stops this node in order
	reshaping sync.Mutex              // held while the members change: who may go is counted under it
	greeting  chan struct{}           // capacity 1, held while a hello is out: the goodbye must come after it

	store    *storage
	listener *transport.Listener
	streams  *transport.RaftStreamLayer
}

// ErrStalled ends Run when this node led and could not commit: the process must
// end, so that another node can lead.
var ErrStalled = errors.New("this node led and could not commit; it ends so that another one can lead (is its disk stalled?)")

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
func (n *Node) startRaft() error {
	store := n.store
	log := n.log.Named("raft")
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: n.streams, MaxPool: 3, MaxRPCsInFlight: 1,
		Timeout: 10 * time.Second, MsgpackUseNewTimeFormat: true, Logger: log})
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
	return nil
}

// leadership runs a term each time this node is elected.
func (n *Node) leadership(ctx context.Context) error {
	var end context.CancelFunc
	var over chan error
	finish := func() {
		if end != nil {
			end()
			<-over
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
	if errors.Is(err, errTransfer) && n.own().Withdrawn() {
		n.log.Info("leadership is given away", "reason", err) // as it was asked for
	} else {
		n.log.Error("the term ended", "error", err)
	}
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
// members, whatever certificate they hold, and never somebody else on the raft
// side.
func (n *Node) authorize(proto string, id transport.Identity) error {
	if proto == transport.ProtoRaft && id.Kind != transport.KindNode {
		return fmt.Errorf("only management nodes take part in Raft, not %s", id)
	}
	if n.stranger(id) {
		return fmt.Errorf("node %s is not a member of this cluster", id.Name)
	}
	return nil
}

// stranger is a management node that is no member. A node that is cut off or
// behind does not know the newest members: it takes part in nothing that counts.
func (n *Node) stranger(id transport.Identity) bool {
	return id.Kind == transport.KindNode && n.joined.Load() && !n.isMember(fsm.NodeID(id.Name))
}

const expelEvery = 250 * time.Millisecond

// expel closes the connections of nodes that have been taken out, and says once
// when this node is one of them.
func (n *Node) expel(ctx context.Context) error {
	said := false
	var last []raft.Server
	for pause(ctx, expelEvery) {
		f := n.raft.GetConfiguration() // its index is not filled in by the library
		if f.Error() != nil || slices.Equal(f.Configuration().Servers, last) {
			continue
		}
		last = f.Configuration().Servers
		if k := n.listener.CloseConns(n.stranger) + n.streams.CloseConns(n.stranger); k > 0 {
			n.log.Info("connections of nodes that are no members any more were closed", "connections", k)
		}
		if !said && !n.isMember(n.self()) {
			said = true
			n.log.Warn("this node is not a member of the cluster any more; it answers nobody. Stop it for good, and remove its data directory before it is used again", "data_dir", n.cfg.DataDir)
		}
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
