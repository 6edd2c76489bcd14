package fsm

import "fmt"

// NodeState is the state of a management node. Names are CloudStack's.
type NodeState uint8

const (
	NodeUp NodeState = iota + 1
	NodeDown
	NodePreparingForMaintenance
	NodeMaintenance
	NodePreparingForShutDown
	NodeReadyToShutDown
	NodeShuttingDown
)

func (s NodeState) String() string {
	return name(int(s), "", "Up", "Down", "PreparingForMaintenance", "Maintenance",
		"PreparingForShutDown", "ReadyToShutDown", "ShuttingDown")
}

// Node is a management node as the log knows it. It becomes Down by the
// committed raft configuration (it left) or by the leader's word (it stopped
// or crashed), whatever state it was in; a restart is a new RunID.
type Node struct {
	ID       NodeID
	Addr     string // raft and API, mTLS
	HTTPAddr string // health and metrics
	RunID    string
	Version  string
	Level    uint32
	Machine  HostID // host that shares this machine, if any
	Started  int64  // unix ns by the node's clock: when this run began; 0 = not said
	State    NodeState
	Reason   string
	Left     bool   // this run was stopped: it says nothing any more
	Going    Going  // why it is to be taken out of the cluster, or was
	Since    int64  // unix ns of the last change of state
	Index    uint64 // log index of that change
	Until    int64  // unix ns when the state ends by itself; 0 = it does not
	For      int64  // ns that the maintenance lasts for which it prepares; 0 = until it is ended
	// SnapshotFailure is why it takes no snapshots by itself although it should.
	SnapshotFailure string
	// SnapshotAt is when it took its newest snapshot by itself, unix ns; from level 4 on.
	SnapshotAt int64
	Invited    bool // admitted by a token, and not a member yet
	// Instance is of its data directory: another one is another machine, or this one
	// without what it had. "" = not known.
	Instance string
	// Begun is the event that began its maintenance or shutdown, the newest; from
	// level 4 on.
	Begun EventID
}

// Going is why a node is no member any more, or will soon not be one.
type Going uint8

const (
	GoingLeave  Going = iota + 1 // it leaves for good
	GoingRemove                  // it is removed, whatever it is doing
)

func (g Going) String() string {
	return name(int(g), "", "it has left the cluster", "it was removed from the cluster")
}

// Gone reports whether a node was taken out of the cluster: nobody misses it.
func (n *Node) Gone() bool {
	return n != nil && n.Going != 0 && n.State == NodeDown && n.Left && n.Reason == n.Going.String()
}

// Stranger says why the one who calls itself this node is not the one that the
// cluster knows; "" = it is. With another data directory it could vote twice in a
// term, and forget what the other has acknowledged.
func (n *Node) Stranger(instance string) string {
	if n == nil || n.Invited || n.Gone() || n.Instance == "" || instance == "" || instance == n.Instance {
		return ""
	}
	return fmt.Sprintf("the cluster knows node %s with another data directory (%s, this one is %s): stop it, and if the other one is lost let it take its place with `lifeboat server join` and a token made by `lifeboat token create server --name %s`", n.ID, n.Instance, instance, n.ID)
}

// Outdated says why a hello of a run is not about what is now; "" = it is. It came
// late: a newer run is there, or this one has been stopped. Once the newer one is
// Down an older is taken for what it says, or a node whose clock was set back
// before a restart would never be Up again.
func (n *Node) Outdated(run string, started int64) string {
	switch {
	case n == nil:
	case run == n.RunID && n.Left:
		return fmt.Sprintf("this run of management node %s has been stopped", n.ID)
	case run != n.RunID && n.State != NodeDown && started != 0 && started < n.Started:
		return fmt.Sprintf("a newer run of management node %s is running; if it is not, this one is taken after node_down_after", n.ID)
	}
	return ""
}

// name picks the i-th of names; used by the String methods of this package.
func name(i int, names ...string) string {
	if i < 0 || i >= len(names) {
		return "invalid"
	}
	return names[i]
}
