package sim

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// What follows says what a report means for the state. It is node/report.go
// without what only a wire needs, and must stay like it.

const (
	askAgain      = 10 * time.Second
	maxWanted     = 16
	missedReports = 2
	maxReport     = 256 << 10 // bytes of changed VMs at a time
)

// said is one VM of a report in the words of the state.
type said struct {
	power  fsm.Power
	reason fsm.Reason
	listed bool // a domain is there, or its end is explained
	// Incarnations that the agent refuses, and that it could not start.
	refused, failed uint64
}

func read(v *lifeboatv1.VMReport) said {
	x := said{listed: true}
	if v.Reason > 0 && v.Reason <= lifeboatv1.PowerReason_POWER_REASON_MIGRATING_IN {
		x.reason = fsm.Reason(v.Reason)
	}
	switch v.Power {
	case lifeboatv1.PowerState_POWER_STATE_ON:
		x.power = fsm.PowerOn
	case lifeboatv1.PowerState_POWER_STATE_OFF:
		x.power = fsm.PowerOff
	case lifeboatv1.PowerState_POWER_STATE_STARTING:
		x.power = fsm.PowerStarting
	case lifeboatv1.PowerState_POWER_STATE_ABSENT:
		// No domain. With a reason it is known how it ended; without one it is
		// missing, and says nothing about its power.
		x.power, x.listed = fsm.PowerOff, x.reason != fsm.ReasonNone
		if !x.listed {
			x.power = fsm.PowerStarting
		}
	default:
		x.power = fsm.PowerUnknown
	}
	x.refused, x.failed = v.Refused, v.Failed
	if x.power == fsm.PowerOn {
		// It runs: then it is neither gone nor was it never started, whatever
		// else the report says. Somebody has started it by hand since.
		if x.refused >= v.Incarnation {
			x.refused = 0
		}
		if x.failed >= v.Incarnation {
			x.failed = 0
		}
	}
	return x
}

// difference is what a report says that the state does not.
type difference struct {
	report *logpb.HostReport
	wanted [][]byte // ids of VMs whose definitions are to be sent
	partly bool     // there is more than fits: the next report will tell
}

// changed reports whether anything has to be committed.
func (d *difference) changed() bool {
	return d.report.Vms != nil || len(d.report.Missing) > 0 || d.report.Inventory != nil
}

// diff compares a full report with the state. x's memory of absences and
// requests is brought up to date; the caller holds its turn.
func diff(s *fsm.State, h *fsm.Host, x *contact, req *lifeboatv1.ReportRequest, now time.Duration) *difference {
	d := &difference{report: &logpb.HostReport{Host: string(h.ID), Epoch: h.Epoch, Seq: req.Seq}}
	var entries entryWriter
	next := 0 // h.VMs and the report are sorted: merge
	for _, r := range req.Vms {
		id := fsm.VMID(r.Id)
		for next < len(h.VMs) && bytes.Compare(h.VMs[next].ID[:], id[:]) < 0 {
			x.notListed(h, &h.VMs[next], d)
			next++
		}
		said := read(r)
		var own *fsm.VM
		if next < len(h.VMs) && h.VMs[next].ID == id {
			own = &h.VMs[next]
			next++
			if said.listed {
				delete(x.absent, id)
			} else {
				x.notListed(h, own, d)
			}
			x.want(own, r, d, now)
		} else if len(h.Copies) > 0 {
			x.wantCopy(h, id, r, d, now)
		}
		renamed := own != nil && r.Name != "" && r.Name != own.Name
		if renamed || s.Changes(h, id, said.power, said.reason, fsm.Incarnation(r.Incarnation), fsm.Incarnation(said.refused), fsm.Incarnation(said.failed)) {
			if entries.full() {
				d.partly = true
				continue
			}
			entries.add(r, said, own == nil || renamed)
		}
	}
	for ; next < len(h.VMs); next++ {
		x.notListed(h, &h.VMs[next], d)
	}
	d.report.Missing = append(d.report.Missing, copiesGone(h, req.Vms)...)
	d.report.Vms = entries.done()
	d.report.Inventory = inventoryChange(h, req)
	return d
}

// notListed counts a VM of the host that a report does not show. Twice in a row
// makes it missing. A VM whose start the agent may not know of yet, that is
// known to be gone, or that is off and ours, is not expected to be there.
func (x *contact) notListed(h *fsm.Host, v *fsm.VM, d *difference) {
	ours := v.ProtectedBy != fsm.Unprotected || v.Incarnation != 0
	if v.Power == fsm.PowerReportMissing || ours && (v.Gone || v.Power == fsm.PowerOff) || ordered(h, v.ID) {
		return
	}
	x.absent[v.ID]++
	if x.absent[v.ID] >= missedReports {
		if len(d.report.Missing) >= maxReport {
			d.partly = true
			return
		}
		d.report.Missing = append(d.report.Missing, v.ID[:]...)
		delete(x.absent, v.ID)
	}
}

func ordered(h *fsm.Host, id fsm.VMID) bool {
	return slices.ContainsFunc(h.Orders, func(o *fsm.Order) bool { return o.VM == id && o.Kind == fsm.OrderStart })
}

