package fsm

import (
	"fmt"
	"slices"

	"lifeboat/fsm/logpb"
)

func (t *tx) clusterInit(c *logpb.ClusterInit) string {
	if c.ClusterId == "" {
		return "a cluster cannot be created without an id"
	}
	if t.s.ClusterID != "" {
		return fmt.Sprintf("the cluster already has the id %s", t.s.ClusterID)
	}
	t.s.ClusterID, t.s.Level = c.ClusterId, c.FeatureLevel
	if t.s.Level >= levelRaise {
		t.s.LevelVersion = c.Version
	}
	t.event("CLUSTER.CREATE", Info, "cluster", "cluster %s was created", c.ClusterId)
	return ""
}

// nodeHello marks a management node Up that was Down. A new run id of a node that
// was never seen to stop is both: it left and it joined, from whatever state. One of
// an older run changes nothing; one of the same run leaves the state as it is.
func (t *tx) nodeHello(c *logpb.NodeHello) string {
	if c.Id == "" {
		return "a management node without an id cannot join"
	}
	id := NodeID(c.Id)
	old := t.s.Node(id)
	if no := old.Outdated(c.RunId, c.StartedUnixNs); no != "" {
		return no
	}
	if no := old.Stranger(c.Instance); no != "" {
		return no
	}
	if old != nil && old.State != NodeDown && old.RunID != c.RunId {
		t.nodeDown(old, "restarted before it was missed", Warning)
		old = t.s.Node(id)
	}
	n := &Node{ID: id, Addr: c.Addr, HTTPAddr: c.HttpAddr, RunID: c.RunId, Version: c.Version,
		Level: c.FeatureLevel, Machine: HostID(c.Machine), Started: c.StartedUnixNs, State: NodeUp, Since: t.now, Index: t.index, SnapshotFailure: c.SnapshotFailure}
	if t.s.Level >= LevelJoin {
		n.Instance = c.Instance
	}
	if old != nil && old.State != NodeDown {
		n.State, n.Reason, n.Since, n.Index, n.Until, n.For = old.State, old.Reason, old.Since, old.Index, old.Until, old.For
	} else {
		t.event("NODE.UP", Info, "node "+c.Id, "management node %s is Up (version %s, run %s)", c.Id, c.Version, c.RunId)
		t.resolve(AlertKey{AlertNode, c.Id, "down"}, "management node %s is back", c.Id)
	}
	t.snapshotTaken(old, n, c.SnapshotUnixNs)
	t.s.nodes.set(id, n)
	if old == nil || old.SnapshotFailure != n.SnapshotFailure {
		t.missSnapshots(n)
	}
	return ""
}

// missSnapshots raises or resolves the alert for a node whose own snapshots fail.
func (t *tx) missSnapshots(n *Node) {
	key := AlertKey{AlertNode, string(n.ID), "snapshot"}
	if n.SnapshotFailure == "" {
		t.resolve(key, "management node %s takes snapshots again, or is not to take any", n.ID)
		return
	}
	t.raise(key, Warning, "Management node %s takes no snapshots: %s. It tries again every few minutes, and this resolves by itself when one succeeds.", n.ID, n.SnapshotFailure)
}

func (t *tx) nodeDownCommand(c *logpb.NodeDown) string {
	n := t.s.Node(NodeID(c.Id))
	if n == nil || n.State == NodeDown || n.RunID != c.RunId {
		return "" // late or repeated
	}
	sev := Critical
	if c.Left {
		sev = Warning
	}
	t.nodeDown(n, c.Reason, sev)
	if c.Left {
		gone := *t.s.Node(n.ID)
		gone.Left = true
		t.s.nodes.set(gone.ID, &gone)
	}
	return ""
}

// nodeDown marks a node Down from whatever state it is in.
func (t *tx) nodeDown(old *Node, reason string, sev Severity) {
	n := *old
	n.State, n.Reason, n.Since, n.Index, n.Until, n.For = NodeDown, reason, t.now, t.index, 0, 0
	t.s.nodes.set(n.ID, &n)
	t.event("NODE.DOWN", sev, "node "+string(n.ID), "management node %s is Down: %s (was %s)", n.ID, reason, old.State)
	t.missNode(&n, sev)
}

// missNode raises the alert for a node that is Down.
func (t *tx) missNode(n *Node, sev Severity) {
	t.raise(AlertKey{AlertNode, string(n.ID), "down"}, sev, "Management node %s is Down: %s. It resolves by itself when the node is back; `lifeboat node remove %s` takes it out of the cluster.", n.ID, n.Reason, n.ID)
}

// nodeControl notes what an operator wants of a node, before the configuration of
// Raft changes: that entry names nobody who asked, and no reason.
func (t *tx) nodeControl(c *logpb.NodeControl) string {
	going := Going(c.Action)
	switch going {
	case GoingLeave:
		t.event("NODE.LEAVE", Warning, "node "+c.Id, "management node %s is to leave the cluster for good", c.Id)
	case GoingRemove:
		t.event("NODE.REMOVE", Warning, "node "+c.Id, "management node %s is to be removed from the cluster", c.Id)
	default:
		return "a management node can leave or be removed"
	}
	if old := t.s.Node(NodeID(c.Id)); old != nil {
		n := *old
		n.Going = going
		t.s.nodes.set(n.ID, &n)
		if n.Invited {
			t.nodeGone(&n) // it never came: no configuration will say that it is gone
		}
	}
	return ""
}

