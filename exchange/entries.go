package exchange

import (
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm/logpb"
)

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
	if named || s.refused != 0 || s.failed != 0 || s.order != 0 || s.answers {
		d := &logpb.VMDetail{Pos: uint32(w.n), Refused: s.refused, Failed: s.failed, Failure: Text(r.Failure), Autostart: r.Autostart, GuestAnswers: s.answers}
		if s.order != 0 {
			d.Order, d.OrderFailure = s.order, Text(r.OrderFailure)
		}
		if named {
			d.Name = Text(r.Name)
		}
		w.e.Details = append(w.e.Details, d)
		w.size += len(d.Name) + len(d.Failure) + len(d.OrderFailure) + detailSize
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

// Registration writes what a host says of itself for the log. whole: all of its
// VMs are in it; of the others its reports tell.
func Registration(req *lifeboatv1.RegisterRequest) (c *logpb.HostRegister, whole bool) {
	var entries entryWriter
	for _, r := range req.Vms {
		if entries.full() {
			break
		}
		entries.add(r, read(r), true)
	}
	c = &logpb.HostRegister{
		Id: req.HostId, MachineId: Text(req.MachineId), BootId: Text(req.BootId), Session: Text(req.Session), Version: Text(req.Version),
		FeatureLevel: req.FeatureLevel, ProbeAddrs: texts(req.ProbeAddrs), Inventory: inventoryToLog(req.Inventory),
		HardwareId: Text(req.HardwareId), Watchdog: uint32(req.Watchdog), WatchdogBoundNs: req.WatchdogBoundMs * int64(time.Millisecond),
		Vms: entries.done(), NodeId: Text(req.NodeId), Ticket: req.Ticket,
	}
	for _, l := range req.Labels {
		c.Labels = append(c.Labels, &logpb.Label{Key: Text(l.Key), Value: Text(l.Value)})
	}
	return c, entries.n == len(req.Vms)
}
