package ha

import (
	"fmt"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// resumeAfter is how long a VM stays paused before it is resumed on a storage
// that reads as good: the I/O error is often known before the storage's state.
const resumeAfter = 10 * time.Second

// storage looks at the VMs that are paused on an I/O error (S18). One whose
// storage its host reaches is resumed. One whose storage is lost to its host is
// given up there after a while, if another host sees it; what cannot be known,
// like a disk on the network, is not moved: it would be lost for nothing.
func (d *decision) storage() {
	if !d.s.Armed {
		return
	}
	for _, h := range d.stalled {
		for i := range h.VMs {
			v := &h.VMs[i]
			if v.Stalled() && v.Protected() && v.Wanted && v.Work == 0 && v.Spec != nil && !removing(h, v) {
				d.stall(h, v)
			}
		}
	}
}

func (d *decision) stall(h *fsm.Host, v *fsm.VM) {
	lost := ""
	if h.Inventory != nil {
		lost = broken(h.Inventory, v.Spec.Disks())
	}
	if lost == "" {
		if at := v.Since + int64(resumeAfter); d.now.Wall < at {
			d.wakeAt(at)
		} else if !ordered(h, v, fsm.OrderResume) {
			d.aboutStorage(v, fsm.StorageBack, "its storage is there again")
		}
		return
	}
	if at := v.Since + int64(d.p.StorageLossAfter); d.now.Wall < at {
		d.wakeAt(at)
		return
	}
	j := job{vm: v, owner: h, work: &fsm.Work{Cause: fsm.CauseStorage, From: h.ID}, gone: true}
	if t, _, full := d.placer().find(j); t != nil && t.h != h {
		d.aboutStorage(v, fsm.StorageLost, fmt.Sprintf("%s for %s; host %s sees it", lost, d.p.StorageLossAfter, t.h.ID))
	} else if !full {
		d.wake(d.now.Mono + noTargetRetry)
	}
}

func (d *decision) aboutStorage(v *fsm.VM, action uint32, why string) {
	d.do(&logpb.Command{Body: &logpb.Command_VmStorage{VmStorage: &logpb.VMStorage{
		Vm: v.ID[:], Incarnation: uint64(v.Incarnation), Action: action, Reason: why}}})
}
