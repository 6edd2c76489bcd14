package fsm

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
	State    NodeState
	Reason   string
	Since    int64  // unix ns of the last change of state
	Index    uint64 // log index of that change
}

// name picks the i-th of names; used by the String methods of this package.
func name(i int, names ...string) string {
	if i < 0 || i >= len(names) {
		return "invalid"
	}
	return names[i]
}
