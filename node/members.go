package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// members is what the leader of a term hears of the management nodes.
type members struct {
	t  *term
	mu sync.Mutex
	// heard is when a node last said hello; offset its clock minus ours then.
	heard  map[fsm.NodeID]time.Duration
	offset map[fsm.NodeID]time.Duration
	lag    map[fsm.NodeID]uint64 // entries behind the commit index then
	taken  map[fsm.NodeID]backupSaying
	said   map[fsm.NodeID]saying
	build  map[fsm.NodeID]told
	where  map[fsm.NodeID]place
	// The feature level that every member knows, and since when; watch's own.
	raisable      uint32
	raisableSince time.Duration
}

// saying is what a node said of itself: how many hosts' agents come to it, now that
// it knows of its change of state at an index.
type saying struct {
	agents int
	state  uint64
}

// place is where a node says that it is reached, and when it said so.
type place struct {
	addr string
	at   time.Duration
}

// backupSaying is what a node said of the snapshots that it takes by itself.
type backupSaying struct {
	last    int64  // when the newest was taken, unix ns
	failure string // why there is no newer one
}

const (
	membersEvery = 250 * time.Millisecond
	// maxSkew is how far the leader's clock may be from the median (S21).
	maxSkew = 2 * time.Second
	// maxAhead is how far the state's time may be ahead of the leader's clock.
	maxAhead = 10 * time.Second
)

func newMembers(t *term) *members {
	return &members{t: t, heard: map[fsm.NodeID]time.Duration{}, offset: map[fsm.NodeID]time.Duration{}, lag: map[fsm.NodeID]uint64{}, said: map[fsm.NodeID]saying{}, taken: map[fsm.NodeID]backupSaying{}, build: map[fsm.NodeID]told{}, where: map[fsm.NodeID]place{}}
}

// hello is a node's sign of life. It is committed only when it is news.
func (m *members) hello(ctx context.Context, req *lifeboatv1.HelloRequest) error {
	id := fsm.NodeID(req.Id)
	s := m.t.node.fsm.State()
	n := s.Node(id)
	switch member := m.t.node.isMember(id); {
	case !member && (n == nil || !n.Invited || req.Leaving):
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("node %s is not a member of this cluster", id))
	case m.t.node.tooOld(s, req) != nil:
		return m.t.node.tooOld(s, req)
	case n.Stranger(req.Instance) != "":
		m.t.log.Warn("a hello is refused", "node", req.Id, "reason", n.Stranger(req.Instance))
		return connect.NewError(connect.CodeFailedPrecondition, errors.New(n.Stranger(req.Instance)))
	case !member:
		if err := m.welcome(ctx, req); err != nil {
			return err
		}
	case ctx.Value(behalfKey{}) != nil:
		// Another node has passed it on. That is how a leader learns of one that has
		// moved; but one that it does not reach itself gets no log, and is not Up.
		m.noteWhere(id, req.Addr)
		return connect.NewError(connect.CodeAborted, fmt.Errorf("the leader, %s, is heard through another node only; it must be reached directly", m.t.node.cfg.ID))
	}
	if no := n.Outdated(req.RunId, req.StartedUnixNs); no != "" {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New(no))
	}
	m.note(id, req)
	ctx, cancel := context.WithTimeout(ctx, absorbTimeout)
	defer cancel()
	if err := m.handedOut(ctx, req); err != nil { // also of one that leaves: it may never come again
		return err
	}
	if req.Leaving {
		_, err := m.t.propose(ctx, "node/"+req.Id, &logpb.Command{Body: &logpb.Command_NodeDown{NodeDown: &logpb.NodeDown{
			Id: req.Id, RunId: req.RunId, Reason: "it was stopped", Left: true}}})
		return err
	}
	failure := m.t.node.writtenFailure(n, req.SnapshotFailure)
	taken := int64(0)
	if s.Level >= fsm.LevelPolicy && n != nil && req.SnapshotUnixNs != n.SnapshotAt {
		taken = req.SnapshotUnixNs
	}
	if n != nil && n.State != fsm.NodeDown && n.RunID == req.RunId && n.Addr == req.Addr && n.Version == req.Version && n.SnapshotFailure == failure && taken == 0 && (n.Instance == req.Instance || s.Level < fsm.LevelJoin) {
		return nil
	}
	_, err := m.t.propose(ctx, "node/"+req.Id, &logpb.Command{Body: &logpb.Command_NodeHello{NodeHello: &logpb.NodeHello{
		Id: req.Id, Addr: req.Addr, HttpAddr: req.HttpAddr, RunId: req.RunId, Version: req.Version, FeatureLevel: req.FeatureLevel, Machine: req.Machine, StartedUnixNs: req.StartedUnixNs,
		SnapshotFailure: failure, Instance: req.Instance, SnapshotUnixNs: taken}}})
	return err
}

// handedOut notes which snapshots a node has given to operators.
func (m *members) handedOut(ctx context.Context, req *lifeboatv1.HelloRequest) error {
	for _, x := range req.HandedOut {
		if err := m.t.auditSnapshot(ctx, req.Id, x); err != nil {
			return err
		}
	}
	return nil
}

func (m *members) noteWhere(id fsm.NodeID, addr string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.where[id] = place{addr, m.t.mono()}
}

// movedTo is another address than a node's in the configuration, at which it says it
// is; "" = none.
func (m *members) movedTo(srv raft.Server) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p, ok := m.where[fsm.NodeID(srv.ID)]; ok && p.addr != string(srv.Address) && m.t.mono()-p.at < maxLag {
		return p.addr
	}
	return ""
}

