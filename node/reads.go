package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/ha"
)

func notFound(format string, args ...any) error {
	return connect.NewError(connect.CodeNotFound, fmt.Errorf(format, args...))
}

// findVM finds a VM by name or UUID.
func findVM(s *fsm.State, which string) (*fsm.VM, *fsm.Host, error) {
	if id, err := fsm.ParseVMID(strings.ToLower(which)); err == nil {
		if v, h := s.VM(id); v != nil {
			return v, h, nil
		}
	}
	var v *fsm.VM
	var on *fsm.Host
	for _, h := range s.Hosts() {
		for i := range h.VMs {
			x := &h.VMs[i]
			if x.Name != which {
				continue
			}
			if v != nil {
				return nil, nil, connect.NewError(connect.CodeFailedPrecondition,
					fmt.Errorf("more than one VM is called %s (on hosts %s and %s); give its UUID", which, on.ID, h.ID))
			}
			v, on = x, h
		}
	}
	if v == nil {
		return nil, nil, notFound("there is no VM %s; `lifeboat vm list` shows them", which)
	}
	return v, on, nil
}

func (n *Node) readStatus(t *term, ctx context.Context, q *lifeboatv1.StatusRequest) (*lifeboatv1.StatusResponse, error) {
	s := n.fsm.State()
	addr, leader := n.raft.LeaderWithID()
	r := &lifeboatv1.StatusResponse{
		NodeId: n.cfg.ID, LeaderId: string(leader), LeaderAddr: string(addr), Term: n.raft.CurrentTerm(), AppliedIndex: s.Index,
		CommitIndex: n.raft.CommitIndex(), ClusterId: s.ClusterID, Armed: s.Armed, Hosts: uint32(s.CountHosts()), Vms: uint32(s.CountVMs()),
		WorkOpen: uint32(s.CountOpenWork()), AlertsOpen: uint32(s.CountOpenAlerts()), Version: n.deps.Version,
		State: strings.ToLower(n.raft.State().String()), LastContactMs: n.lastContact(), FeatureLevel: s.Level, NewestLevel: n.level(),
	}
	r.FeatureLevel, r.NewestLevel = s.Level, FeatureLevel
	notifyStatus(s, r)
	if d := s.Digest; d.Index > 0 {
		r.Digests = []*lifeboatv1.DigestAt{{Index: d.Index, Digest: fmt.Sprintf("%016x", d.Sum)}}
		r.Digest = fmt.Sprintf("%016x", d.Sum)
	}
	for _, h := range s.Hosts() {
		if h.Status == fsm.Up {
			r.HostsUp++
		}
		if h.Status == fsm.Removed {
			r.Hosts--
		}
		for i := range h.VMs {
			v := &h.VMs[i]
			if v.Protected() {
				r.VmsProtected++
				if v.Power == fsm.PowerOn {
					r.VmsRunning++
				}
			}
		}
		r.Notes = append(r.Notes, hostNotes(s, h)...)
	}
	if behind := n.clock().UnixNano() - s.Time; s.Time != 0 && behind > int64(fsm.MaxClockStep) {
		r.Notes = append(r.Notes, fmt.Sprintf("the cluster's time stands still at %s, so nothing is decided: it was off for long, or this node's clock is wrong; if the clocks are right, run `lifeboat ha accept-time`",
			time.Unix(0, s.Time).UTC().Format(time.RFC3339)))
	}
	if s.Waking {
		note := "the state was restored, and HA is disarmed: nothing is started, stopped or fenced until `lifeboat ha arm`"
		if away := s.Awaited(); len(away) > 0 {
			note += fmt.Sprintf("; %d hosts have not registered since", len(away))
		}
		r.Notes = append(r.Notes, note)
	}
	if late := s.Unheeding(); s.Level >= fsm.LevelPolicy && len(late) > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("HA is disarmed, but the agents of these hosts have not acted on it yet, and may stop VMs when their lease runs out: %s", hostList(late)))
	}
	if s.Ignoring {
		r.Notes = append(r.Notes, "HA is disarmed and ignores VMs: what runs when it is armed again is wanted on, and what does not is not")
	}
	r.Notes = append(append(append(r.Notes, n.unprovenPaths(s)...), n.absent(s)...), n.levelNotes(t, s)...)
	for domain, b := range s.Brakes() {
		r.Notes = append(r.Notes, b.Sentence(domain, s.Policy))
	}
	if q.NPlusOne {
		r.NPlusOne, r.NPlus = n.nPlusOne(ctx, s), uint32(s.Policy.N1Hosts)
	}
	return r, nil
}

