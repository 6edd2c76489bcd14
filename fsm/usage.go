package fsm

import (
	"cmp"
	"iter"
	"strings"
)

// UsageKey names a resource: what kind of usage, and the id that who tells of it
// gives it. A VM's is its UUID.
type UsageKey struct {
	Type     uint32
	Resource string
}

func lessUsage(a, b UsageKey) bool {
	if a.Type != b.Type {
		return a.Type < b.Type
	}
	return a.Resource < b.Resource
}

// Owner is who is charged. Domain and Project may be empty.
type Owner struct{ Domain, Account, Project string }

// String writes the owner as DOMAIN/ACCOUNT, with the project in brackets.
func (o Owner) String() string {
	s := o.Account
	if o.Domain != "" {
		s = o.Domain + "/" + s
	}
	if o.Project != "" {
		s += " (" + o.Project + ")"
	}
	return s
}

// ParseOwner reads DOMAIN/ACCOUNT, where the domain may hold slashes of its own, or
// ACCOUNT alone.
func ParseOwner(s string) Owner {
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		return Owner{Domain: s[:i], Account: s[i+1:]}
	}
	return Owner{Account: s}
}

func lessOwner(a, b Owner) bool {
	return cmp.Or(strings.Compare(a.Domain, b.Domain), strings.Compare(a.Account, b.Account), strings.Compare(a.Project, b.Project)) < 0
}

// Account is an owner that somebody has named.
type Account struct {
	Owner   *Owner // shared by all that it owns
	Since   int64  // unix ns, of the entry that named it first
	Removed int64  // unix ns; 0 = it is there
}

// UsageDetail is what else is told of a resource, for who reads the records.
type UsageDetail struct {
	Size     uint64 // bytes
	Offering string
	Zone     string
	Name     string
}

// FactKind is what a fact does to its resource. The numbers are the log's.
type FactKind uint8

const (
	FactOpens FactKind = iota + 1
	FactCloses
	FactChanges
)

func (k FactKind) String() string { return name(int(k), "", "opens", "closes", "changes") }

// UsageFact is something that happened to a resource.
type UsageFact struct {
	ID     string // of the event, as who told it calls it; empty = it follows from the state
	Time   int64  // unix ns, when it happened
	Index  uint64 // of the entry that told it
	Kind   FactKind
	Owner  *Owner // of one that opens; of one that changes, nil = as before
	Detail *UsageDetail
}

// UsageResource is what is known of a resource. It is never changed in place.
type UsageResource struct {
	Key   UsageKey
	Facts []UsageFact // by time, kind and id
	// Settled holds the windows up to SettledTo, whose facts are not kept.
	Settled   []UsageSettled
	SettledTo int64 // unix ns; 0 = none is settled

	open  *Owner // of the interval without an end; nil = there is none
	wrong int    // facts that do not fit
	told  uint64 // index of the newest entry that told something of it which is kept
}

// UsageSettled is what a window holds of a resource for good.
type UsageSettled struct {
	Start  int64 // of the window
	Owner  *Owner
	Detail *UsageDetail
	Used   int64 // ns
	First  int64 // begin and end of it within the window, unix ns
	Last   int64
}

// Open is who is charged for the resource now; nil = nobody.
func (r *UsageResource) Open() *Owner { return r.open }

// Trouble is the number of facts that do not fit.
func (r *UsageResource) Trouble() int { return r.wrong }

// UsageWindow is a stretch of time that has been closed: what comes later is a
// correction.
type UsageWindow struct {
	Start, End int64  // unix ns
	Index      uint64 // of the entry that closed it
	Closed     int64  // unix ns
	Zone       string // by which it was reckoned
	Unit       string // hour or day
}

// usageState is the part of a State that is about usage. See
// docs/decisions/usage-is-facts.md.
type usageState struct {
	since    int64 // when the first was heard of usage, unix ns; 0 = nothing was
	kept     int64 // what ended before may have been given up, unix ns
	sum      uint64
	troubled int
	registry *usageRegistry

	resources table[UsageKey, *UsageResource]
	windows   table[int64, *UsageWindow]
	accounts  table[Owner, *Account]
	owners    table[VMID, *Owner] // an operator's word
	tally     table[tallyKey, UsageTally]
	told      table[toldKey, struct{}]
}

// toldKey orders resources by when something was told of them last. It is worked out anew
// from a snapshot.
type toldKey struct {
	index uint64
	key   UsageKey
}

func lessTold(a, b toldKey) bool {
	if a.index != b.index {
		return a.index < b.index
	}
	return lessUsage(a.key, b.key)
}

// tallyKey counts by account and type. It is worked out anew from a snapshot.
type tallyKey struct {
	owner Owner
	typ   uint32
}

// UsageTally counts resources. Known are those of which something is kept.
type UsageTally struct{ Open, Known int }

func lessTally(a, b tallyKey) bool {
	if a.owner != b.owner {
		return lessOwner(a.owner, b.owner)
	}
	return a.typ < b.typ
}