// writtenFailure is what a hello in the log may say of why a node's snapshots fail. A
// member of an older version would pass over it, and its replica would lack the alert:
// before the feature level that it came with, what the log says stays as it is.
func (n *Node) writtenFailure(known *fsm.Node, failure string) string {
	switch {
	case n.fsm.State().Level >= levelNodes:
		return failure
	case known != nil:
		return known.SnapshotFailure
	}
	return ""
}

func (m *members) note(id fsm.NodeID, req *lifeboatv1.HelloRequest) {
	commit := m.t.node.raft.CommitIndex()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard[id] = m.t.mono()
	m.offset[id] = time.Duration(req.TimeUnixNs - m.t.node.clock().UnixNano())
	m.lag[id] = commit - min(commit, req.AppliedIndex)
	m.build[id] = told{req.FeatureLevel, req.Version}
	m.said[id] = saying{int(req.Agents), req.StateIndex}
	m.taken[id] = backupSaying{req.SnapshotUnixNs, req.SnapshotFailure}
	m.where[id] = place{req.Addr, m.heard[id]}
}

// lastSeen is how long ago a node was heard in this term, and how many entries it
// was behind then.
func (m *members) lastSeen(id fsm.NodeID) (ago time.Duration, lag uint64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.heard[id]
	return m.t.mono() - at, m.lag[id], ok
}

// backup is what a node said of its snapshots in this term; nothing when it has none
// and none has failed.
func (m *members) backup(id fsm.NodeID) backupSaying {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.taken[id]
}

// compareClocks asks the other nodes for the time before the first entry of the
// term, when this node's clock does not fit what the last leader committed: an
// entry from a fast clock would keep everybody with a right one from leading
// (S21). Nodes say hello ten times a second while nobody leads.
func (m *members) compareClocks(ctx context.Context) error {
	n := m.t.node
	others := n.others()
	last, s := n.raft.LastContact(), n.fsm.State()
	quiet := time.Since(last) + maxAhead + canaryStall
	if len(others) == 0 || s.Time != 0 && !last.IsZero() && time.Duration(n.clock().UnixNano()-s.Time) < quiet {
		return nil
	}
	n.listening.Store(m)
	defer n.listening.Store(nil)
	for end := m.t.mono() + clockPatience; m.t.mono() < end && m.unheard(others) > 0; {
		if !pause(ctx, 10*time.Millisecond) {
			return errOver
		}
	}
	if why := m.clock(s); why != "" {
		return fmt.Errorf("%w: %s", errTransfer, why)
	}
	return nil
}

// clockPatience is how long a new leader waits for other nodes' clocks.
const clockPatience = 1500 * time.Millisecond

func (m *members) unheard(of []fsm.NodeID) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, id := range of {
		if _, ok := m.heard[id]; !ok {
			n++
		}
	}
	return n
}

// watch marks nodes Down that are silent, moves on those that prepare for something,
// and ends the term when this node is not fit to lead.
func (m *members) watch(ctx context.Context) error {
	for pause(ctx, membersEvery) {
		s := m.t.node.fsm.State()
		for _, n := range s.Nodes() {
			quiet := m.quiet(n.ID)
			if n.State == fsm.NodeDown || n.ID == fsm.NodeID(m.t.node.cfg.ID) || quiet < s.Policy.NodeDownAfter {
				continue
			}
			_, err := m.t.propose(ctx, "", &logpb.Command{Body: &logpb.Command_NodeDown{NodeDown: &logpb.NodeDown{
				Id: string(n.ID), RunId: n.RunID, Reason: fmt.Sprintf("nothing was heard of it for %.1f s", quiet.Seconds())}}})
			var no *errRejected // the state has moved on, or its time stands still
			if err != nil && ctx.Err() == nil && !errors.As(err, &no) {
				return err
			}
		}
		if why := m.clock(s); why != "" {
			return fmt.Errorf("%w: %s", errTransfer, why)
		}
		if err := m.steer(ctx, s); err != nil {
			return err
		}
		if err := m.raise(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (m *members) quiet(id fsm.NodeID) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.t.mono() - m.heard[id]
}

// clock says why this node's clock is not fit to lead; "" = it is (S21).
func (m *members) clock(s *fsm.State) string {
	if ahead := time.Duration(s.Time - m.t.node.clock().UnixNano()); ahead > maxAhead {
		return fmt.Sprintf("this node's clock is %s behind the cluster's time; set it right", ahead.Round(time.Second))
	}
	if off := m.skew(); off > maxSkew || off < -maxSkew {
		return fmt.Sprintf("this node's clock differs by %s from most nodes'; set it right", off.Round(100*time.Millisecond))
	}
	return ""
}

// skew is the median of the other nodes' clocks against ours, ours included;
// of two middle values the smaller one counts.
func (m *members) skew() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := []time.Duration{0}
	for id, off := range m.offset {
		if id != fsm.NodeID(m.t.node.cfg.ID) {
			all = append(all, off)
		}
	}
	slices.Sort(all)
	low, high := all[(len(all)-1)/2], all[len(all)/2]
	if low.Abs() < high.Abs() {
		return low
	}
	return high
}

func (n *Node) self() fsm.NodeID { return fsm.NodeID(n.cfg.ID) }

// others are the members but this node.
func (n *Node) others() []fsm.NodeID {
	f := n.raft.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	var out []fsm.NodeID
	for _, s := range f.Configuration().Servers {
		if string(s.ID) != n.cfg.ID {
			out = append(out, fsm.NodeID(s.ID))
		}
	}
	return out
}

// isMember reports whether a node is in the raft configuration.
func (n *Node) isMember(id fsm.NodeID) bool {
	f := n.raft.GetConfiguration()
	if f.Error() != nil {
		return false
	}
	for _, s := range f.Configuration().Servers {
		if fsm.NodeID(s.ID) == id {
			return true
		}
	}
	return false
}
