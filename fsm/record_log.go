package fsm

import "lifeboat/fsm/logpb"

// Records of a snapshot: the state's tables as messages of the log format.

func metaRecord(s *State) *logpb.MetaRecord {
	m := bareMeta(s)
	m.Policy = settingsToLog(s.Policy.Settings(s.Level))
	return m
}

// bareMeta is the cluster-wide part without the policy, which rarely changes.
func bareMeta(s *State) *logpb.MetaRecord {
	m := &logpb.MetaRecord{Schema: schemaOf(s.Level), LevelVersion: s.LevelVersion, Index: s.Index, Term: s.Term, TimeUnixNs: s.Time, ClusterId: s.ClusterID,
		Generation: s.Generation, FeatureLevel: s.Level, Armed: s.Armed, ArmedIndex: s.ArmedIndex, Seq: s.seq, Waking: s.Waking, Ignoring: s.Ignoring, ArmedUnixNs: s.ArmedAt,
		DigestIndex: s.Digest.Index, Digest: s.Digest.Sum, Rules: s.lastRule}
	if s.CA != nil {
		m.CaCert, m.CaKey = s.CA.Cert, s.CA.Key
	}
	m.UsageSinceUnixNs, m.UsageKeptUnixNs = s.usage.since, s.usage.kept
	for d, b := range s.brakes.all() {
		m.Brakes = append(m.Brakes, &logpb.Brake{Domain: d, On: true, Reason: b.Reason, SinceUnixNs: b.Since, Gone: names(b.LetGo)})
	}
	return m
}

func nodeRecord(n *Node) *logpb.Record {
	return &logpb.Record{Body: &logpb.Record_Node{Node: &logpb.NodeRecord{Id: string(n.ID), Addr: n.Addr, HttpAddr: n.HTTPAddr,
		RunId: n.RunID, Version: n.Version, FeatureLevel: n.Level, Machine: string(n.Machine), State: uint32(n.State),
		Reason: n.Reason, SinceUnixNs: n.Since, Index: n.Index, StartedUnixNs: n.Started, Left: n.Left, Going: uint32(n.Going),
		UntilUnixNs: n.Until, ForNs: n.For, SnapshotFailure: n.SnapshotFailure, Invited: n.Invited, Instance: n.Instance, BegunEvent: uint64(n.Begun), SnapshotUnixNs: n.SnapshotAt}}}
}

func nodeFromLog(p *logpb.NodeRecord) *Node {
	return &Node{ID: NodeID(p.Id), Addr: p.Addr, HTTPAddr: p.HttpAddr, RunID: p.RunId, Version: p.Version, Level: p.FeatureLevel,
		Machine: HostID(p.Machine), State: NodeState(p.State), Reason: p.Reason, Since: p.SinceUnixNs, Index: p.Index,
		Started: p.StartedUnixNs, Left: p.Left, Going: Going(p.Going), Until: p.UntilUnixNs, For: p.ForNs, SnapshotFailure: p.SnapshotFailure, Invited: p.Invited, Instance: p.Instance,
		Begun: EventID(p.BegunEvent), SnapshotAt: p.SnapshotUnixNs}
}

