package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// The digest of usage is kept as it is written: a record leaves the sum as it was, and
// comes in as it is.

// hashUsage hashes a resource. It is what telling does most, so it is written down by
// hand.
func hashUsage(r *UsageResource) uint64 {
	var buf [512]byte
	b := binary.LittleEndian.AppendUint32(append(buf[:0], 'u'), r.Key.Type)
	b = appendText(b, r.Key.Resource)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.SettledTo))
	b = binary.AppendUvarint(b, uint64(len(r.Facts)))
	for i := range r.Facts {
		x := &r.Facts[i]
		b = append(appendText(b, x.ID), byte(x.Kind))
		b = binary.LittleEndian.AppendUint64(b, uint64(x.Time))
		b = binary.LittleEndian.AppendUint64(b, x.Index)
		b = appendDetail(appendOwner(b, x.Owner), x.Detail)
	}
	for i := range r.Settled {
		x := &r.Settled[i]
		for _, n := range []int64{x.Start, x.Used, x.First, x.Last} {
			b = binary.LittleEndian.AppendUint64(b, uint64(n))
		}
		b = appendDetail(appendOwner(b, x.Owner), x.Detail)
	}
	return xxhash.Sum64(b)
}

func appendOwner(b []byte, o *Owner) []byte {
	if o == nil {
		return append(b, 0)
	}
	return appendText(appendText(appendText(append(b, 1), o.Domain), o.Account), o.Project)
}

func appendDetail(b []byte, d *UsageDetail) []byte {
	if d == nil {
		return append(b, 0)
	}
	b = binary.LittleEndian.AppendUint64(append(b, 1), d.Size)
	return appendText(appendText(appendText(b, d.Offering), d.Zone), d.Name)
}

func hashUsageRecord(r *logpb.Record) uint64 {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
	if err != nil {
		panic("fsm: a record cannot be encoded: " + err.Error()) // not valid UTF-8; refused at the door
	}
	return xxhash.Sum64(b)
}

func (u *usageState) setAccount(a *Account) {
	if old, _ := u.accounts.get(*a.Owner); old != nil {
		u.sum ^= hashUsageRecord(accountRecord(old))
	}
	u.sum ^= hashUsageRecord(accountRecord(a))
	u.accounts.set(*a.Owner, a)
}

func (u *usageState) setWindow(w *UsageWindow) {
	u.sum ^= hashUsageRecord(windowRecord(w))
	u.windows.set(w.Start, w)
}

func (u *usageState) dropWindow(w *UsageWindow) {
	u.sum ^= hashUsageRecord(windowRecord(w))
	u.windows.delete(w.Start)
}

// setOwner stores an operator's word about a VM; nil takes it back.
func (u *usageState) setOwner(id VMID, o *Owner) {
	if old, ok := u.owners.get(id); ok {
		u.sum ^= hashUsageRecord(vmOwnerRecord(id, old))
		u.owners.delete(id)
	}
	if o != nil {
		u.sum ^= hashUsageRecord(vmOwnerRecord(id, o))
		u.owners.set(id, o)
	}
}

// digest is the part of usage in the digest of the state. Types are few and change
// seldom: they are hashed each time.
func (u *usageState) digest() uint64 {
	sum := u.sum
	for _, n := range u.registry.added {
		sum ^= hashUsageRecord(typeRecord(n))
	}
	return sum
}

// sumAnew is sum from scratch.
func (u *usageState) sumAnew() (sum uint64) {
	u.each(func(r *logpb.Record) {
		if r.GetUsageResource() == nil && r.GetUsageType() == nil {
			sum ^= hashUsageRecord(r)
		}
	})
	for _, r := range u.resources.all() {
		sum ^= hashUsage(r)
	}
	return sum
}

// each walks the records of a snapshot: accounts first, since what follows shares them.
func (u *usageState) each(f func(*logpb.Record)) {
	for _, a := range u.accounts.all() {
		f(accountRecord(a))
	}
	for _, n := range u.registry.added {
		f(typeRecord(n))
	}
	for _, w := range u.windows.all() {
		f(windowRecord(w))
	}
	for id, o := range u.owners.all() {
		f(vmOwnerRecord(id, o))
	}
	for _, r := range u.resources.all() {
		f(resourceRecord(r))
	}
}

func ownerFromLog(p *logpb.UsageAccount) Owner {
	return Owner{p.GetDomain(), p.GetAccount(), p.GetProject()}
}

func ownerToLog(o *Owner) *logpb.UsageAccount {
	if o == nil {
		return nil
	}
	return &logpb.UsageAccount{Domain: o.Domain, Account: o.Account, Project: o.Project}
}

func detailFromLog(p *logpb.UsageDetail) *UsageDetail {
	if d := (UsageDetail{p.GetSize(), p.GetOffering(), p.GetZone(), p.GetName()}); d != (UsageDetail{}) {
		return &d
	}
	return nil
}

func detailToLog(d *UsageDetail) *logpb.UsageDetail {
	if d == nil {
		return nil
	}
	return &logpb.UsageDetail{Size: d.Size, Offering: d.Offering, Zone: d.Zone, Name: d.Name}
}

func accountRecord(a *Account) *logpb.Record {
	return &logpb.Record{Body: &logpb.Record_UsageAccount{UsageAccount: &logpb.UsageAccountRecord{Account: ownerToLog(a.Owner), SinceUnixNs: a.Since, RemovedUnixNs: a.Removed}}}
}

func typeRecord(n *UsageType) *logpb.Record {
	return &logpb.Record{Body: &logpb.Record_UsageType{UsageType: &logpb.UsageTypeSet{Id: n.ID, Name: n.Name, Opens: n.Opens, Closes: n.Closes, Changes: n.Changes}}}
}