func (n *Node) lastContact() int64 {
	if n.raft.State() == raft.Leader {
		return 0
	}
	last := n.raft.LastContact()
	if last.IsZero() {
		return -1
	}
	return time.Since(last).Milliseconds()
}

// hostNotes are sentences about one host that an operator should read.
func hostNotes(s *fsm.State, h *fsm.Host) []string {
	var out []string
	if h.Status == fsm.Removed {
		return nil
	}
	if !h.Fenceable(s.Policy) {
		out = append(out, fmt.Sprintf("host %s has no fence level that proves it dead: VMs there wait for an operator if it dies, and none is placed there", h.ID))
	}
	if h.Inventory != nil && h.Inventory.LibvirtGuests {
		out = append(out, fmt.Sprintf("host %s has libvirt-guests enabled, which could start VMs behind our back: none is placed there until `systemctl disable --now libvirt-guests`", h.ID))
	}
	if h.Inventory != nil {
		for _, b := range h.Inventory.Beats {
			if !b.Up {
				out = append(out, fmt.Sprintf("host %s cannot write its heartbeat into %s: nobody would see there that it lives; look at that directory on the host", h.ID, b.Path))
			}
		}
	}
	if note := ha.Staying(h); note != "" {
		out = append(out, note)
	}
	if h.Lease != nil && h.Lease.Armed {
		out = append(out, fmt.Sprintf("host %s runs under a self-fence lease: if no manager is reachable for %s, its protected VMs stop", h.ID, time.Duration(h.Lease.DurationNS)))
	}
	return out
}

// readNodes tells lag and last contact only as the leader: the others hear nobody.
func (n *Node) readNodes(t *term, _ context.Context, _ *lifeboatv1.ListNodesRequest) (*lifeboatv1.ListNodesResponse, error) {
	s := n.fsm.State()
	_, leader := n.raft.LeaderWithID()
	servers, err := n.servers()
	if err != nil {
		return nil, err
	}
	var crew ha.Crew
	if t != nil {
		crew = t.members.crew(servers)
	}
	r := &lifeboatv1.ListNodesResponse{Index: s.Index}
	seen := map[string]*lifeboatv1.NodeView{}
	for id, x := range s.Nodes() {
		v := &lifeboatv1.NodeView{Id: string(id), Addr: x.Addr, HttpAddr: x.HTTPAddr, State: x.State.String(), Version: x.Version, RunId: x.RunID,
			Machine: string(x.Machine), FeatureLevel: x.Level, SinceUnixNs: x.Since, Index: x.Index, Reason: x.Reason, SnapshotFailure: x.SnapshotFailure, Leader: string(leader) == string(id) && x.State != fsm.NodeDown}
		if x.Until != 0 {
			v.RemainingMs = max((x.Until-n.clock().UnixNano())/int64(time.Millisecond), 1)
		}
		if t != nil {
			v.Waits = ha.Waits(s, crew, x)
		}
		seen[v.Id] = v
		r.Nodes = append(r.Nodes, v)
	}
	for _, srv := range servers {
		v := seen[string(srv.ID)]
		if v == nil {
			v = &lifeboatv1.NodeView{Id: string(srv.ID), Addr: string(srv.Address), State: "Down", Reason: "it has never been up"}
			r.Nodes = append(r.Nodes, v)
		}
		v.Voter = srv.Suffrage == raft.Voter
		v.Role = "non-voter"
		if v.Voter {
			v.Role = "voter"
		}
	}
	for _, v := range r.Nodes {
		if v.Leader && v.Role != "" {
			v.Role = "leader"
		}
		if v.Role == "" {
			v.Role = goneAs(s.Node(fsm.NodeID(v.Id)))
		}
		v.LastContactMs = -1
		if t == nil {
			continue
		}
		if ago, lag, ok := t.members.lastSeen(fsm.NodeID(v.Id)); ok {
			v.LastContactMs, v.Lag = ago.Milliseconds(), lag
			b := t.members.backup(fsm.NodeID(v.Id))
			v.SnapshotUnixNs, v.SnapshotFailure = b.last, b.failure
		}
	}
	slices.SortFunc(r.Nodes, func(a, b *lifeboatv1.NodeView) int { return strings.Compare(a.Id, b.Id) })
	return r, nil
}

