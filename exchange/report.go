package exchange

import (
	"bytes"
	"slices"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha"
)

const (
	// maxReport is about how many bytes of changed VMs of one host are committed
	// at a time; the rest follows with its next reports.
	maxReport = 256 << 10
	// missedReports in a row make a VM missing.
	missedReports = 2
)

// said is one VM of a report in the words of the state.
type said struct {
	power  fsm.Power
	reason fsm.Reason
	listed bool // a domain is there, or its end is explained
	// Incarnations that the agent refuses, and that it could not start.
	refused, failed uint64
	order           uint64 // to migrate, that came to nothing
	answers         bool   // the agent of its guest does
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
	x.refused, x.failed, x.order = v.Refused, v.Failed, v.Order
	x.answers = v.GuestAnswers && x.power == fsm.PowerOn
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

// Difference is what a report says that the state does not.
type Difference struct {
	Report *logpb.HostReport
	Wanted [][]byte // ids of VMs whose definitions are to be sent
	Partly bool     // there is more than fits: the next report will tell
}

// Changed reports whether anything has to be committed.
func (d *Difference) Changed() bool {
	return d.Report.Vms != nil || len(d.Report.Missing) > 0 || d.Report.Inventory != nil
}

// Diff compares a full report with the state; its VMs are sorted by id. The
// memory of absences and requests is brought up to date. now is on any clock
// that goes on as long as the memory lives.
func Diff(s *fsm.State, h *fsm.Host, x *Memory, req *lifeboatv1.ReportRequest, now time.Duration) *Difference {
	d := &Difference{Report: &logpb.HostReport{Host: string(h.ID), Epoch: h.Epoch, Seq: req.Seq}}
	x.forgetCopies(h, req.Vms)
	var entries entryWriter
	var coming []fsm.VMID
	var guests []ha.Guest
	next := 0 // h.VMs and the report are sorted: merge
	for _, r := range req.Vms {
		id := fsm.VMID(r.Id)
		for next < len(h.VMs) && bytes.Compare(h.VMs[next].ID[:], id[:]) < 0 {
			x.notListed(h, &h.VMs[next], d)
			next++
		}
		said := read(r)
		if said.power == fsm.PowerOn && said.reason == fsm.ReasonMigratingIn {
			coming = append(coming, id)
		}
		var own *fsm.VM
		replaced := false
		if next < len(h.VMs) && h.VMs[next].ID == id {
			own = &h.VMs[next]
			next++
			if said.listed {
				delete(x.absent, id)
			} else {
				x.notListed(h, own, d)
			}
			x.want(own, r, d, now)
			if g := guest(s, own, r); said.power == fsm.PowerOn && g != nil {
				guests = append(guests, *g)
			}
		} else if len(h.Copies) > 0 {
			x.wantCopy(s, h, id, r, d, now)
			replaced = x.replaced(h.Copy(id), r)
		}
		renamed := own != nil && r.Name != "" && r.Name != own.Name
		if own == nil || !s.AnswersOrder(h, own, said.power, fsm.Incarnation(r.Incarnation), fsm.OrderID(said.order)) {
			said.order = 0
		}
		asked := own != nil && s.GuestChanges(own, said.power, fsm.Incarnation(r.Incarnation), said.answers)
		if renamed || replaced || asked || said.order != 0 || s.Changes(h, id, said.power, said.reason, fsm.Incarnation(r.Incarnation), fsm.Incarnation(said.refused), fsm.Incarnation(said.failed)) {
			if entries.full() {
				d.Partly = true
				continue
			}
			entries.add(r, said, own == nil || renamed)
			if replaced {
				d.Report.Missing = append(d.Report.Missing, r.Id...)
			}
		}
	}
	for ; next < len(h.VMs); next++ {
		x.notListed(h, &h.VMs[next], d)
	}
	if len(coming) > 0 || len(x.Coming()) > 0 {
		x.coming.Store(&coming)
	}
	if len(guests) > 0 || len(x.Guests()) > 0 {
		x.guests.Store(&guests)
	}
	d.Report.Missing = append(d.Report.Missing, copiesGone(h, req.Vms)...)
	d.Report.Vms = entries.done()
	d.Report.Inventory = inventoryChange(s, h, req)
	return d
}

// guest is what a report says of the guest of a VM; nil: nothing that matters.
func guest(s *fsm.State, v *fsm.VM, r *lifeboatv1.VMReport) *ha.Guest {
	matters := r.WatchdogPaused || v.Guest().Watch != 0 && (r.GuestSilentMs > 0 || r.WatchdogMs > 0)
	if !matters && s.GuestAlert(v) == nil {
		return nil
	}
	return &ha.Guest{VM: v.ID, Incarnation: fsm.Incarnation(r.Incarnation), Heard: r.GuestAnswers,
		Silent: time.Duration(max(r.GuestSilentMs, 0)) * time.Millisecond, Watchdog: time.Duration(max(r.WatchdogMs, 0)) * time.Millisecond, Paused: r.WatchdogPaused}
}

// notListed counts a VM of the host that a report does not show. Twice in a row
// makes it missing. A VM whose start the agent may not know of yet, that is
// known to be gone, or that is off and ours, is not expected to be there.
func (x *Memory) notListed(h *fsm.Host, v *fsm.VM, d *Difference) {
	ours := v.ProtectedBy != fsm.Unprotected || v.Incarnation != 0
	if v.Power == fsm.PowerReportMissing || ours && (v.Gone || v.Power == fsm.PowerOff) || ordered(h, v.ID) {
		return
	}
	if x.absent == nil {
		x.absent = map[fsm.VMID]int{}
	}
	x.absent[v.ID]++
	if x.absent[v.ID] >= missedReports {
		if len(d.Report.Missing) >= maxReport {
			d.Partly = true
			return
		}
		d.Report.Missing = append(d.Report.Missing, v.ID[:]...)
		delete(x.absent, v.ID)
	}
}

func ordered(h *fsm.Host, id fsm.VMID) bool {
	return slices.ContainsFunc(h.Orders, func(o *fsm.Order) bool { return o.VM == id && o.Kind == fsm.OrderStart })
}
