package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"lifeboat/fsm"
	"lifeboat/fsm/raftfsm"
)

// Recovery is what a recovery makes of a node's data.
type Recovery struct {
	Node       string   `json:"node"`
	ClusterID  string   `json:"cluster_id"`
	Index      uint64   `json:"index"` // of the newest entry that this node has
	Term       uint64   `json:"term"`
	Time       string   `json:"time"`       // of the state
	Clock      string   `json:"clock"`      // of this node: the time of the state from now on, unless that is ahead
	Generation uint32   `json:"generation"` // from now on
	Hosts      int      `json:"hosts"`
	VMs        int      `json:"vms"`
	OpenWork   int      `json:"work_dropped"`
	Members    []string `json:"members"` // from now on
	Lost       []string `json:"lost"`    // members until now
}

// recoverGap lies between the newest entry here and the recovered state: what the
// lost nodes may have told anybody is of an earlier index.
const recoverGap = 1 << 24

// Recover makes the nodes in peers (id → address) the whole cluster, from the data
// directory of one of them, which does not run. The state wakes disarmed, in a new
// generation (S1, S22). Everything is checked, then ok is asked, and only when it
// returns nil is anything changed; its error is returned as it is. acceptTime: also
// when this node's clock is more than an hour ahead of the state (S21).
func Recover(cfg Config, peers map[string]string, acceptTime bool, log hclog.Logger, ok func(Recovery) error) (Recovery, error) {
	if err := cfg.survives(peers); err != nil {
		return Recovery{}, err
	}
	// Opening would make what is not there.
	if _, err := os.Stat(filepath.Join(cfg.DataDir, "raft.db")); err != nil {
		return Recovery{}, fmt.Errorf("there is nothing to recover in data_dir %s: %w", cfg.DataDir, err)
	}
	if err := preflight(cfg.DataDir, FeatureLevel); err != nil {
		return Recovery{}, err
	}
	store, err := openStorage(cfg.DataDir, log)
	if err != nil {
		return Recovery{}, err
	}
	r := &recovery{FSM: raftfsm.New(), store: store, cfg: cfg, peers: peers, accept: acceptTime, ok: ok}
	_, trans := raft.NewInmemTransport(raft.ServerAddress(cfg.Advertise))
	err = raft.RecoverCluster(cfg.raft(log.Named("raft")), r, store.logs, store.stable, &leap{store.snapshots}, trans, configuration(peers))
	if r.refused != nil {
		err = r.refused // the library drops its type
	} else if err != nil {
		err = fmt.Errorf("recover from data_dir %s: %w", cfg.DataDir, err)
	}
	return r.plan, errors.Join(err, store.Close())
}

// recovery is the state machine that the library fills with what is on the disk.
type recovery struct {
	*raftfsm.FSM
	store *storage
	cfg   Config
	peers map[string]string
	// accept: the clock of this node is right, whatever the state says.
	accept bool
	ok     func(Recovery) error

	plan    Recovery
	refused error
}

// Snapshot is called when all has been read and nothing written yet. It hands out the
// state that wakes instead of the one that was read.
func (r *recovery) Snapshot() (raft.FSMSnapshot, error) {
	next, err := r.wake()
	if err == nil {
		err = r.ok(r.plan)
	}
	if err != nil {
		r.refused = err
		return nil, err
	}
	awake := raftfsm.New()
	if err := awake.Restore(io.NopCloser(bytes.NewReader(next))); err != nil {
		return nil, err
	}
	return awake.Snapshot()
}