// nodeGone marks a node that was to go and is no member any more. Nobody has to
// do anything about it: its alert does not stay open.
func (t *tx) nodeGone(n *Node) {
	if n.Gone() {
		return // a later configuration
	}
	if n.State != NodeDown {
		t.nodeDown(n, n.Going.String(), Warning)
	}
	gone := *t.s.Node(n.ID)
	t.dropTokens(MemberNode, string(n.ID))
	gone.Left, gone.Invited, gone.Reason = true, false, n.Going.String()
	t.s.nodes.set(gone.ID, &gone)
	for _, cause := range []string{"down", "snapshot"} {
		t.resolve(AlertKey{AlertNode, string(n.ID), cause}, "%s: %s", n.ID, gone.Reason)
	}
}

func (t *tx) policySet(c *logpb.PolicySet) string {
	var settings []Setting
	for _, s := range c.Settings {
		settings = append(settings, Setting{s.Key, s.Value})
	}
	for _, k := range PolicySettings() {
		if no := t.later(k.Level); no != "" && slices.ContainsFunc(settings, func(s Setting) bool { return s.Key == k.Key }) {
			return k.Key + ": " + no
		}
	}
	for _, s := range settings {
		if no := t.later(LevelPolicy); no != "" && s.Key == "placement" && s.Value == PlaceLoad {
			return "placement: load: " + no
		}
	}
	p, err := t.s.Policy.With(settings)
	if err != nil {
		return err.Error()
	}
	if p.UnknownOperator != t.s.Policy.UnknownOperator {
		if no := t.s.lockout(p.UnknownOperator, "", RoleNone); no != "" {
			return "unknown_operator: " + no
		}
	}
	old := t.s.Policy
	t.s.Policy = p
	if old.Lease != p.Lease || old.WatchdogBound != p.WatchdogBound || old.AcceptSoft != p.AcceptSoft {
		t.s.ArmedIndex = t.index
	}
	for _, k := range PolicySettings() {
		if a, b := k.Get(old), k.Get(p); a != b {
			t.event("POLICY.SET", Info, "policy", "%s: %s → %s", k.Key, a, b)
		}
	}
	return ""
}

// arm switches HA on or off. Disarming withdraws every lease in the same
// entry: from here on none is proof (S12).
func (t *tx) arm(c *logpb.Arm) string {
	if c.Ignore {
		if no := t.later(LevelPolicy); no != "" {
			return no
		}
	}
	switch ignore := c.Ignore && !c.Armed; {
	case t.s.Armed != c.Armed:
	case !c.Armed && t.s.Ignoring != ignore:
		return "HA is disarmed in the other way already; run `lifeboat ha arm` first"
	default:
		return ""
	}
	if wait := t.s.awaitedText(); wait != "" && !c.Force {
		return fmt.Sprintf("the state was restored, and these hosts have not registered since, or are silent again: %s. Their VMs may run where the state does not know it. Start their agents, remove them, or vouch for their death with `lifeboat host confirm-dead HOST`; `lifeboat ha arm --force` goes on without them", wait)
	}
	t.s.Armed, t.s.ArmedIndex = c.Armed, t.index
	if t.s.Level >= LevelPolicy {
		t.s.ArmedAt = t.now
	}
	if c.Armed {
		if t.s.Ignoring {
			t.manageAgain()
		}
		if t.s.Waking {
			t.awake()
		}
		t.toldAnew()
		t.event("HA.ARM", Info, "cluster", "HA was armed")
		return ""
	}
	for _, h := range t.s.Hosts() {
		if h.Lease != nil {
			n := *h
			n.Lease = nil
			t.setHost(&n)
		}
	}
	if c.Ignore {
		t.s.Ignoring = true
		t.event("HA.DISARM", Warning, "cluster", "HA was disarmed: until it is armed again nothing is restarted or fenced, and what happens to VMs is nobody's business, as if they were not managed")
		return ""
	}
	t.event("HA.DISARM", Warning, "cluster", "HA was disarmed: nothing is restarted or fenced until it is armed again")
	return ""
}

func (t *tx) alertUpdate(c *logpb.AlertUpdate) string {
	a := t.s.Alert(AlertID(c.Id))
	if a == nil {
		return fmt.Sprintf("there is no alert %d; `lifeboat alert list` shows the open ones", c.Id)
	}
	switch {
	case t.s.Level >= LevelPolicy && (c.Action == alertAck || c.Action == alertResolve):
		t.controlAlerts(c.Action, []*AlertRecord{a})
		return ""
	}
	switch c.Action {
	case 1:
		if a.State != AlertOpen {
			return ""
		}
		n := *a
		n.State = AlertAcknowledged
		t.setAlert(&n)
		t.event("ALERT.ACKNOWLEDGE", Info, subjectOf(a.Key, a.About()), "acknowledged: %s", a.Text)
	case 2:
		if a.State == AlertResolved {
			return ""
		}
		t.resolve(a.Key, "resolved by %s", t.actor)
	default:
		return "an alert can be acknowledged or resolved"
	}
	return ""
}
