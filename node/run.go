package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/raft"

	"lifeboat/fsm/raftfsm"
	"lifeboat/internal/lifecycle"
	"lifeboat/transport"
)

// Run is a management node from start to stop. It blocks until ctx ends (a
// clean stop: leadership is given away and the others are told) or the node
// cannot go on. The error holds what did not stop well.
func Run(ctx context.Context, cfg Config, deps Deps) error {
	if got := deps.Creds.Identity(); got != (transport.Identity{Kind: transport.KindNode, Name: cfg.ID}) {
		return fmt.Errorf("the certificate is of %s, this node is lifeboat://node/%s; give it its own (`lifeboat ca issue node/%s`)", got, cfg.ID, cfg.ID)
	}
	seals, err := loadSealer(cfg.SecretKey)
	if err != nil {
		return err
	}
	n := &Node{cfg: cfg, deps: deps, log: deps.Log, runID: newID(), fsm: raftfsm.Of(cmp.Or(deps.faults.level, FeatureLevel)), sealer: seals, greeting: make(chan struct{}, 1), calls: newCalls(), readings: newReadings(), restoring: make(chan *restoring), packing: make(chan struct{}, maxPacking)}
	n.started = n.clock().UnixNano()
	ctx, n.shutdown = context.WithCancel(ctx)
	defer n.shutdown()
	n.metrics = newMetrics(n)
	return lifecycle.Run(ctx, n.components(), lifecycle.Options{Log: n.log.Named("lifecycle"), Hurry: deps.Hurry, Ready: n.ready})
}

func (n *Node) ready() {
	n.log.Info("node started", "node", n.cfg.ID, "address", n.cfg.Advertise, "run", n.runID, "version", n.deps.Version)
	if n.deps.Ready != nil {
		n.deps.Ready()
	}
	if n.deps.Supervisor != nil {
		n.deps.Supervisor.Ready()
	}
}

// components are the parts of a node in the order of their start; they stop in
// the reverse one. So a stop begins with what the others must learn of it: first
// nobody is sent here any more and another node leads, then the others are told,
// then what waits for an answer gets one. What may hang (the disk beneath Raft)
// comes last.
func (n *Node) components() []lifecycle.Component {
	var health healthServer
	var api, door *http.Server
	list := []lifecycle.Component{
		{Name: "storage", Start: n.openStorage, Stop: func(context.Context, error) error { return n.store.Close() }},
		{Name: "port", Start: n.openPort, Stop: func(context.Context, error) error { return n.listener.Close() }, Within: 2 * time.Second},
		{Name: "peers", Start: n.openPeers, Stop: n.closePeers, Within: time.Second},
		{Name: "health", Start: func(ctx context.Context) error { return health.listen(ctx, n) }, Run: health.run, Stop: health.stop, Within: time.Second},
		{Name: "raft", Start: n.openRaft, Run: n.arrive, Stop: n.stopRaft},
		{Name: "compaction", Run: n.compact, Within: time.Second},
		{Name: "admission", Run: n.expel, Within: time.Second},
		{Name: "proposals", Stop: n.gate.close, Within: time.Second},
		{Name: "wake-ups", Run: n.wakeParked, Within: time.Second},
		{Name: "snapshots", Start: n.openBackups, Run: n.backUp},
		{Name: "archives", Run: n.tidy, Within: time.Second},
		{Name: "leadership", Run: n.leadership, Within: 3 * time.Second},
		{Name: "orders", Run: n.obey, Within: time.Second},
		{Name: "hellos", Run: n.keepAlive, Within: 3 * time.Second},
		{Name: "api",
			Start: func(context.Context) error {
				api = transport.NewHTTPServer(n.handler(), n.log.Named("api"))
				return nil
			},
			Run:  func(context.Context) error { return ignoreClosed(api.Serve(n.listener.HTTP())) },
			Stop: func(ctx context.Context, _ error) error { return n.closeAPI(ctx, api) }, Within: answerWithin + flushWithin + time.Second},
		{Name: "door",
			Start: func(context.Context) error { door = transport.NewJoinServer(n.doorHandler()); return nil },
			Run:   func(context.Context) error { return ignoreClosed(door.Serve(n.listener.Join())) },
			Stop:  func(context.Context, error) error { return ignoreClosed(door.Close()) }, Within: time.Second},
		{Name: "certificate", Run: func(ctx context.Context) error { return n.deps.Creds.KeepFresh(ctx, n.askRenewal) }, Within: time.Second},
		{Name: "membership", Stop: n.farewell, Within: farewellTimeout + time.Second},
		{Name: "readiness", Stop: n.withdraw, Within: n.cfg.drainTime() + transferTimeout + 500*time.Millisecond},
	}
	if n.deps.Supervisor != nil {
		list = append(list, n.supervision())
	}
	if wrap := n.deps.faults.stop; wrap != nil {
		for i, c := range list {
			if c.Stop == nil {
				c.Stop = func(context.Context, error) error { return nil }
			}
			list[i].Stop = wrap(c.Name, c.Stop)
		}
	}
	return list
}