// goneAs is the role of a node that is no member.
func goneAs(n *fsm.Node) string {
	switch {
	case n != nil && n.Going == fsm.GoingLeave:
		return "left"
	case n != nil && n.Going == fsm.GoingRemove:
		return "removed"
	}
	return "gone"
}

func (n *Node) readHosts(t *term, _ context.Context, q *lifeboatv1.ListHostsRequest) (*lifeboatv1.ListHostsResponse, error) {
	s := n.fsm.State()
	r := &lifeboatv1.ListHostsResponse{Index: s.Index}
	for id, h := range s.Hosts() {
		if q.Id != "" && string(id) != q.Id || q.Id == "" && h.Status == fsm.Removed {
			continue
		}
		v := hostView(s, h)
		for _, l := range v.Fence {
			if l.ProvenUnixNs != 0 {
				l.ProvenAgoMs = max(n.clock().UnixNano()-l.ProvenUnixNs, 0) / int64(time.Millisecond)
			}
		}
		if t != nil {
			if quiet, ok := t.contacts.lastHeard(id, t.mono()); ok {
				v.LastContactMs = quiet.Milliseconds()
			}
		}
		r.Hosts = append(r.Hosts, v)
	}
	if q.Id != "" && len(r.Hosts) == 0 {
		return nil, notFound("there is no host %s; `lifeboat host list` shows them", q.Id)
	}
	return r, nil
}

func (n *Node) readVMs(_ *term, _ context.Context, q *lifeboatv1.ListVMsRequest) (*lifeboatv1.ListVMsResponse, error) {
	s := n.fsm.State()
	r := &lifeboatv1.ListVMsResponse{Index: s.Index}
	if q.Vm != "" {
		v, h, err := findVM(s, q.Vm)
		if err != nil {
			return nil, err
		}
		r.Vms = append(r.Vms, vmView(s, v, h))
		return r, nil
	}
	if q.Host != "" && s.Host(fsm.HostID(q.Host)) == nil {
		return nil, notFound("there is no host %s; `lifeboat host list` shows them", q.Host)
	}
	for id, h := range s.Hosts() {
		if q.Host != "" && q.Host != string(id) {
			continue
		}
		for i := range h.VMs {
			v := &h.VMs[i]
			if !q.ProtectedOnly || v.Protected() {
				r.Vms = append(r.Vms, vmView(s, v, h))
			}
		}
	}
	slices.SortStableFunc(r.Vms, func(a, b *lifeboatv1.VMView) int { return strings.Compare(a.Name, b.Name) })
	return r, nil
}

