package fsm

import (
	"fmt"
	"slices"
	"strings"

	"lifeboat/fsm/logpb"
)

// UsageType is a kind of usage, and the events that begin, end and change it.
type UsageType struct {
	ID      uint32
	Name    string
	Opens   []string
	Closes  []string
	Changes []string
	// Derived: it follows from the VMs of the state, and no event tells of it.
	Derived bool
	Added   bool // by an operator; it replaces the default of its id
}

// The types that follow from the state.
const (
	UsageRunningVM   = 1
	UsageAllocatedVM = 2
)

// maxUsageTypes bounds how many types can be added.
const maxUsageTypes = 1000

// defaultUsageTypes are CloudStack's, with its ids and its names of events. The list
// is part of feature level 4: a later level may have another one.
func defaultUsageTypes() []*UsageType {
	of := func(id uint32, name, opens, closes string, changes ...string) *UsageType {
		return &UsageType{ID: id, Name: name, Opens: []string{opens}, Closes: []string{closes}, Changes: changes}
	}
	return []*UsageType{
		{ID: UsageRunningVM, Name: "RUNNING_VM", Derived: true},
		{ID: UsageAllocatedVM, Name: "ALLOCATED_VM", Derived: true},
		of(3, "IP_ADDRESS", "NET.IPASSIGN", "NET.IPRELEASE"),
		of(6, "VOLUME", "VOLUME.CREATE", "VOLUME.DELETE", "VOLUME.RESIZE"),
		of(7, "TEMPLATE", "TEMPLATE.CREATE", "TEMPLATE.DELETE"),
		of(8, "ISO", "ISO.CREATE", "ISO.DELETE"),
		of(9, "SNAPSHOT", "SNAPSHOT.CREATE", "SNAPSHOT.DELETE"),
		of(11, "LOAD_BALANCER_POLICY", "LB.CREATE", "LB.DELETE"),
		of(12, "PORT_FORWARDING_RULE", "NET.RULEADD", "NET.RULEDELETE"),
		of(13, "NETWORK_OFFERING", "NETWORK.OFFERING.ASSIGN", "NETWORK.OFFERING.REMOVE"),
		of(14, "VPN_USERS", "VPN.USER.ADD", "VPN.USER.REMOVE"),
		of(25, "VM_SNAPSHOT", "VMSNAPSHOT.CREATE", "VMSNAPSHOT.DELETE"),
		of(30, "NETWORK", "NETWORK.CREATE", "NETWORK.DELETE"),
		of(31, "VPC", "VPC.CREATE", "VPC.DELETE"),
	}
}

// usageRegistry finds types. It is replaced as a whole.
type usageRegistry struct {
	types   []*UsageType // by id
	added   []*UsageType
	byEvent map[string]usageVerb
}

// usageVerb is what an event does.
type usageVerb struct {
	typ  *UsageType
	kind FactKind
}

func newRegistry(added []*UsageType) *usageRegistry {
	g := &usageRegistry{added: added, types: slices.Clone(added), byEvent: map[string]usageVerb{}}
	for _, d := range defaultUsageTypes() {
		if !slices.ContainsFunc(added, func(t *UsageType) bool { return t.ID == d.ID }) {
			g.types = append(g.types, d)
		}
	}
	slices.SortFunc(g.types, func(a, b *UsageType) int { return int(a.ID) - int(b.ID) })
	for _, t := range g.types {
		for kind, events := range [][]string{FactOpens: t.Opens, FactCloses: t.Closes, FactChanges: t.Changes} {
			for _, e := range events {
				g.byEvent[e] = usageVerb{t, FactKind(kind)}
			}
		}
	}
	return g
}

func (g *usageRegistry) get(id uint32) *UsageType {
	i, ok := slices.BinarySearchFunc(g.types, id, func(t *UsageType, id uint32) int { return int(t.ID) - int(id) })
	if !ok {
		return nil
	}
	return g.types[i]
}

// UsageTypes lists the types by id.
func (s *State) UsageTypes() []*UsageType { return s.usage.registry.types }

// UsageType returns a type, nil when there is none of that id.
func (s *State) UsageType(id uint32) *UsageType { return s.usage.registry.get(id) }

// UsageTypeNamed finds a type by name or number, whatever the case; nil when there
// is none.
func (s *State) UsageTypeNamed(name string) *UsageType {
	for _, t := range s.usage.registry.types {
		if strings.EqualFold(t.Name, name) || fmt.Sprint(t.ID) == name {
			return t
		}
	}
	return nil
}

// usageTypeName is the name of a type for people, also of one that was taken out.
func (s *State) usageTypeName(id uint32) string {
	if t := s.UsageType(id); t != nil {
		return t.Name
	}
	return fmt.Sprintf("usage type %d", id)
}