// want asks for a definition that the state has not, or has an older one of.
func (x *contact) want(v *fsm.VM, r *lifeboatv1.VMReport, d *difference, now time.Duration) {
	if len(r.SpecHash) != 32 || len(d.wanted) >= maxWanted {
		return
	}
	known := v.Spec != nil && bytes.Equal(v.Spec.Hash[:], r.SpecHash)
	if known && (!v.Protected() || v.Spec.Defines()) {
		return
	}
	// A VM that is protected by now needs more than what was asked for before.
	last, asked := x.asked[v.ID]
	if asked && now-last.at < askAgain && (last.whole || !v.Protected()) {
		return
	}
	x.asked[v.ID] = request{at: now, whole: v.Protected()}
	d.wanted = append(d.wanted, r.Id)
}

// inventoryChange is the host's inventory with what the report says about
// storages and problems, and about the rest if it does, if that is news.
func inventoryChange(h *fsm.Host, req *lifeboatv1.ReportRequest) *logpb.Inventory {
	old := h.Inventory
	if req.Inventory != nil {
		inv := inventoryToLog(&lifeboatv1.Inventory{
			Cpus: req.Inventory.Cpus, MemoryBytes: req.Inventory.MemoryBytes, Networks: req.Inventory.Networks, Machines: req.Inventory.Machines,
			CpuModels: req.Inventory.CpuModels, LibvirtGuests: req.Inventory.LibvirtGuests, Storages: req.Storages, Problems: req.Problems, Beats: req.Beats})
		if proto.Equal(inv, fsm.InventoryToLog(old)) {
			return nil
		}
		return inv
	}
	if old == nil || len(req.Storages) == 0 && len(req.Problems) == 0 && len(old.Problems) == 0 && len(req.Beats) == 0 && len(old.Beats) == 0 {
		return nil
	}
	storages, problems, beats := old.Storages, []fsm.Problem(nil), []fsm.Storage(nil)
	if len(req.Storages) > 0 {
		storages = nil
		for _, p := range req.Storages {
			storages = append(storages, fsm.Storage{ID: p.Id, Path: p.Path, Up: p.Up})
		}
	}
	for _, p := range req.Problems {
		problems = append(problems, fsm.Problem{Part: p.Part, Message: p.Message})
	}
	for _, b := range req.Beats {
		beats = append(beats, fsm.Storage{ID: b.Id, Path: b.Path, Up: b.Up})
	}
	if slices.Equal(storages, old.Storages) && slices.Equal(problems, old.Problems) && slices.Equal(beats, old.Beats) {
		return nil
	}
	inv := *old
	inv.Storages, inv.Problems, inv.Beats = storages, problems, beats
	return fsm.InventoryToLog(&inv)
}

// entryWriter writes the columns of changed VMs.
type entryWriter struct {
	e    logpb.VMEntries
	n    int
	size int  // bytes, about
	held bool // some incarnation is not zero
}

func (w *entryWriter) full() bool { return w.size >= maxReport }

func (w *entryWriter) add(r *lifeboatv1.VMReport, s said, named bool) {
	w.e.Ids = append(w.e.Ids, r.Id...)
	w.e.Power = append(w.e.Power, byte(s.power))
	w.e.Reason = append(w.e.Reason, byte(s.reason))
	w.e.Incarnations = append(w.e.Incarnations, r.Incarnation)
	w.held = w.held || r.Incarnation != 0
	if named || s.refused != 0 || s.failed != 0 {
		d := &logpb.VMDetail{Pos: uint32(w.n), Refused: s.refused, Failed: s.failed, Failure: r.Failure, Autostart: r.Autostart}
		if named {
			d.Name = r.Name
		}
		w.e.Details = append(w.e.Details, d)
		w.size += len(d.Name) + len(d.Failure) + detailSize
	}
	w.size += entrySize
	w.n++
}

// What an entry and its details take at most, without their text.
const (
	entrySize  = 16 + 1 + 1 + 10
	detailSize = 40
)

func (w *entryWriter) done() *logpb.VMEntries {
	if w.n == 0 {
		return nil
	}
	if !w.held {
		w.e.Incarnations = nil
	}
	return &w.e
}

// mustRegister says that the host must register again, and why.
type mustRegister struct{ reason string }

func (e *mustRegister) Error() string { return e.reason }

// known finds the host of a report, or says why the report does not count.
func known(s *fsm.State, req *lifeboatv1.ReportRequest) (*fsm.Host, error) {
	h := s.Host(fsm.HostID(req.HostId))
	switch {
	case h == nil || h.Status == fsm.Removed:
		return nil, &mustRegister{fmt.Sprintf("host %s is not known", req.HostId)}
	case h.Epoch != req.Epoch:
		return nil, &mustRegister{fmt.Sprintf("host %s is in epoch %d, the report is of epoch %d", h.ID, h.Epoch, req.Epoch)}
	case h.BootID != req.BootId:
		return nil, &mustRegister{fmt.Sprintf("host %s registered in another boot", h.ID)}
	case h.Session != req.Session:
		return nil, &rejected{"another agent has registered as host " + req.HostId + " since; stop one of them"}
	case !reporting(h):
		return nil, &mustRegister{fmt.Sprintf("host %s is %s", h.ID, h.Status)}
	}
	return h, nil
}