func hostRecord(h *Host) *logpb.Record {
	p := &logpb.HostRecord{Id: string(h.ID), MachineId: h.MachineID, BootId: h.BootID, Session: h.Session, Version: h.Version,
		FeatureLevel: h.Level, ProbeAddrs: h.ProbeAddrs, Inventory: InventoryToLog(h.Inventory), Watchdog: uint32(h.Watchdog),
		WatchdogBoundNs: h.BoundNS, NodeId: string(h.Node), Epoch: h.Epoch, Seq: h.Seq, Status: uint32(h.Status),
		Resource: uint32(h.Resource), Ha: uint32(h.HA), Reason: h.Reason, SinceUnixNs: h.Since, SilentUnixNs: h.Silent,
		Fence: fenceToLog(h.Fence), FenceFailure: h.FenceFailure, Proof: proofToLog(h.Proof), DownUnixNs: h.DownAt,
		DownIndex: h.DownIndex, Assigned: h.Assigned, HardwareId: h.HardwareID, Risen: h.Risen, Evicted: h.Evicted, Settled: h.Settled, Admitted: h.Admitted, Barred: h.Barred,
		Stopping: uint32(h.Stopping), Held: uint32(h.Held), Heeds: h.Heeds, Expects: h.Expects, AttemptEvent: uint64(h.AttemptEvent)}
	if d := h.Drain; d != nil {
		p.Drain = &logpb.DrainRecord{SinceUnixNs: d.Since, Total: d.Total, Force: d.Force, By: d.By, BegunEvent: uint64(d.Begun)}
	}
	p.Labels = labelsToLog(h.Labels)
	if l := h.Lease; l != nil {
		p.Lease = &logpb.HostLease{Armed: l.Armed, BootId: l.BootID, DurationNs: l.DurationNS, Watchdog: uint32(l.Watchdog), BoundNs: l.BoundNS}
	}
	for _, e := range h.Evidence {
		p.Evidence = append(p.Evidence, &logpb.Evidence{Source: e.Source, Verdict: uint32(e.Verdict), Detail: e.Detail, TimeUnixNs: e.Time, Index: e.Index})
	}
	if a := h.Attempt; a != nil {
		p.Attempt = &logpb.AttemptRecord{Level: a.Level, Number: a.Number, Executor: a.Executor, UntilUnixNs: a.Until, Open: a.Open, EarlierUnixNs: a.Earlier, Via: a.Via}
	}
	for _, o := range h.Orders {
		p.Orders = append(p.Orders, &logpb.OrderRecord{Id: uint64(o.ID), Kind: uint32(o.Kind), Vm: o.VM[:], Name: o.Name,
			Incarnation: uint64(o.Incarnation), Epoch: o.Epoch, BootId: o.BootID, Work: uint64(o.Work), Target: string(o.Target), Abort: o.Abort, Index: o.Index})
	}
	for _, c := range h.Copies {
		p.Copies = append(p.Copies, &logpb.CopyRecord{Vm: c.VM[:], SinceUnixNs: c.Since, Incarnation: uint64(c.Incarnation), Apart: c.Apart,
			ToldUnixNs: c.Told, Name: c.Name, Hash: []byte(c.Hash)})
	}
	for i := range h.VMs {
		v := &h.VMs[i]
		p.Vms = append(p.Vms, vmRecord(v))
	}
	return &logpb.Record{Body: &logpb.Record_Host{Host: p}}
}

func hostFromLog(x *shapes, p *logpb.HostRecord) *Host {
	h := &Host{ID: HostID(p.Id), MachineID: p.MachineId, BootID: p.BootId, Session: p.Session, Version: p.Version,
		Level: p.FeatureLevel, ProbeAddrs: p.ProbeAddrs, Inventory: inventoryFromLog(p.Inventory), Labels: labelsFromLog(p.Labels),
		Watchdog: Watchdog(p.Watchdog), BoundNS: p.WatchdogBoundNs, Node: NodeID(p.NodeId), Epoch: p.Epoch, Seq: p.Seq,
		Status: Status(p.Status), Resource: Resource(p.Resource), HA: HAState(p.Ha), Reason: p.Reason, Since: p.SinceUnixNs,
		Silent: p.SilentUnixNs, Fence: fenceFromLog(p.Fence), FenceFailure: p.FenceFailure, Proof: proofFromLog(p.Proof),
		DownAt: p.DownUnixNs, DownIndex: p.DownIndex, Assigned: p.Assigned, HardwareID: p.HardwareId, Risen: p.Risen, Evicted: p.Evicted, Settled: p.Settled, Admitted: p.Admitted, Barred: p.Barred,
		Stopping: GoingDown(p.Stopping), Held: Holding(p.Held), Heeds: p.Heeds, Expects: p.Expects, AttemptEvent: EventID(p.AttemptEvent)}
	if d := p.Drain; d != nil {
		h.Drain = &Drain{Since: d.SinceUnixNs, Total: d.Total, Force: d.Force, By: d.By, Begun: EventID(d.BegunEvent)}
	}
	if l := p.Lease; l != nil {
		h.Lease = &Lease{Armed: l.Armed, BootID: l.BootId, DurationNS: l.DurationNs, Watchdog: Watchdog(l.Watchdog), BoundNS: l.BoundNs}
	}
	for _, e := range p.Evidence {
		h.Evidence = append(h.Evidence, Evidence{Source: e.Source, Verdict: Verdict(e.Verdict), Detail: e.Detail, Time: e.TimeUnixNs, Index: e.Index})
	}
	if a := p.Attempt; a != nil {
		h.Attempt = &Attempt{Level: a.Level, Number: a.Number, Executor: a.Executor, Until: a.UntilUnixNs, Open: a.Open, Earlier: a.EarlierUnixNs, Via: a.Via}
	}
	for _, o := range p.Orders {
		id, _ := vmID(o.Vm)
		h.Orders = append(h.Orders, &Order{ID: OrderID(o.Id), Kind: OrderKind(o.Kind), VM: id, Name: o.Name,
			Incarnation: Incarnation(o.Incarnation), Epoch: o.Epoch, BootID: o.BootId, Work: WorkID(o.Work), Target: HostID(o.Target), Abort: o.Abort, Index: o.Index})
	}
	for _, c := range p.Copies {
		id, _ := vmID(c.Vm)
		h.Copies = append(h.Copies, Copy{id, c.SinceUnixNs, Incarnation(c.Incarnation), c.Apart, c.ToldUnixNs, c.Name, string(c.Hash)})
	}
	for _, v := range p.Vms {
		h.VMs = append(h.VMs, *vmFromLog(x, v))
	}
	h.Stalled = stalled(h.VMs)
	return h
}

