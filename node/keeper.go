package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/transport"
)

const (
	helloEvery   = time.Second
	helloRetry   = 100 * time.Millisecond
	helloTimeout = 2 * time.Second
)

// keepAlive says hello to the leader every second, so that this node is Up in
// the state as long as it runs.
func (n *Node) keepAlive(ctx context.Context) error {
	wait, refused := helloRetry, ""
	for pause(ctx, wait) {
		select {
		case n.greeting <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		if n.hushed.Load() {
			<-n.greeting
			return nil
		}
		hctx, cancel := context.WithTimeout(ctx, helloTimeout)
		err := n.sayHello(hctx, false)
		cancel()
		<-n.greeting
		wait = helloEvery
		if end := n.outgrown(err); end != nil {
			return end
		}
		switch connect.CodeOf(err) {
		case connect.CodeFailedPrecondition: // it is not wanted as it is
			if err.Error() != refused {
				refused = err.Error()
				n.log.Error("the cluster refuses this node", "error", err)
			}
		case connect.CodeAborted: // through another node only
		default:
			if err != nil {
				n.log.Debug("no leader could be told that this node is up", "error", err)
				wait = helloRetry
			}
		}
	}
	return nil
}

// sayHello tells the leader about this run of this node.
func (n *Node) sayHello(ctx context.Context, leaving bool) error {
	var known uint64 // before it is counted who comes
	if x := n.own(); x != nil {
		known = x.Index
	}
	taken, failure := n.backups.report(n.clock())
	var handed []*lifeboatv1.HandedOut
	if n.fsm.State().Level >= fsm.LevelPolicy { // an older leader would pass over it
		handed = n.handed.oldest()
	}
	req := &lifeboatv1.HelloRequest{SnapshotUnixNs: taken, SnapshotFailure: failure,
		Id: n.cfg.ID, Addr: n.cfg.Advertise, HttpAddr: n.cfg.HTTPListen, RunId: n.runID, Version: n.deps.Version,
		FeatureLevel: n.level(), Machine: n.cfg.Host, Leaving: leaving, TimeUnixNs: n.clock().UnixNano(), StartedUnixNs: n.started,
		Instance: n.store.instance, AppliedIndex: n.raft.AppliedIndex(), Agents: uint32(n.agents()), StateIndex: known, HandedOut: handed}
	err := n.tellLeader(ctx, req)
	if err == nil {
		if err := n.handed.noted(handed); err != nil {
			n.log.Warn("who was given this node's state will be told once more", "error", err)
		}
	}
	return err
}

func (n *Node) tellLeader(ctx context.Context, req *lifeboatv1.HelloRequest) error {
	if t := n.term.Load(); t != nil {
		return t.members.hello(ctx, req)
	}
	addr := n.whoLeads()
	if addr == "" {
		return errors.New("no leader is known")
	}
	client := lifeboatv1connect.NewNodeServiceClient(n.client, "https://"+addr)
	_, err := client.Hello(ctx, connect.NewRequest(req))
	return err
}

// hello answers another node.
func (n *Node) hello(ctx context.Context, req *connect.Request[lifeboatv1.HelloRequest]) (*connect.Response[lifeboatv1.HelloResponse], error) {
	id, err := caller(ctx, transport.KindNode)
	if err != nil {
		return nil, err
	}
	if id.Name != req.Msg.Id {
		return nil, connect.NewError(connect.CodePermissionDenied, errors.New("a node speaks for itself only"))
	}
	if m := n.listening.Load(); m != nil && n.term.Load() == nil {
		m.note(fsm.NodeID(id.Name), req.Msg)
		return nil, errNoLeader
	}
	return onward(ctx, n, req, false, func(t *term, ctx context.Context, q *lifeboatv1.HelloRequest) (*lifeboatv1.HelloResponse, error) {
		return &lifeboatv1.HelloResponse{}, t.members.hello(ctx, q)
	}, lifeboatv1connect.NewNodeServiceClient, lifeboatv1connect.NodeServiceClient.Hello)
}

// whoLeads is the address to which a hello goes: the leader's, or, as long as none
// has been heard, that of one node after the other: it passes the hello on. So a
// leader learns of a node that it cannot reach, because it is new or has moved.
func (n *Node) whoLeads() string {
	addr, id := n.raft.LeaderWithID()
	if addr != "" && string(id) != n.cfg.ID {
		return string(addr)
	}
	if last := n.raft.LastContact(); !last.IsZero() && time.Since(last) < maxLag {
		return "" // an election, most likely
	}
	known := n.cfg.Join
	if servers, err := n.servers(); err == nil && len(servers) > 0 {
		known = map[string]string{}
		for _, srv := range servers {
			known[string(srv.ID)] = string(srv.Address)
		}
	}
	ids := slices.DeleteFunc(sortedKeys(known), func(id string) bool { return id == n.cfg.ID })
	if len(ids) == 0 {
		return ""
	}
	n.asked++
	return known[ids[n.asked%len(ids)]]
}

// recognize says what this node knows of one that asks.
func (n *Node) recognize(ctx context.Context, req *connect.Request[lifeboatv1.RecognizeRequest]) (*connect.Response[lifeboatv1.RecognizeResponse], error) {
	id, err := caller(ctx, transport.KindNode)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&lifeboatv1.RecognizeResponse{Stranger: n.fsm.State().Node(fsm.NodeID(id.Name)).Stranger(req.Msg.Instance)}), nil
}

// recognizeWithin is how long a node with an empty data directory waits for others to
// say that they know it with another one.
const recognizeWithin = time.Second

// known asks the others whether they know this node with another data directory,
// before it founds a cluster that exists: with an empty log it would vote in it, and
// might already have voted, and what it had acknowledged is gone.
func (n *Node) known(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, recognizeWithin)
	defer cancel()
	said := make(chan string, len(n.cfg.InitialCluster))
	asked := 0
	for id, addr := range n.cfg.InitialCluster {
		if id == n.cfg.ID {
			continue
		}
		asked++
		go func() {
			r, err := lifeboatv1connect.NewNodeServiceClient(n.client, "https://"+addr).Recognize(ctx, connect.NewRequest(&lifeboatv1.RecognizeRequest{Instance: n.store.instance}))
			if err != nil {
				said <- "" // it does not run yet, or is too old to know
				return
			}
			said <- r.Msg.Stranger
		}()
	}
	for range asked {
		if no := <-said; no != "" {
			return fmt.Errorf("data_dir %s is empty: %s", n.cfg.DataDir, no)
		}
	}
	return nil
}
