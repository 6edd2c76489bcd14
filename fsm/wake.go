package fsm

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Waking says how a snapshot is brought back.
type Waking struct {
	Index uint64 // of the log at which it becomes the state, not below the snapshot's
	Term  uint64
	Now   int64  // unix ns
	Actor string // who restores it
	From  string // where it comes from, for people
	// Members are the management nodes from now on, when those that are missing
	// from them are lost for ever; nil = they are as they were.
	Members []NodeID
	// DropCA: the CA of the snapshot is of no use here. One that is known now stays.
	DropCA bool
}

// MaxGeneration is the last cluster generation that an incarnation can hold.
const MaxGeneration = 1<<(64-incarnationCounterBits) - 1

const (
	// levelWaking is the feature level that knows a state that wakes: an older build
	// would read it as an ordinary one.
	levelWaking = 2
	// seqLeap is more ids than were given by those of whom neither state knows: no id
	// is given twice.
	seqLeap = 1 << 24
)

// generationAt is the least generation of a state that wakes at a time: the minutes
// since 2020. Two states that know nothing of one another are restored from one, and
// each would be the next generation of it; an agent must not hold an incarnation of
// one as if the other had granted it (S1). 0 where the clock says nothing of use.
func generationAt(now int64) uint32 {
	const begin = 1_577_836_800 // unix time of 2020-01-01
	if m := (now/int64(time.Second) - begin) / 60; m > 0 && m < MaxGeneration {
		return uint32(m)
	}
	return 0
}

// Wake makes of a snapshot s the state that replaces now (S1, S22). It promises
// nothing to anybody: HA is disarmed, the cluster generation is above both, open
// work, orders, leases, copies and fence attempts are dropped, every host must
// register again, and where a VM runs is not known before a host says so. What
// now says about the management nodes, and which hosts there are, holds. Neither
// s nor now is changed.
func (s *State) Wake(now *State, w Waking) *State {
	n := s.clone()
	n.Index, n.Term = max(w.Index, s.Index, now.Index), w.Term
	n.Time = max(s.Time, now.Time, w.Now)
	n.Generation = max(s.Generation, now.Generation) + 1
	n.Generation = max(n.Generation, generationAt(w.Now))
	n.Level = max(s.Level, now.Level, levelWaking)
	if now.Level > s.Level {
		n.LevelVersion = now.LevelVersion
	}
	if now.ClusterID != "" {
		n.ClusterID = now.ClusterID
	}
	n.Armed, n.Waking, n.ArmedIndex, n.Digest = false, true, n.Index, DigestAt{}
	n.Ignoring, n.ArmedAt = false, 0
	n.seq = max(s.seq, now.seq)
	if w.Members != nil || s.ClusterID != now.ClusterID {
		n.seq += seqLeap
	}
	n.brakes = newTable[string, Brake](less[string])
	n.tokens = newTable[string, *Token](less[string]) // one that was used since would be good again
	if now.CA != nil || w.DropCA {
		n.CA = now.CA // it has signed what the nodes show one another
	}
	policy := *n.Policy
	if policy.UnknownOperator = now.Policy.UnknownOperator; s.ClusterID == now.ClusterID {
		policy.UnknownOperator = min(s.Policy.UnknownOperator, now.Policy.UnknownOperator)
	}
	n.Policy = &policy
	for name, o := range now.Operators() {
		n.operators.set(name, o) // nobody gets back what was taken away since
	}
	// A request that was answered is not done again because what it did is undone.
	n.requests, n.asked = newTable[uint64, *Request](less[uint64]), newTable[requestKey, uint64](lessRequest)
	for index, r := range now.Requests() {
		n.requests.set(index, r)
		n.asked.set(requestKey{r.Actor, r.ID}, index)
	}
	billed := now.usage.outlives(&s.usage)
	if billed {
		n.usage = now.usage.clone() // what was billed since is not unsaid
	}
	n.nodes = newTable[NodeID, *Node](less[NodeID])
	for id, x := range now.Nodes() {
		n.nodes.set(id, x)
	}
	t := &tx{s: n, now: n.Time, index: n.Index, actor: w.Actor}
	what := "CLUSTER.RESTORE"
	if w.Members != nil {
		what = "CLUSTER.RECOVER"
	}
	t.event(what, Critical, "cluster", "the state of log index %d (%s) was restored%s: cluster generation %d, HA is disarmed until `lifeboat ha arm`", s.Index, clock(s.Time), w.From, n.Generation)
	t.forgetAlerts()
	if billed && n.Level >= LevelPolicy {
		t.wakeUsageAlerts(now)
	}
	if w.Members != nil {
		t.loseNodes(w.Members)
	}
	for _, h := range s.Hosts() {
		t.wakeHost(h, now.Host(h.ID))
	}
	for id, h := range now.Hosts() {
		if was := n.Host(id); h.Status != Removed && (was == nil || was.Status == Removed) {
			again := &Host{ID: id, Resource: h.Resource, Fence: h.Fence, Inventory: h.Inventory, Labels: h.Labels}
			if was != nil {
				again.Epoch = was.Epoch
			}
			t.wakeHost(again, h)
		}
	}
	for _, x := range n.Nodes() {
		if x.Gone() {
			continue
		}
		if x.State == NodeDown && !x.Invited {
			t.missNode(x, Critical)
		}
		t.missSnapshots(x)
	}
	return n
}