func (t *tx) usageTypeSet(c *logpb.UsageTypeSet) string {
	if no := t.later(LevelPolicy); no != "" {
		return no
	}
	old := t.s.usage.registry
	n := &UsageType{ID: c.Id, Name: c.Name, Opens: c.Opens, Closes: c.Closes, Changes: c.Changes, Added: true}
	was := old.get(c.Id)
	rest := slices.DeleteFunc(slices.Clone(old.added), func(x *UsageType) bool { return x.ID == c.Id })
	if c.Remove {
		if len(rest) == len(old.added) {
			return fmt.Sprintf("nobody has added the usage type %d; `lifeboat usage types` shows them", c.Id)
		}
		next := newRegistry(rest)
		is := next.get(c.Id) // the default comes back, if there is one
		if no := next.collision(is); no != "" {
			return fmt.Sprintf("usage type %s cannot be taken out, and %s be there again: %s", was.Name, is.Name, no)
		}
		if !was.closedBy(is) {
			if no := t.stillOpen(was); no != "" {
				return fmt.Sprintf("usage type %s cannot be taken out: %s", was.Name, no)
			}
		}
		t.setUsageTypes(rest)
		t.event("USAGE.TYPE", Warning, "usage", "usage type %d (%s) is as it is by default again, or no more", c.Id, was.Name)
		return ""
	}
	if no := n.check(); no != "" {
		return no
	}
	switch {
	case was != nil && was.Derived:
		return fmt.Sprintf("usage type %s follows from the VMs of the state; no event tells of it", was.Name)
	case was != nil && was.Added && was.Name == n.Name && slices.Equal(was.Opens, n.Opens) && slices.Equal(was.Closes, n.Closes) && slices.Equal(was.Changes, n.Changes):
		return "" // said again
	case len(rest) >= maxUsageTypes:
		return fmt.Sprintf("there are %d usage types that were added, more than that is not possible", maxUsageTypes)
	}
	if no := newRegistry(rest).collision(n); no != "" {
		return no
	}
	if was != nil && !was.closedBy(n) {
		if no := t.stillOpen(was); no != "" {
			return fmt.Sprintf("usage type %s must still be closed by one of %s: %s", was.Name, strings.Join(was.Closes, ", "), no)
		}
	}
	t.setUsageTypes(append(rest, n))
	t.event("USAGE.TYPE", Info, "usage", "usage type %d (%s) is opened by %s and closed by %s", n.ID, n.Name, strings.Join(n.Opens, ", "), strings.Join(n.Closes, ", "))
	return ""
}

// collision says which type of another id has the name or an event of n; "" = none has,
// or n is nil.
func (g *usageRegistry) collision(n *UsageType) string {
	if n == nil {
		return ""
	}
	for _, x := range g.types {
		if x.ID == n.ID {
			continue
		}
		if strings.EqualFold(x.Name, n.Name) {
			return fmt.Sprintf("usage type %d is called %s already", x.ID, x.Name)
		}
		for _, e := range x.events() {
			if slices.Contains(n.events(), e) {
				return fmt.Sprintf("the event %s belongs to usage type %s; an event says one thing", e, x.Name)
			}
		}
	}
	return ""
}

// closedBy reports whether an event that closes n closes it as well when it is like is;
// nil is no type any more.
func (n *UsageType) closedBy(is *UsageType) bool {
	return is != nil && slices.ContainsFunc(n.Closes, func(e string) bool { return slices.Contains(is.Closes, e) })
}

// stillOpen says that resources of a type are open, which nothing could close without it;
// "" = none is.
func (t *tx) stillOpen(n *UsageType) string {
	open := t.s.UsageTallies()[n.ID].Open
	if open == 0 {
		return ""
	}
	count := "1 resource of it is"
	if open > 1 {
		count = fmt.Sprintf("%d resources of it are", open)
	}
	return fmt.Sprintf("%s open, and would be charged for ever; `lifeboat usage resources --type %s --open` shows what. Tell the end first (%s), or let `lifeboat usage repair --type %s --live-none --at TIME` close all",
		count, n.Name, n.Closes[0], n.Name)
}

func (t *tx) setUsageTypes(added []*UsageType) {
	slices.SortFunc(added, func(a, b *UsageType) int { return int(a.ID) - int(b.ID) })
	t.s.usage.registry = newRegistry(added)
}

func (n *UsageType) events() []string { return slices.Concat(n.Opens, n.Closes, n.Changes) }

// check says what is wrong with a type; "" = nothing.
func (n *UsageType) check() string {
	const most = 20
	events := n.events()
	switch {
	case n.ID == 0 || n.ID > 1<<20:
		return "a usage type has a number, 1 to 1048576; CloudStack's go up to 31"
	case !word(n.Name):
		return "the name of a usage type is of capital letters, digits, dots and underscores, for example GPU_HOURS"
	case len(n.Opens) == 0 || len(n.Closes) == 0:
		return fmt.Sprintf("usage type %s needs an event that opens it and one that closes it, for example GPU.ASSIGN and GPU.RELEASE", n.Name)
	case len(events) > most:
		return fmt.Sprintf("usage type %s names %d events, at most %d are possible", n.Name, len(events), most)
	}
	for i, e := range events {
		if !word(e) {
			return fmt.Sprintf("%q is no name of an event; write it like LB.CREATE", e)
		}
		if slices.Contains(events[:i], e) {
			return fmt.Sprintf("the event %s is there twice; an event says one thing", e)
		}
	}
	return ""
}

// word reports whether s is like LB.CREATE.
func word(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '.' && c != '_' && c != '-' && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 64
}