func windowRecord(w *UsageWindow) *logpb.Record {
	return &logpb.Record{Body: &logpb.Record_UsageWindow{UsageWindow: &logpb.UsageWindowRecord{StartUnixNs: w.Start, EndUnixNs: w.End, Index: w.Index, ClosedUnixNs: w.Closed, Zone: w.Zone, Unit: w.Unit}}}
}

func vmOwnerRecord(id VMID, o *Owner) *logpb.Record {
	return &logpb.Record{Body: &logpb.Record_UsageOwner{UsageOwner: &logpb.UsageOwnerSet{Vm: id[:], Account: ownerToLog(o)}}}
}

func resourceRecord(r *UsageResource) *logpb.Record {
	p := &logpb.UsageResourceRecord{Type: r.Key.Type, Resource: r.Key.Resource, SettledUnixNs: r.SettledTo}
	for i := range r.Facts {
		x := &r.Facts[i]
		p.Facts = append(p.Facts, &logpb.UsageFact{Id: x.ID, TimeUnixNs: x.Time, Index: x.Index, Kind: uint32(x.Kind), Account: ownerToLog(x.Owner), Detail: detailToLog(x.Detail)})
	}
	for i := range r.Settled {
		x := &r.Settled[i]
		p.Settled = append(p.Settled, &logpb.UsageSettled{StartUnixNs: x.Start, Account: ownerToLog(x.Owner), Detail: detailToLog(x.Detail), UsedNs: x.Used, FirstUnixNs: x.First, LastUnixNs: x.Last})
	}
	return &logpb.Record{Body: &logpb.Record_UsageResource{UsageResource: p}}
}

// loadUsage adds one record of usage to a state that is being read.
func (s *State) loadUsage(rec *logpb.Record) error {
	u := &s.usage
	switch b := rec.Body.(type) {
	case *logpb.Record_UsageAccount:
		o := ownerFromLog(b.UsageAccount.Account)
		if s.Account(o) != nil {
			return fmt.Errorf("account %s is there twice", o)
		}
		u.setAccount(&Account{Owner: &o, Since: b.UsageAccount.SinceUnixNs, Removed: b.UsageAccount.RemovedUnixNs})
	case *logpb.Record_UsageType:
		p := b.UsageType
		if t := u.registry.get(p.Id); t != nil && t.Added {
			return fmt.Errorf("usage type %d is there twice", p.Id)
		}
		u.registry = newRegistry(append(u.registry.added, &UsageType{ID: p.Id, Name: p.Name, Opens: p.Opens, Closes: p.Closes, Changes: p.Changes, Added: true}))
	case *logpb.Record_UsageWindow:
		p := b.UsageWindow
		if last := s.LastUsageWindow(); last != nil && last.End != p.StartUnixNs {
			return errors.New("the windows of usage do not join")
		}
		u.setWindow(&UsageWindow{p.StartUnixNs, p.EndUnixNs, p.Index, p.ClosedUnixNs, p.Zone, p.Unit})
	case *logpb.Record_UsageOwner:
		id, ok := vmID(b.UsageOwner.Vm)
		if _, there := u.owners.get(id); !ok || there {
			return fmt.Errorf("what is said of the account of VM %s is there twice, or of no VM", id)
		}
		o, err := s.knownOwner(b.UsageOwner.Account)
		if err != nil || o == nil {
			return fmt.Errorf("VM %s: %w", id, errors.Join(errors.New("is charged to no account"), err))
		}
		u.setOwner(id, o)
	case *logpb.Record_UsageResource:
		r, err := s.resourceFromLog(b.UsageResource)
		if err != nil {
			return fmt.Errorf("usage %d %s: %w", b.UsageResource.Type, b.UsageResource.Resource, err)
		}
		if s.UsageResource(r.Key) != nil {
			return fmt.Errorf("usage %d %s is there twice", r.Key.Type, r.Key.Resource)
		}
		u.set(r)
	}
	return nil
}

// knownOwner is the shared name of an account that was read before; nil for none.
func (s *State) knownOwner(p *logpb.UsageAccount) (*Owner, error) {
	if p == nil {
		return nil, nil
	}
	a := s.Account(ownerFromLog(p))
	if a == nil {
		return nil, fmt.Errorf("there is no account %s", ownerFromLog(p))
	}
	return a.Owner, nil
}

func (s *State) resourceFromLog(p *logpb.UsageResourceRecord) (*UsageResource, error) {
	r := &UsageResource{Key: UsageKey{p.Type, p.Resource}, SettledTo: p.SettledUnixNs}
	if len(p.Facts) > 0 {
		r.Facts = make([]UsageFact, 0, len(p.Facts))
	}
	for _, f := range p.Facts {
		o, err := s.knownOwner(f.Account)
		if err != nil {
			return nil, err
		}
		x := UsageFact{f.Id, f.TimeUnixNs, f.Index, FactKind(f.Kind), o, detailFromLog(f.Detail)}
		switch n := len(r.Facts); {
		case x.Kind < FactOpens || x.Kind > FactChanges || f.Kind > uint32(FactChanges) || x.Kind == FactOpens && o == nil:
			return nil, errors.New("a fact says nothing")
		case n > 0 && compareFacts(r.Facts[n-1], x) > 0:
			return nil, errors.New("its facts are out of order")
		}
		r.Facts = append(r.Facts, x)
	}
	for _, f := range p.Settled {
		o, err := s.knownOwner(f.Account)
		if err != nil || o == nil {
			return nil, errors.Join(errors.New("a settled window has no account"), err)
		}
		r.Settled = append(r.Settled, UsageSettled{f.StartUnixNs, o, detailFromLog(f.Detail), f.UsedNs, f.FirstUnixNs, f.LastUnixNs})
	}
	return r, nil
}