func vmRecord(v *VM) *logpb.VMRecord {
	p := &logpb.VMRecord{Id: v.ID[:], Name: v.Name, Power: uint32(v.Power), Reason: uint32(v.Reason), Wanted: v.Wanted,
		ProtectedBy: uint32(v.ProtectedBy), Gone: v.Gone, GuestAnswers: v.Answers, Incarnation: uint64(v.Incarnation), SinceUnixNs: v.Since,
		Work: uint64(v.Work), Spec: specToLog(v.Spec), Policy: policyToLog(v.Policy), Error: v.Error, Order: orderToLog(v.Policy), Guest: guestToLog(v.Policy), Home: string(v.Home()), Hangs: hangsToLog(v.Hangs)}
	if v.Spec != nil {
		p.DefinedUnixNs = v.Spec.Defined
	}
	return p
}

func vmFromLog(x *shapes, p *logpb.VMRecord) *VM {
	id, _ := vmID(p.Id)
	v := &VM{ID: id, Power: Power(p.Power), Reason: Reason(p.Reason), Wanted: p.Wanted,
		ProtectedBy: ProtectedBy(p.ProtectedBy), Gone: p.Gone, Answers: p.GuestAnswers, Incarnation: Incarnation(p.Incarnation), Since: p.SinceUnixNs,
		Work: WorkID(p.Work), traits: &traits{Name: p.Name, Policy: guestFromLog(orderFromLog(policyFromLog(nil, p.Policy), p.Order), p.Guest), Error: p.Error, home: homeAt(HostID(p.Home)), Hangs: hangsFromLog(p.Hangs)}}
	if p.Spec != nil {
		v.Spec = specFromLog(x, p.Spec, p.DefinedUnixNs)
	}
	v.derive()
	return v
}

func proofToLog(p *Proof) *logpb.Proof {
	if p == nil {
		return nil
	}
	return &logpb.Proof{Kind: uint32(p.Kind), By: p.By, Detail: p.Detail, TimeUnixNs: p.Time, Index: p.Index}
}

func proofFromLog(p *logpb.Proof) *Proof {
	if p == nil {
		return nil
	}
	return &Proof{Kind: ProofKind(p.Kind), By: p.By, Detail: p.Detail, Time: p.TimeUnixNs, Index: p.Index}
}