// loseNodes takes out every node but those that stay.
func (t *tx) loseNodes(stay []NodeID) {
	for id, x := range t.s.Nodes() {
		if !slices.Contains(stay, id) {
			lost := *x
			lost.Going = GoingRemove
			t.s.nodes.set(id, &lost)
			t.nodeGone(&lost)
		}
	}
}

// awaitsHost is why a host is Disconnected after a restore.
const awaitsHost = "the state was restored: the host has not registered since"

// wakeHost stores what is left of a host: its VMs, its settings, and an epoch that
// no agent is in. is: what was known of it until now, nil when it was not.
func (t *tx) wakeHost(was, is *Host) {
	h := edit(was)
	if is != nil {
		h.Epoch = max(was.Epoch, is.Epoch)
		h.Barred = was.Barred || is.Unwanted() != "" // its VMs count, and nobody wanted it any more
		if is.Status != Removed {
			h.MachineID, h.HardwareID, h.Watchdog, h.BoundNS, h.ProbeAddrs = is.MachineID, is.HardwareID, is.Watchdog, is.BoundNS, is.ProbeAddrs
		}
	}
	h.Epoch++
	h.Seq, h.Session, h.Assigned, h.Settled = 0, "", t.index, t.index
	h.Lease, h.Orders, h.Copies, h.Evidence, h.Attempt, h.FenceFailure, h.Proof = nil, nil, nil, nil, nil, "", nil
	h.DownAt, h.DownIndex, h.Silent, h.Risen, h.Evicted, h.Stalled = 0, 0, t.now, 0, false, false
	h.Stopping, h.Held, h.Heeds, h.Expects = 0, 0, 0, 0
	if was.Status == Removed {
		h.Silent = 0
		t.setHost(h)
		return
	}
	// Without a boot id its next registration is no proof that what the snapshot
	// says of its VMs has ended: they may have moved since (S9).
	h.BootID = ""
	t.hostState(h, Disconnected, HAAvailable, awaitsHost)
	h.Since = t.now
	h.VMs = slices.Clone(was.VMs)
	for i := range h.VMs {
		t.wakeVM(&h.VMs[i])
	}
	t.setHost(h)
}

// wakeVM forgets what was true of a VM: nobody has seen it. Its incarnation stays
// as it is: what a host holds of it by now is newer, and counts (S22).
func (t *tx) wakeVM(v *VM) {
	if w := t.s.Work(v.Work); w != nil {
		t.endWork(v, w, Cancelled, "dropped: the state was restored")
	}
	v.Reason, v.Gone = ReasonNone, false
	if v.Incarnation == 0 {
		v.Power = PowerUnknown
		return
	}
	v.Power = PowerReportMissing
}

