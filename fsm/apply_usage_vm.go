package fsm

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"lifeboat/fsm/logpb"
)

// touch remembers a host as it was before the command.
func (t *tx) touch(id HostID) {
	if t.s.Level < LevelPolicy || !t.s.Policy.UsageVMs {
		return
	}
	if _, ok := t.touched[id]; ok {
		return
	}
	if t.touched == nil {
		t.touched = map[HostID]*Host{}
	}
	t.touched[id] = t.s.Host(id)
}

// meter lets the usage of VMs follow from what a command has made of their hosts. It
// looks at what is, so that no way to change a VM can be forgotten.
func (t *tx) meter() {
	if len(t.touched) == 0 || !t.s.Policy.UsageVMs {
		return
	}
	var ids []VMID
	for _, id := range slices.Sorted(maps.Keys(t.touched)) {
		ids = changedVMs(ids, t.touched[id], t.s.Host(id))
	}
	slices.SortFunc(ids, func(a, b VMID) int { return bytes.Compare(a[:], b[:]) })
	t.meterVMs(slices.Compact(ids))
}

// changedVMs appends the VMs whose usage may differ between two versions of a host.
func changedVMs(ids []VMID, was, is *Host) []VMID {
	var a, b []VM
	if was != nil {
		a = was.VMs
	}
	if is != nil {
		b = is.VMs
	}
	if len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) {
		return ids
	}
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && lessVM(a[0].ID, b[0].ID):
			ids, a = append(ids, a[0].ID), a[1:]
		case len(a) == 0 || lessVM(b[0].ID, a[0].ID):
			ids, b = append(ids, b[0].ID), b[1:]
		default:
			if a[0].Power != b[0].Power || a[0].Gone != b[0].Gone {
				ids = append(ids, a[0].ID)
			}
			a, b = a[1:], b[1:]
		}
	}
	return ids
}

func (t *tx) meterVMs(ids []VMID) { t.meterVMsOf(0, ids) }

// meterVMsOf is meterVMs for one type of usage; 0 = all.
func (t *tx) meterVMsOf(typ uint32, ids []VMID) {
	var touched usageTouched
	for _, id := range ids {
		t.meterVM(typ, id, &touched)
	}
	for _, key := range touched.keys {
		r := t.s.UsageResource(key)
		t.chargedTo(touched.was[key].open, r.Open())
	}
}

// meterVM makes the usage of a VM what the state says of it, of one type or (0) of all.
func (t *tx) meterVM(typ uint32, id VMID, touched *usageTouched) {
	resource := id.String()
	for _, c := range t.s.vmCharges(id) {
		key := UsageKey{c.typ, resource}
		r := t.s.UsageResource(key)
		is := (*Owner)(nil)
		if r != nil {
			is = r.open
		}
		if c.agrees(is) || typ != 0 && c.typ != typ {
			continue
		}
		t.s.usage.heard(t.now)
		if r == nil {
			r = &UsageResource{Key: key}
		}
		touched.note(r)
		if is != nil {
			r = r.with(UsageFact{Time: t.now, Index: t.index, Kind: FactCloses})
		}
		if c.owner != nil {
			x := UsageFact{Time: t.now, Index: t.index, Kind: FactOpens, Owner: t.account(*c.owner)}
			if v, _ := t.s.VM(id); v != nil && v.Name != "" {
				x.Detail = &UsageDetail{Name: v.Name}
			}
			r = r.with(x)
		}
		t.s.usage.set(r.settle(t.s))
	}
}

// vmCharge is what the state says of one type of usage of a VM.
type vmCharge struct {
	typ   uint32
	owner *Owner // nil = it is not to be open
	// asIs: nothing is known, so it stays open or closed.
	asIs bool
}

func (c vmCharge) agrees(is *Owner) bool {
	switch {
	case c.asIs:
		return is == nil || c.owner == nil || *is == *c.owner
	case is == nil || c.owner == nil:
		return is == c.owner
	}
	return *is == *c.owner
}

// vmCharges says who is to be charged for a VM now.
func (s *State) vmCharges(id VMID) [2]vmCharge {
	out := [2]vmCharge{{typ: UsageRunningVM}, {typ: UsageAllocatedVM}}
	v, _ := s.VM(id)
	if v == nil || !s.Policy.UsageVMs {
		return out
	}
	o := s.VMOwner(id)
	out[1].owner = &o
	switch {
	case v.Gone || v.Power == PowerOff:
	case v.Power == PowerOn:
		out[0].owner = &o
	default:
		out[0].owner, out[0].asIs = &o, true
	}
	return out
}

