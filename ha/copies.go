package ha

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// copySettle is how long after the first report of a copy both hosts must have
// looked again: a migration behind our back shows its VM on two hosts for a
// moment, and the copy may have been noted by another leader's clock (S21).
const copySettle = 3 * time.Second

// copies judges the VMs that run twice (S6). A copy that nobody was granted is
// destroyed when both hosts have looked since and both see it run, and the two
// write to one disk. Whatever cannot be known leaves it as it is, with the alert
// that it has raised.
func (d *decision) copies() {
	if !d.s.Armed {
		return
	}
	for _, h := range d.copied {
		for i := range h.Copies {
			switch c := &h.Copies[i]; {
			case d.s.Rival(h, c):
				d.rival(h, c)
			case d.s.Stubborn(h, c):
				d.stubborn(h, c)
			}
		}
	}
}

func (d *decision) rival(h *fsm.Host, c *fsm.Copy) {
	v, owner := d.s.VM(c.VM)
	disk, apart, known := d.compare(v, owner, h, c.Since+int64(copySettle))
	switch {
	case !known:
		d.wake(d.now.Mono + d.p.Beat)
	case disk != "":
		d.judge(v, h, fsm.CopyDestroy, "both write to "+disk)
	case apart:
		d.judge(v, h, fsm.CopyApart, "they share no writable disk")
	}
}

// compare holds the disks of a VM against those of its copy on h; not known before
// both hosts have looked at what runs there since.
func (d *decision) compare(v *fsm.VM, owner, h *fsm.Host, since int64) (disk string, apart, known bool) {
	mine, other := d.contact(owner), d.contact(h)
	if mine.Looked < since || other.Looked < since || !d.reports(mine) || !d.reports(other) {
		return "", false, false
	}
	copied, read := other.Copies[v.ID]
	if !read || v.Spec == nil || v.Spec.Problem != "" {
		return "", false, false
	}
	disk, apart = shared(Domain{Disks: v.Spec.Open(), Bound: len(v.Spec.Local) > 0}, copied)
	return disk, apart, true
}

func (d *decision) judge(v *fsm.VM, h *fsm.Host, action uint32, why string) {
	c := &logpb.VMCopy{Vm: v.ID[:], Incarnation: uint64(v.Incarnation), Host: string(h.ID), Epoch: h.Epoch, Action: action, Reason: why}
	if x := d.contact(h).Copies[v.ID]; action == fsm.CopyApart {
		c.Name, c.Hash = x.Name, []byte(x.Hash) // one with another definition is another one
	}
	d.do(&logpb.Command{Body: &logpb.Command_VmCopy{VmCopy: c}})
}

// unsure says why a VM may run on another host than its own, and nobody starts it;
// "" when none does. A host that runs another machine with its UUID, as far as is
// known, is asked whether it still is that one: the VM may have come there since in
// its place (S6, S18). A host to which the VM was being migrated may have it by now.
func (d *decision) unsure(v *fsm.VM, w *fsm.Work) string {
	for _, h := range d.copied {
		if c := h.Copy(v.ID); c != nil && c.Apart && !unread(h) && d.contact(h).Copies[v.ID].Work != w.ID {
			d.wake(d.now.Mono + d.p.Beat)
			return fmt.Sprintf("host %s runs another machine with its UUID, and is asked whether it still is that one", h.ID)
		}
	}
	if len(d.goals) == 0 {
		return ""
	}
	if h := d.s.Host(d.goals[v.ID]); h != nil && h.HA != fsm.HAFenced && h.Status != fsm.Removed && h.VM(v.ID) == nil {
		d.wake(d.now.Mono + d.p.Beat)
		return fmt.Sprintf("it was being migrated to host %s (%s) when that was last heard: that host must report, or be proven dead", h.ID, h.Status)
	}
	return ""
}

// shared names a disk that two domains on two hosts both write to. apart: there
// is certainly none; when neither is so, nobody can tell. A disk that is made to
// be written by several is none.
func shared(a, b Domain) (disk string, apart bool) {
	at := map[string]bool{} // where a writes → others may, too
	unknown := mayBeOne(a, b) || mayBeOne(b, a)
	for _, x := range a.Disks {
		switch w, known := whereabouts(x, a.Bound); {
		case x.ReadOnly:
		default:
			unknown = unknown || !known
			at[w] = x.Shareable
		}
	}
	for _, y := range b.Disks {
		w, known := whereabouts(y, b.Bound)
		if y.ReadOnly {
			continue
		}
		unknown = unknown || !known
		if others, same := at[w]; w != "" && same && !(others && y.Shareable) {
			return y.Path + " (" + w + ")", false
		}
	}
	return "", !unknown
}

// mayBeOne reports whether a disk of a may be one of b by another name. The host of
// a file on no storage that is known may have mounted one that nobody has declared.
func mayBeOne(a, b Domain) bool {
	for _, x := range a.Disks {
		if !x.ReadOnly && under(x, a, b) {
			return true
		}
		if x.ReadOnly || !x.Network && x.Storage != "" {
			continue
		}
		if x.Network {
			n := netDiskOf(x)
			if slices.ContainsFunc(b.Disks, func(y fsm.Disk) bool { return !y.ReadOnly && n.mayBe(y) }) {
				return true
			}
			continue
		}
		if slices.ContainsFunc(b.Disks, func(y fsm.Disk) bool { return !y.ReadOnly && path.Base(y.Path) == path.Base(x.Path) }) {
			return true
		}
	}
	return false
}

// under reports whether b may read, below a disk of its own, what a writes to a disk:
// a snapshot was taken of one of them. It is no other machine, and which of the two
// is right nobody can tell.
func under(x fsm.Disk, a, b Domain) bool {
	at, _ := whereabouts(x, a.Bound)
	return slices.ContainsFunc(b.Disks, func(y fsm.Disk) bool {
		w, known := whereabouts(y, b.Bound)
		return y.Backing && (w != "" && w == at || (at == "" || !known) && path.Base(y.Path) == path.Base(x.Path))
	})
}

// whereabouts says which bytes a disk is, however its host has mounted them; ""
// when they are its host's own, or cannot be compared. known: what is elsewhere is
// another disk.
func whereabouts(x fsm.Disk, bound bool) (at string, known bool) {
	switch {
	case x.Network:
		n := netDiskOf(x)
		if n.servers != "" {
			at = x.Path
		}
		return at, n.named()
	case x.Storage == "":
		return "", bound
	}
	base, dir, ok := strings.Cut(x.Storage, "@")
	if !ok {
		dir = base
	}
	switch rest, in := strings.CutPrefix(x.Path, strings.TrimSuffix(dir, "/")+"/"); {
	case in:
		return base + "/" + rest, true
	case !strings.HasPrefix(x.Path, "/"): // pool/volume
		_, volume, _ := strings.Cut(x.Path, "/")
		return base + "/" + volume, true
	}
	return x.Storage + " " + x.Path, true
}