// wake is the state that wakes, as it is written.
func (r *recovery) wake() ([]byte, error) {
	if err := r.Err(); err != nil {
		return nil, err
	}
	s := r.State()
	if s.ClusterID == "" {
		return nil, fmt.Errorf("data_dir %s holds the log of a cluster that was never founded; there is nothing to recover", r.cfg.DataDir)
	}
	if s.Generation >= fsm.MaxGeneration {
		return nil, fmt.Errorf("the cluster has been restored %d times; there is no further generation", s.Generation)
	}
	now := time.Now()
	if ahead := now.UnixNano() - s.Time; ahead > fsm.MaxClockStep && !r.accept {
		return nil, fmt.Errorf("this node's clock says %s, which is %s ahead of what it has; if the clock is right and the cluster was down for that long, add --accept-time: deadlines that lie in between have passed then", stamp(now.UnixNano()), time.Duration(ahead).Round(time.Second))
	}
	last, err := r.store.last()
	if err != nil {
		return nil, err
	}
	r.plan = Recovery{Node: r.cfg.ID, ClusterID: s.ClusterID, Index: last.index, Term: last.term, Time: stamp(s.Time), Clock: stamp(now.UnixNano()),
		VMs: s.CountVMs(), OpenWork: s.CountOpenWork(), Members: sortedKeys(r.peers)}
	for _, h := range s.Hosts() {
		if h.Status != fsm.Removed {
			r.plan.Hosts++
		}
	}
	members := []fsm.NodeID{}
	for _, id := range r.plan.Members {
		members = append(members, fsm.NodeID(id))
	}
	for id, n := range s.Nodes() {
		if _, stays := r.peers[string(id)]; !stays && !n.Gone() {
			r.plan.Lost = append(r.plan.Lost, string(id))
		}
	}
	next := s.Wake(s, fsm.Waking{Index: last.index + recoverGap, Term: last.term, Now: now.UnixNano(), Actor: "node/" + r.cfg.ID,
		From: fmt.Sprintf(" from what node %s had, after the quorum was lost", r.cfg.ID), Members: members})
	r.plan.Generation = next.Generation
	return checked(next)
}

// stamp is a time, unix ns, for people.
func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339) }

// leap puts the snapshot of a recovery at the index of the state that wakes.
type leap struct{ raft.SnapshotStore }

// Create implements raft.SnapshotStore.
func (l *leap) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, at uint64, t raft.Transport) (raft.SnapshotSink, error) {
	return l.SnapshotStore.Create(v, index+recoverGap, term, c, at, t)
}

// last is the newest position in a log, or in the newest snapshot.
func (s *storage) last() (p position, err error) {
	list, err := s.snapshots.List()
	if err != nil {
		return p, fmt.Errorf("list snapshots: %w", err)
	}
	for _, m := range list {
		if m.Index > p.index {
			p = position{m.Index, m.Term}
		}
	}
	index, err := s.logs.LastIndex()
	if err != nil || index <= p.index {
		return p, err
	}
	var e raft.Log
	if err := s.logs.GetLog(index, &e); err != nil {
		return p, fmt.Errorf("read the newest entry: %w", err)
	}
	return position{e.Index, e.Term}, nil
}

// ReadPeers reads the file that names the nodes of a recovered cluster, as
// initial_cluster does: one "id: host:port" in a line.
func ReadPeers(path string) (map[string]string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the peers: %w", err)
	}
	var peers map[string]string
	if err := yaml.Unmarshal(raw, &peers); err != nil {
		return nil, fmt.Errorf("%s: %s", path, oneLine(yaml.FormatError(err, false, false)))
	}
	if len(peers) == 0 {
		return nil, fmt.Errorf("%s: it names no node; write one \"id: host:port\" in a line, for example n3: 10.0.0.3:7400", path)
	}
	return peers, nil
}

// survives says why a node cannot be recovered into a cluster of peers.
func (c *Config) survives(peers map[string]string) error {
	seen := map[string]string{}
	for _, id := range sortedKeys(peers) {
		addr := peers[id]
		if !hostPort(addr) {
			return fmt.Errorf("peers: %s: %q is not host:port", id, addr)
		}
		if other, twice := seen[addr]; twice {
			return fmt.Errorf("peers: %s and %s have the same address %s", other, id, addr)
		}
		seen[addr] = id
	}
	switch addr, in := peers[c.ID]; {
	case !in:
		return fmt.Errorf("peers: they are %s, and this node, %s, is not among them; recover on a node that stays", strings.Join(sortedKeys(peers), ", "), c.ID)
	case addr != c.Advertise:
		return fmt.Errorf("peers: they say that %s is at %s, its configuration says %s", c.ID, addr, c.Advertise)
	}
	return nil
}