// UsageAstray are VMs whose usage, of one type or (0) of all, is not what the state says
// of them, at most most of them: those that were there before usage was counted, or went
// while it was not. It reads all VMs.
func (s *State) UsageAstray(typ uint32, most int) (ids []VMID) {
	if s.Level < LevelPolicy {
		return nil
	}
	note := func(id VMID) bool {
		for _, c := range s.vmCharges(id) {
			if typ != 0 && c.typ != typ {
				continue
			}
			var is *Owner
			if r := s.UsageResource(UsageKey{c.typ, id.String()}); r != nil {
				is = r.open
			}
			if !c.agrees(is) {
				ids = append(ids, id)
				break
			}
		}
		return len(ids) < most
	}
	if s.Policy.UsageVMs {
		for id := range s.owner.all() {
			if !note(id) {
				return ids
			}
		}
	}
	for key, r := range s.UsageResources(UsageKey{Type: UsageRunningVM}) {
		if key.Type > UsageAllocatedVM {
			break
		}
		if id, err := ParseVMID(key.Resource); err == nil && r.open != nil {
			if v, _ := s.VM(id); (v == nil || !s.Policy.UsageVMs) && !slices.Contains(ids[max(0, len(ids)-1):], id) && !note(id) {
				break
			}
		}
	}
	slices.SortFunc(ids, func(a, b VMID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(ids)
}

// maxUsageSync is how many VMs one entry looks at.
const maxUsageSync = 1000

func (t *tx) usageSync(c *logpb.UsageSync) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	if len(c.Vms) > maxUsageSync {
		return fmt.Sprintf("an entry looks at %d VMs at most", maxUsageSync)
	}
	var ids []VMID
	for _, b := range c.Vms {
		if id, ok := vmID(b); ok {
			ids = append(ids, id)
		}
	}
	t.meterVMsOf(c.Type, ids)
	return ""
}

func (t *tx) usageOwnerSet(c *logpb.UsageOwnerSet) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	id, ok := vmID(c.Vm)
	v, _ := t.s.VM(id)
	o := ownerFromLog(c.Account)
	switch {
	case !ok || v == nil && o.Account != "":
		return fmt.Sprintf("there is no VM %s; `lifeboat vm list` shows them", id)
	case max(len(o.Account), len(o.Domain), len(o.Project)) > maxUsageText:
		return fmt.Sprintf("the name of an account is longer than %d bytes", maxUsageText)
	}
	if a := t.s.Account(o); a != nil && a.Removed != 0 {
		return fmt.Sprintf("account %s was removed at %s, so nothing can begin for it", o, usageTime(a.Removed))
	}
	was, had := t.s.usage.owners.get(id)
	switch {
	case o.Account == "" && !had, had && *was == o:
		return ""
	case o.Account == "":
		t.s.usage.setOwner(id, nil)
	default:
		t.s.usage.heard(t.now)
		t.s.usage.setOwner(id, t.account(o))
	}
	if v != nil {
		t.event("USAGE.OWNER", Info, vmSubject(v), "VM %s is charged to %s", v.Name, t.s.VMOwner(id))
	}
	t.meterVMs([]VMID{id})
	return ""
}

// settleAfter facts of a VM, those that lie in closed windows are replaced by sums.
const settleAfter = 128

// settle gives up the facts of a VM that lie in closed windows, for what they make
// there. Facts that follow from the state are told as they happen, so no correction is
// ever to come.
func (r *UsageResource) settle(s *State) *UsageResource {
	last := s.LastUsageWindow()
	if len(r.Facts) < settleAfter || last == nil || last.End <= r.SettledTo {
		return r
	}
	list, _ := r.Intervals()
	n := *r
	n.Settled = slices.Clone(r.Settled)
	for _, w := range s.UsageWindows(r.SettledTo) {
		for _, x := range shares(list, w) {
			n.Settled = append(n.Settled, UsageSettled{w.Start, x.owner, x.detail, x.used, x.first, x.last})
		}
	}
	n.SettledTo = last.End
	i := 0
	for i < len(r.Facts) && r.Facts[i].Time <= last.End {
		i++
	}
	// What goes on over the border stays, and so do facts of the same time as its begin.
	for i > 0 {
		if before, _ := fold(r.Facts[:i], ^uint64(0)); len(before) == 0 || before[len(before)-1].End != 0 {
			break
		}
		i--
	}
	for i > 0 && i < len(r.Facts) && r.Facts[i-1].Time == r.Facts[i].Time {
		i--
	}
	n.Facts = slices.Clone(r.Facts[i:])
	return &n
}
