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
	"lifeboat/notify"
	"lifeboat/transport"
)

// Deps are the parts of a node that the program chooses.
type Deps struct {
	Log    hclog.Logger
	Creds  *transport.Credentials
	Fences fence.Registry
	// Notifiers are the ways to tell people of alerts.
	Notifiers notify.Registry
	Version   string
	// Registry collects this node's metrics for /metrics; nil means one of its
	// own. Raft's own metrics come here if the program points its sink to it.
	Registry *prometheus.Registry
	// Listen opens Config.Listen; nil means TCP. Dial reaches other nodes; nil
	// means TCP. Tests put a network in memory here.
	Listen func(ctx context.Context, addr string) (net.Listener, error)
	Dial   transport.DialFunc
	// Ready is told once the node answers requests; may be nil.
	Ready func()
	// Supervisor is told how this node fares; nil = nobody wants to know.
	Supervisor Supervisor
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
	level uint32                            // the build is of this feature level; 0 = of FeatureLevel
	// restoring is told of a restored state before Raft has it.
	restoring func()
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

	foresight foresight
	gate      gate
	calls     *calls
	readings  readings
	crowd     crowd
	tickets   tickets
	joined    atomic.Bool          // raft is set: the listener and Raft itself ask before
	term      atomic.Pointer[term] // while this node leads and serves
	leaving   atomic.Bool          // the stop has begun: nobody should come here any more
	hushed    atomic.Bool          // no hello is said any more
	// Archives on their way out and in, and one that a term ends for.
	outgoing, incoming parcels
	packing            chan struct{} // capacity maxPacking, holds who writes or reads an archive
	restoring          chan *restoring
	// listening takes the time of the others before a term begins.
	listening atomic.Pointer[members]
	heard     atomic.Pointer[members] // of the newest term of this node
	gaveAway  time.Time               // when a term last ended because this node should not lead; the term's own
	shutdown  context.CancelFunc      // stops this node in order
	reshaping sync.Mutex              // held while the members change: who may go is counted under it
	asked     int                     // nodes that were asked for the leader; held under greeting
	greeting  chan struct{}           // capacity 1, held while a hello is out: the goodbye must come after it

	store    *storage
	backups  *backups
	handed   handedOut
	listener *transport.Listener
	streams  *transport.RaftStreamLayer
	arrivals *arrivals
}

// ErrStalled ends Run when this node led and could not commit: the process must
// end, so that another node can lead.
var ErrStalled = errors.New("this node led and could not commit; it ends so that another one can lead")

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
func (n *Node) startRaft(ctx context.Context) error {
	store := n.store
	log := n.log.Named("raft")
	c := n.cfg.raft(log)
	fresh, err := store.fresh()
	if err != nil {
		return fmt.Errorf("look for an existing log: %w", err)
	}
	founds := fresh && len(n.cfg.InitialCluster) > 0
	if founds && n.level() >= fsm.LevelJoin {
		if err := n.known(ctx); err != nil {
			return err
		}
	}
	trans := &arrivals{guard: store.guard, level: n.level(), refused: make(chan error, 1), out: make(chan raft.RPC), NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: n.streams, MaxPool: 3, MaxRPCsInFlight: 1, Timeout: 10 * time.Second, MsgpackUseNewTimeFormat: true, Logger: log})}
	if founds {
		// All founders write the same configuration, so it does not matter who
		// is first.
		if err := raft.BootstrapCluster(c, store.logs, store.stable, store.snapshots, trans, configuration(n.cfg.InitialCluster)); err != nil {
			return fmt.Errorf("found the cluster: %w", err)
		}
	}
	r, err := raft.NewRaft(c, n.fsm, store.logs, store.stable, store.snapshots, trans)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	n.raft, n.arrivals = r, trans
	n.joined.Store(true)
	return nil
}

// configuration makes voters of nodes (id → address).
func configuration(nodes map[string]string) (c raft.Configuration) {
	for _, id := range sortedKeys(nodes) {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(nodes[id])})
	}
	return c
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