func workRecord(w *Work) *logpb.Record {
	p := &logpb.WorkRecord{Id: uint64(w.ID), Vm: w.VM[:], VmName: w.VMName, Type: uint32(w.Type), Step: uint32(w.Step),
		Attempt: w.Attempt, Cause: uint32(w.Cause), Reason: w.Reason, From: string(w.From), Target: string(w.Target), Why: w.Why,
		Incarnation: uint64(w.Incarnation), LostUnixNs: w.Lost, CreatedUnixNs: w.Created, UpdatedUnixNs: w.Updated,
		NotBeforeUnixNs: w.NotBefore, EndedUnixNs: w.Ended, Outcome: w.Outcome, UpdatedIndex: w.Index, GatedUnixNs: w.Gated, BegunEvent: uint64(w.Begun)}
	for _, x := range w.Tried {
		p.Tried = append(p.Tried, &logpb.Tried{Host: string(x.Host), Count: x.Count})
	}
	return &logpb.Record{Body: &logpb.Record_Work{Work: p}}
}

func workFromLog(p *logpb.WorkRecord) *Work {
	id, _ := vmID(p.Vm)
	w := &Work{ID: WorkID(p.Id), VM: id, VMName: p.VmName, Type: WorkType(p.Type), Step: Step(p.Step), Attempt: p.Attempt,
		Cause: Cause(p.Cause), Reason: p.Reason, From: HostID(p.From), Target: HostID(p.Target), Why: p.Why,
		Incarnation: Incarnation(p.Incarnation), Lost: p.LostUnixNs, Created: p.CreatedUnixNs, Updated: p.UpdatedUnixNs,
		NotBefore: p.NotBeforeUnixNs, Ended: p.EndedUnixNs, Outcome: p.Outcome, Index: p.UpdatedIndex, Gated: p.GatedUnixNs, Begun: EventID(p.BegunEvent)}
	for _, x := range p.Tried {
		w.Tried = append(w.Tried, Tried{HostID(x.Host), x.Count})
	}
	return w
}

func alertRecord(a *AlertRecord) *logpb.Record {
	return &logpb.Record{Body: &logpb.Record_Alert{Alert: alertToLog(a)}}
}

func alertToLog(a *AlertRecord) *logpb.AlertRecord {
	return &logpb.AlertRecord{Id: uint64(a.ID), Type: a.Key.Type, Subject: a.Key.Subject,
		Cause: a.Key.Cause, State: uint32(a.State), Severity: uint32(a.Severity), Text: a.Text, Count: a.Count, FirstUnixNs: a.First,
		LastUnixNs: a.Last, ResolvedUnixNs: a.Resolved, Resolution: a.Resolution, Name: a.Name, Index: a.Index, Reopened: a.Reopened,
		SinceUnixNs: a.Since, AckedBy: a.AckedBy, ArchivedUnixNs: a.Archived, Begun: uint64(a.Begun), Muted: a.Muted, Labels: labelsToLog(a.Labels), Worse: a.Worse}
}

func alertFromLog(p *logpb.AlertRecord) *AlertRecord {
	return &AlertRecord{ID: AlertID(p.GetId()), Key: AlertKey{p.GetType(), p.GetSubject(), p.GetCause()}, State: AlertState(p.GetState()),
		Severity: Severity(p.GetSeverity()), Text: p.GetText(), Count: p.GetCount(), First: p.GetFirstUnixNs(), Last: p.GetLastUnixNs(),
		Resolved: p.GetResolvedUnixNs(), Resolution: p.GetResolution(), Name: p.GetName(), Index: p.GetIndex(), Reopened: p.GetReopened(),
		Since: p.GetSinceUnixNs(), AckedBy: p.GetAckedBy(), Archived: p.GetArchivedUnixNs(), Begun: EventID(p.GetBegun()), Muted: p.GetMuted(), Labels: labelsFromLog(p.GetLabels()), Worse: p.GetWorse()}
}

func eventRecord(e *Event) *logpb.Record {
	return &logpb.Record{Body: &logpb.Record_Event{Event: &logpb.EventRecord{Id: uint64(e.ID), Index: e.Index, TimeUnixNs: e.Time,
		Type: e.Type, Level: uint32(e.Level), Actor: e.Actor, Subject: e.Subject, Text: e.Text, Start: uint64(e.Start), Cause: e.Cause}}}
}

func eventFromLog(p *logpb.EventRecord) *Event {
	return &Event{ID: EventID(p.Id), Index: p.Index, Time: p.TimeUnixNs, Type: p.Type, Level: Severity(p.Level), Actor: p.Actor,
		Subject: p.Subject, Text: p.Text, Start: EventID(p.Start), Cause: p.Cause}
}