func (n *Node) openStorage(context.Context) error {
	if err := preflight(n.cfg.DataDir, n.level()); err != nil {
		return fmt.Errorf("version %s cannot be run here: %w", n.deps.Version, err)
	}
	store, err := openStorage(n.cfg.DataDir, n.log)
	if err != nil {
		return err
	}
	if wrap := n.deps.faults.logs; wrap != nil {
		store.logs = wrap(store.logs)
	}
	n.store = store
	if err := n.handed.open(n.cfg.DataDir); err != nil {
		n.log.Error("who was given this node's state is not known any more", "error", err)
	}
	if err := store.watch(n.cfg.DataDir, n.log.Named("snapshot")); err != nil {
		return errors.Join(err, store.Close())
	}
	return nil
}

// openPort begins to listen. Raft and the API take from it what is theirs.
func (n *Node) openPort(ctx context.Context) error {
	raw, err := n.listen(ctx)
	if err != nil {
		return err
	}
	n.listener = transport.Serve(raw, n.deps.Creds, transport.Options{Authorize: n.authorize, Join: true, Logger: n.log.Named("listener")})
	return nil
}

// openPeers is what this node reaches the others with.
func (n *Node) openPeers(context.Context) error {
	dial := transport.DialOptions{Dial: n.deps.Dial}
	n.client = transport.NewHTTPClient(n.deps.Creds, transport.ClientOptions{NameOf: n.nameOf, Dial: dial})
	n.streams = transport.NewRaftStreamLayer(n.listener, n.deps.Creds, transport.RaftOptions{Advertise: n.cfg.Advertise,
		NameOf: func(a raft.ServerAddress) string { return n.nameOf(string(a)) }, Dial: dial})
	return nil
}

func (n *Node) closePeers(context.Context, error) error {
	n.streams.Hangup()
	transport.HangUp(n.client)
	return nil
}

func (n *Node) openRaft(ctx context.Context) error {
	if err := n.startRaft(ctx); err != nil {
		return err
	}
	if n.deps.started != nil {
		n.deps.started(n)
	}
	return nil
}

// arrive lets Raft hear the others, until it has stopped, or this node must not go
// on because its version is too old.
func (n *Node) arrive(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	heard := make(chan error, 1)
	go func() { heard <- n.arrivals.run(ctx, n.raft.CurrentTerm) }()
	select {
	case err := <-heard:
		return err
	case <-n.fsm.Broken():
		cancel()
		<-heard
		return n.fsm.Err()
	}
}

// stopRaft hangs up first: Raft waits for every call that is out.
func (n *Node) stopRaft(context.Context, error) error {
	n.streams.Hangup()
	return n.raft.Shutdown().Error()
}

// closeAPI answers what is parked, lets what is under way end, and closes.
func (n *Node) closeAPI(ctx context.Context, api *http.Server) error {
	n.calls.close()
	under, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if left := n.calls.wait(under); left > 0 {
		n.log.Warn("calls were cut off: they took too long", "calls", left)
	}
	// The answers must get out; HTTP/2 keeps a connection for longer than that.
	flush, cancel := context.WithTimeout(ctx, flushWithin)
	defer cancel()
	_ = api.Shutdown(flush)
	return ignoreClosed(api.Close())
}

const (
	answerWithin = 2 * time.Second
	flushWithin  = 200 * time.Millisecond
)