func (n *Node) readWork(_ *term, _ context.Context, q *lifeboatv1.ListWorkRequest) (*lifeboatv1.ListWorkResponse, error) {
	s := n.fsm.State()
	r := &lifeboatv1.ListWorkResponse{Index: s.Index}
	for id, w := range s.AllWork() {
		switch {
		case q.Id != 0 && uint64(id) != q.Id:
		case q.Id == 0 && !q.All && w.Step.Ended():
		case q.Vm != "" && q.Vm != w.VMName && q.Vm != w.VM.String():
		default:
			r.Work = append(r.Work, workView(w))
		}
	}
	slices.Reverse(r.Work)
	if q.Id != 0 && len(r.Work) == 0 {
		return nil, notFound("there is no work %d; `lifeboat work list --all` shows what is kept", q.Id)
	}
	return r, nil
}

func (n *Node) explain(_ *term, _ context.Context, q *lifeboatv1.ExplainRequest) (*lifeboatv1.ExplainResponse, error) {
	s := n.fsm.State()
	var lines []ha.Line
	switch q.Kind {
	case "vm":
		v, _, err := findVM(s, q.Name)
		if err != nil {
			return nil, err
		}
		lines = ha.ExplainVM(s, v.ID)
	case "host":
		if lines = ha.ExplainHost(s, fsm.HostID(q.Name)); lines == nil {
			return nil, notFound("there is no host %s; `lifeboat host list` shows them", q.Name)
		}
		if text := n.foresight.explain(s, fsm.HostID(q.Name)); text != "" {
			lines = slices.Insert(lines, 1, ha.Line{Text: text}) // the present comes first, then what was
		}
	case "work":
		var id uint64
		if _, err := fmt.Sscan(q.Name, &id); err != nil {
			return nil, refuse("%q is not the number of a work item", q.Name)
		}
		w := s.Work(fsm.WorkID(id))
		if w == nil {
			return nil, notFound("there is no work %d; `lifeboat work list --all` shows what is kept", id)
		}
		lines = ha.ExplainVM(s, w.VM)
	default:
		return nil, refuse("%q cannot be explained; ask about a vm, a host or a work item", q.Kind)
	}
	r := &lifeboatv1.ExplainResponse{}
	for _, l := range lines {
		text := l.Text
		if l.Time != 0 {
			text = fmt.Sprintf("%s  [%d] %s", time.Unix(0, l.Time).UTC().Format("2006-01-02 15:04:05.000"), l.Index, l.Text)
		}
		r.Lines = append(r.Lines, text)
	}
	if len(r.Lines) == 0 {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("nothing is known about it"))
	}
	return r, nil
}

func (n *Node) readPolicy(*term, context.Context, *lifeboatv1.GetPolicyRequest) (*lifeboatv1.GetPolicyResponse, error) {
	s := n.fsm.State()
	r := &lifeboatv1.GetPolicyResponse{Index: s.Index}
	def := fsm.DefaultPolicy()
	for _, k := range fsm.PolicySettings() {
		r.Settings = append(r.Settings, &lifeboatv1.Setting{Key: k.Key, Value: k.Get(s.Policy), DefaultValue: k.Get(def), Doc: k.Doc})
	}
	bmc, lease := ha.WorstCase(s.Policy)
	r.Computed = []string{
		fmt.Sprintf("host death to start order, worst case: %s with a power controller that answers at once, %s by the self-fence lease alone", bmc, lease),
		fmt.Sprintf("a host that reaches no manager stops its protected VMs after %s, at most %s later its watchdog has", s.Policy.Lease, s.Policy.WatchdogBound),
	}
	if no := ha.Missed(s, s.Policy); no != "" {
		r.Computed = append(r.Computed, no)
	}
	return r, nil
}

// hostList names hosts, as many as people read.
func hostList(ids []fsm.HostID) string {
	const most = 8
	var out []string
	for i, id := range ids {
		if i == most {
			out = append(out, fmt.Sprintf("%d more", len(ids)-i))
			break
		}
		out = append(out, string(id))
	}
	return strings.Join(out, ", ")
}