// forgetAlerts closes the alerts that are about hosts, nodes and copies as they
// were. What is still so is found out anew.
func (t *tx) forgetAlerts() {
	var keys []AlertKey
	for k := range t.s.raised.all() {
		var drop bool
		switch k.Type {
		case AlertNode, AlertBrake:
			drop = true
		case AlertHost:
			drop = !strings.HasPrefix(k.Cause, unreadable) // the inventory stays, and so does what it lacks
		case AlertFence:
			drop = k.Cause == "failed"
		case AlertVM:
			drop = k.Cause == "stopping" || strings.HasPrefix(k.Cause, duplicateOn) || strings.HasPrefix(k.Cause, sameUUIDOn)
		}
		if drop {
			keys = append(keys, k)
		}
	}
	for _, k := range keys {
		t.resolve(k, "the state was restored")
	}
}

// wakeUsageAlerts makes the alerts about usage those of the state that the usage is of.
// What was raised from outside is not about that.
func (t *tx) wakeUsageAlerts(now *State) {
	about := func(s *State) (keys []AlertKey) {
		for k := range s.raised.all() {
			if k.Type == AlertUsage && !strings.HasPrefix(k.Cause, External) {
				keys = append(keys, k)
			}
		}
		return keys
	}
	for _, k := range about(t.s) {
		if now.OpenAlert(k) == nil {
			t.resolve(k, "it was over before the state was restored, and usage is as it was then")
		}
	}
	for _, k := range about(now) {
		if t.s.OpenAlert(k) == nil {
			a := now.OpenAlert(k)
			t.raise(k, a.Severity, "%s", a.Text)
		}
	}
}

// Awaited are the hosts that have not registered since a restore and are not
// proven dead; none when the state was not restored, or was armed since.
func (s *State) Awaited() (hosts []HostID) {
	if !s.Waking {
		return nil
	}
	for id, h := range s.Hosts() {
		if h.Status != Up && h.Status != Removed && h.HA != HAFenced {
			hosts = append(hosts, id)
		}
	}
	return hosts
}

// maxAwaited hosts are named in a refusal.
const maxAwaited = 8

// awaitedText says which hosts have not registered since a restore; "" when all
// have.
func (s *State) awaitedText() string {
	hosts := s.Awaited()
	if len(hosts) == 0 {
		return ""
	}
	list := names(hosts)
	if more := len(list) - maxAwaited; more > 0 {
		list = append(list[:maxAwaited], fmt.Sprintf("%d more", more))
	}
	return strings.Join(list, ", ")
}

// awake ends the waking: what no host has shown is looked for on all of them
// before it is started anywhere (S18, S22).
func (t *tx) awake() {
	t.s.Waking = false
	for _, old := range t.s.Hosts() {
		var vms []VM
		for i := range old.VMs {
			v := old.VMs[i]
			if !v.Protected() || !v.Wanted || v.Error != "" || v.Work != 0 || !v.LostSight() {
				continue
			}
			if vms == nil {
				vms = slices.Clone(old.VMs)
			}
			t.openWork(&v, WorkHA, Investigating, CauseMissing, old.ID, "no host has shown it since the state was restored; every host is asked where it is")
			vms[i] = v
		}
		if vms != nil {
			h := edit(old)
			h.VMs = vms
			t.setHost(h)
		}
	}
}

// ahead reports whether the owner holds a newer incarnation of a VM than the
// state: it was granted after the snapshot that the state was restored from. It
// counts where the VM is seen to run, and while nothing is started also where it
// is seen to be off (S22).
func (s *State) ahead(v *VM, e *vmEntry) bool {
	if v.Incarnation == 0 || e.inc <= v.Incarnation || e.refused >= e.inc || e.inc.Generation() >= s.Generation || !v.LostSight() {
		return false
	}
	if w := s.Work(v.Work); w != nil && w.Step != Investigating {
		return false
	}
	return e.power == PowerOn || e.power == PowerOff && s.Waking
}
