package node

import (
	"fmt"
	"strings"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/ha"
)

func hostView(s *fsm.State, h *fsm.Host) *lifeboatv1.HostView {
	v := &lifeboatv1.HostView{
		Id: string(h.ID), Status: h.Status.String(), Resource: h.Resource.String(), Ha: h.HA.String(), Epoch: h.Epoch, BootId: h.BootID,
		MachineId: h.MachineID, Vms: uint32(len(h.VMs)), MemoryUsedBytes: h.MemoryUsed(), Watchdog: h.Watchdog.String(), LastContactMs: -1,
		Reason: h.Reason, NodeId: string(h.Node), Version: h.Version, Notes: hostNotes(s, h), SafeWhen: safeWhen(s, h),
	}
	if !h.Fenceable(s.Policy) && h.HA == fsm.HAAvailable {
		v.Ha = fsm.HAIneligible.String()
	}
	for i := range h.VMs {
		x := &h.VMs[i]
		if x.Protected() {
			v.VmsProtected++
		}
	}
	for _, l := range h.Labels {
		v.Labels = append(v.Labels, &lifeboatv1.Label{Key: l.Key, Value: l.Value})
	}
	for _, l := range h.Fence {
		v.Fence = append(v.Fence, &lifeboatv1.FenceLevelView{Driver: l.Driver, Address: l.Address, User: l.User, Identity: l.Identity, TimeoutMs: time.Duration(l.TimeoutNS).Milliseconds(),
			Executor: executorOf(l), CheckedUnixNs: l.Check.Checked, ProvenUnixNs: l.Check.Proven, Failure: l.Check.Failure, Active: l.Active(), Pinned: l.Pinned, ProvenAgoMs: -1})
	}
	if h.Lease != nil {
		v.Lease = &lifeboatv1.Lease{Armed: h.Lease.Armed, DurationMs: time.Duration(h.Lease.DurationNS).Milliseconds()}
	}
	for _, e := range h.Evidence {
		v.Evidence = append(v.Evidence, &lifeboatv1.EvidenceView{Source: e.Source, Verdict: e.Verdict.String(), Detail: e.Detail, Index: e.Index, TimeUnixNs: e.Time})
	}
	if h.Drain != nil || h.Resource == fsm.PrepareForMaintenance || h.Resource == fsm.ErrorInMaintenance {
		v.Emptying, v.ToMove = ha.Emptying(s, h), h.ToMove()
		if h.Drain != nil {
			v.ToMoveTotal = h.Drain.Total
		}
	}
	v.Staying = ha.Staying(h)
	if h.Stopping != fsm.StaysUp {
		v.Stopping = fmt.Sprintf("%s; its VMs: %s", h.Stopping, h.Held)
	}
	if p := h.Proof; p != nil {
		v.Proof = fmt.Sprintf("%s, by %s: %s (index %d)", p.Kind, p.By, p.Detail, p.Index)
	}
	if inv := h.Inventory; inv != nil {
		v.Cpus, v.MemoryBytes, v.Networks = inv.CPUs, inv.MemoryBytes, inv.Networks
		for _, p := range inv.Problems {
			v.Problems = append(v.Problems, &lifeboatv1.Problem{Part: p.Part, Message: p.Message})
		}
		for _, x := range inv.Storages {
			v.Storages = append(v.Storages, &lifeboatv1.Storage{Id: x.ID, Path: x.Path, Up: x.Up})
		}
	}
	return v
}

func executorOf(l fsm.FenceLevel) string {
	if !l.Active() {
		return ""
	}
	return l.By()
}

// safeWhen says what is missing until the VMs of a host may start elsewhere.
func safeWhen(s *fsm.State, h *fsm.Host) string {
	switch {
	case h.HA == fsm.HAFenced || h.Status == fsm.Up || h.Status == fsm.Removed:
		return ""
	case !s.Armed:
		return "nothing happens until HA is armed (`lifeboat ha arm`)"
	case h.Status == fsm.Connecting:
		return fmt.Sprintf("it is back; it is Up when the fence attempt in flight has ended, at %s at the latest", clock(h.Attempt.End()))
	case h.HA == fsm.HADegraded:
		return fmt.Sprintf("it is not proven dead; if it is, run `lifeboat host confirm-dead %s`", h.ID)
	case h.HA == fsm.HASuspect || h.HA == fsm.HAChecking:
		return "evidence is being gathered"
	case h.HA != fsm.HAFencing:
		return ""
	}
	var ways []string
	switch {
	case h.Attempt != nil && h.Attempt.Open:
		ways = append(ways, fmt.Sprintf("fence attempt %d by %s runs until %s", h.Attempt.Number, levelName(h, h.Attempt.Level), clock(h.Attempt.Until)))
	case h.FenceFailure != "":
		ways = append(ways, fmt.Sprintf("the last fence attempt failed (%s), the next follows", h.FenceFailure))
	}
	if h.Lease != nil && h.Lease.Armed && s.Policy.ProvesDeath(h.Lease.Watchdog) {
		if at := h.Silent + int64(s.Policy.Takeover); at > s.Time {
			ways = append(ways, fmt.Sprintf("lease expires %s, then safe", clock(at)))
		} else { // S15
			ways = append(ways, fmt.Sprintf("lease is waited for anew, %s from when this leader began, then safe", s.Policy.Takeover))
		}
	}
	confirm := fmt.Sprintf("if it is dead, run `lifeboat host confirm-dead %s`", h.ID)
	if len(ways) == 0 {
		return "nothing here can prove it dead; " + confirm
	}
	return strings.Join(append(ways, confirm), "; ")
}