func newUsage() usageState {
	return usageState{registry: newRegistry(nil),
		resources: newTable[UsageKey, *UsageResource](lessUsage),
		windows:   newTable[int64, *UsageWindow](less[int64]),
		accounts:  newTable[Owner, *Account](lessOwner),
		owners:    newTable[VMID, *Owner](lessVM),
		tally:     newTable[tallyKey, UsageTally](lessTally),
		told:      newTable[toldKey, struct{}](lessTold)}
}

func (u usageState) clone() usageState {
	u.resources, u.windows, u.accounts = u.resources.clone(), u.windows.clone(), u.accounts.clone()
	u.owners, u.tally, u.told = u.owners.clone(), u.tally.clone(), u.told.clone()
	return u
}

// heard notes that there is something about usage.
func (u *usageState) heard(now int64) {
	if u.since == 0 {
		u.since = now
	}
}

// set stores a resource; one without facts and settled windows goes.
func (u *usageState) set(r *UsageResource) {
	old, _ := u.resources.get(r.Key)
	if old != nil {
		u.sum ^= hashUsage(old)
		u.count(old, -1)
		u.told.delete(toldKey{old.told, old.Key})
	}
	if len(r.Facts) == 0 && len(r.Settled) == 0 {
		u.resources.delete(r.Key)
		return
	}
	r.derive()
	u.sum ^= hashUsage(r)
	u.count(r, 1)
	u.told.set(toldKey{r.told, r.Key}, struct{}{})
	u.resources.set(r.Key, r)
}

// count adds a resource to the tally, or takes it out. Known are counted for nobody.
func (u *usageState) count(r *UsageResource, by int) {
	u.add(tallyKey{typ: r.Key.Type}, UsageTally{Known: by})
	if r.open != nil {
		u.add(tallyKey{owner: *r.open, typ: r.Key.Type}, UsageTally{Open: by})
	}
	if r.wrong > 0 {
		u.troubled += by
	}
}

func (u *usageState) add(k tallyKey, by UsageTally) {
	n, _ := u.tally.get(k)
	n.Open += by.Open
	n.Known += by.Known
	if n == (UsageTally{}) {
		u.tally.delete(k)
		return
	}
	u.tally.set(k, n)
}

// openOf is how many resources of an account are open.
func (u *usageState) openOf(o Owner) int {
	n := 0
	for k, x := range u.tally.from(tallyKey{owner: o}) {
		if k.owner != o {
			break
		}
		n += x.Open
	}
	return n
}

// UsageSince is when the first was heard of usage, unix ns; 0 = nothing was.
func (s *State) UsageSince() int64 { return s.usage.since }

// UsageKept is the time before which usage may have been given up, unix ns; 0 = all
// is there.
func (s *State) UsageKept() int64 { return s.usage.kept }

// CountUsage is how many resources there are of which usage is known, and in how many
// of them a fact does not fit.
func (s *State) CountUsage() (known, trouble int) {
	return s.usage.resources.len(), s.usage.troubled
}

// UsageTallies counts resources by type.
func (s *State) UsageTallies() map[uint32]UsageTally {
	out := map[uint32]UsageTally{}
	for k, x := range s.usage.tally.all() {
		n := out[k.typ]
		n.Open += x.Open
		n.Known += x.Known
		out[k.typ] = n
	}
	return out
}

// UsageOpenOf is how many resources of an owner are open.
func (s *State) UsageOpenOf(o Owner) int { return s.usage.openOf(o) }

// UsageResource returns what is known of a resource, nil when nothing is.
func (s *State) UsageResource(k UsageKey) *UsageResource {
	r, _ := s.usage.resources.get(k)
	return r
}

// UsageResources walks the resources by type and id, beginning at k.
func (s *State) UsageResources(k UsageKey) iter.Seq2[UsageKey, *UsageResource] {
	return s.usage.resources.from(k)
}

// UsageWindows walks the closed windows that are kept, beginning with the one that
// begins at start, or the next after it.
func (s *State) UsageWindows(start int64) iter.Seq2[int64, *UsageWindow] {
	return s.usage.windows.from(start)
}

// LastUsageWindow is the newest closed window, nil when there is none.
func (s *State) LastUsageWindow() *UsageWindow {
	for _, w := range s.usage.windows.down() {
		return w
	}
	return nil
}

// Accounts walks the accounts that somebody has named.
func (s *State) Accounts() iter.Seq2[Owner, *Account] { return s.usage.accounts.all() }

// Account returns an account, nil when nobody has named it.
func (s *State) Account(o Owner) *Account { a, _ := s.usage.accounts.get(o); return a }

// VMOwner is to whom a VM is charged: an operator's word, or the policy's account.
func (s *State) VMOwner(id VMID) Owner {
	if o, ok := s.usage.owners.get(id); ok {
		return *o
	}
	return ParseOwner(s.Policy.UsageAccount)
}

// outlives reports whether u is what is true when a state with was is restored: it is
// newer, unless it knows of nothing but VMs that came to a cluster which was founded to
// be restored into.
func (u *usageState) outlives(was *usageState) bool {
	return was.since == 0 || u.since != 0 && (u.windows.len() > 0 || u.since <= was.since)
}