func levelName(h *fsm.Host, level uint32) string {
	if int(level) < len(h.Fence) {
		return h.Fence[level].Driver
	}
	return "an unknown level"
}

func clock(ns int64) string { return time.Unix(0, ns).UTC().Format("15:04:05 UTC") }

func vmView(s *fsm.State, v *fsm.VM, h *fsm.Host) *lifeboatv1.VMView {
	p := v.HAPolicy()
	restarts, relocates := s.Policy.Limits(v)
	out := &lifeboatv1.VMView{
		Id: v.ID.String(), Name: v.Name, Host: string(h.ID), Power: v.Power.String(), Reason: v.Reason.String(), Wanted: v.Wanted,
		Protected: v.Protected(), Incarnation: v.Incarnation.String(), WorkId: uint64(v.Work), SinceUnixNs: v.Since, Error: v.Error,
		ProtectedBy: v.ProtectedBy.String(), Ha: p.HA.String(), Priority: p.Priority.String(), MaxRestart: restarts, MaxRelocate: relocates,
	}
	if w := s.Work(v.Work); w != nil {
		out.WorkStep = w.Step.String()
	}
	ruleView(s, v, out)
	g := v.Guest()
	out.GuestHealth, out.GuestTimeoutMs, out.GuestGraceMs, out.GuestAnswers = g.Watch.String(), g.Timeout.Milliseconds(), g.Grace.Milliseconds(), v.Answers
	if out.Stays, out.NoLiveMigration = p.Stays, p.NoLive; !p.Stays {
		out.Home = string(v.Home())
	}
	if x := v.Spec; x != nil {
		out.Cpus, out.MemoryBytes, out.Local, out.Machine, out.Networks, out.Problem = x.CPUs, x.MemoryBytes, x.Local, x.Machine, x.Networks, x.Problem
		if x.Defines() {
			out.DefinitionHash, out.DefinitionUnixNs = fmt.Sprintf("%x", x.Hash[:8]), x.Defined
		}
		for _, d := range x.Disks() {
			if d.Storage != "" {
				out.Storages = append(out.Storages, d.Storage)
			}
		}
	}
	return out
}

func workView(w *fsm.Work) *lifeboatv1.WorkView {
	reason := w.Reason
	if reason == "" {
		reason = w.Cause.String()
	}
	return &lifeboatv1.WorkView{
		Id: uint64(w.ID), Vm: w.VM.String(), VmName: w.VMName, Type: w.Type.String(), Step: w.Step.String(), Attempt: w.Attempt,
		Reason: reason, From: string(w.From), Target: string(w.Target), Incarnation: w.Incarnation.String(), CreatedUnixNs: w.Created,
		UpdatedUnixNs: w.Updated, NotBeforeUnixNs: w.NotBefore, EndedUnixNs: w.Ended, Outcome: w.Outcome, WhyTarget: w.Why, Index: w.Index, LostUnixNs: w.Lost,
	}
}

// ambiguous are the names of the VMs with alerts that are of more than one VM.
func ambiguous(s *fsm.State) map[string]bool {
	first := map[string]fsm.VMID{}
	for _, a := range s.Alerts() {
		if id, err := fsm.ParseVMID(a.Key.Subject); err == nil && a.Key.Type == fsm.AlertVM {
			first[a.About()] = id
		}
	}
	many := map[string]bool{}
	if len(first) == 0 {
		return many
	}
	for _, a := range s.Alerts() {
		if id, err := fsm.ParseVMID(a.Key.Subject); err == nil && a.Key.Type == fsm.AlertVM && id != first[a.About()] {
			many[a.About()] = true
		}
	}
	for _, h := range s.Hosts() {
		for i := range h.VMs {
			if id, has := first[h.VMs[i].Name]; has && id != h.VMs[i].ID {
				many[h.VMs[i].Name] = true
			}
		}
	}
	return many
}

// alertView shows a VM's name, with the begin of its UUID where the name alone
// would not say which VM is meant.
func alertView(a *fsm.AlertRecord, ambiguous map[string]bool) *lifeboatv1.AlertView {
	subject := a.About()
	if a.Key.Type == fsm.AlertVM && ambiguous[subject] {
		subject += " (" + a.Key.Subject[:min(8, len(a.Key.Subject))] + ")"
	}
	typ, _ := fsm.AlertTypeOf(a.Key.Type)
	return &lifeboatv1.AlertView{
		Id: uint64(a.ID), Type: a.Key.Type, Subject: subject, Cause: a.Key.Cause, State: a.State.String(), Severity: a.Severity.String(),
		Text: a.Text, Count: a.Count, FirstUnixNs: a.First, LastUnixNs: a.Last, ResolvedUnixNs: a.Resolved, Resolution: a.Resolution,
		Index: a.Index, Reopened: a.Reopened, SinceUnixNs: a.Opened(), AckedBy: a.AckedBy, ArchivedUnixNs: a.Archived, Muted: a.Muted, Code: typ.Code, TypeId: typ.ID,
	}
}

func eventView(e *fsm.Event) *lifeboatv1.EventView {
	return &lifeboatv1.EventView{Id: uint64(e.ID), Index: e.Index, TimeUnixNs: e.Time, Type: e.Type, Level: e.Level.String(), Actor: e.Actor, Subject: e.Subject, Text: e.Text, Start: uint64(e.Start), Cause: e.Cause}
}
