package foresee

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"lifeboat/fsm"
	"lifeboat/ha"
)

// Verdict is what the failure of one host, or of several at once, would leave down.
type Verdict struct {
	Domain string       // "rack=a": all hosts of it; "" = those that Hosts names
	Hosts  []fsm.HostID // in natural order
	Lost   int          // VMs that would have to be started elsewhere
	Down   []Stay       // of them would not, and why
	// Unproven: more VMs than those in Down might stay down, nobody knows yet. Short says
	// what the proof lacks.
	Unproven bool
	Short    string
}

// Name is "host h1", "hosts h1 and h2" or "rack a".
func (v *Verdict) Name() string {
	if key, value, ok := strings.Cut(v.Domain, "="); ok {
		return key + " " + value
	}
	var b strings.Builder
	for i, h := range v.Hosts {
		switch {
		case i == 0 && len(v.Hosts) == 1:
			b.WriteString("host ")
		case i == 0:
			b.WriteString("hosts ")
		case i == len(v.Hosts)-1:
			b.WriteString(" and ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(string(h))
	}
	return b.String()
}

// failing names it as the subject of what would happen.
func (v *Verdict) failing() string {
	if v.Domain == "" && len(v.Hosts) > 1 {
		return v.Name() + " failing together"
	}
	return v.Name() + "'s failure"
}

// Safe reports whether it is proven that all VMs would be started again.
func (v *Verdict) Safe() bool { return !v.Unproven && len(v.Down) == 0 }

// Outlook is the proof as of one state.
type Outlook struct {
	Index   uint64
	Stopped string // why nothing at all would be started again; "" = it would
	// All are the hosts, in natural order, then the failure domains.
	All []Verdict
	// Together are the sets of Scope.Hosts hosts of which it is not proven that they may
	// fail at once, without those that leave down only what one of the set leaves down by itself.
	Together []Verdict
	// Unlisted are more such sets, of which there are too many to look at each.
	Unlisted int
	scope    Scope
}

// Scope is what may fail at once. The zero value: one host.
type Scope struct {
	Domains bool // and all hosts of a failure domain
	Hosts   int  // and any so many hosts, when more than 1
}

// ScopeOf is the scope that a policy asks for.
func ScopeOf(p *fsm.Policy) Scope { return Scope{Domains: p.N1Domains, Hosts: p.N1Hosts} }

// Domain is the label by which hosts are in one failure domain.
const Domain = "rack"

// Outlook says of each host by itself, of each failure domain of more than one host and
// of hosts together, as the scope asks, what their failure would leave down, as far as
// that is known without playing it through, or has been played through for this state.
func (p *Prover) Outlook(s *fsm.State, scope Scope) *Outlook {
	p.Look(s)
	if p.last != nil && p.lastAt == p.version && p.last.scope == scope {
		again := *p.last
		again.Index = s.Index
		return &again
	}
	out := &Outlook{Index: s.Index, scope: scope}
	if !s.Armed {
		out.Stopped = "HA is disarmed: whichever host fails, nothing is started again"
	}
	one := make([]*view, 1)
	racks := map[string][]*view{}
	for _, v := range p.order {
		if v.gone {
			continue
		}
		one[0] = v
		out.All = append(out.All, p.verdict(s, "", one))
		if rack := v.h.Label(Domain); scope.Domains && rack != "" {
			racks[rack] = append(racks[rack], v)
		}
	}
	var names []string
	for name, hosts := range racks {
		if len(hosts) > 1 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, ha.Natural)
	for _, name := range names {
		out.All = append(out.All, p.verdict(s, Domain+"="+name, racks[name]))
	}
	if scope.Hosts > 1 {
		p.together(s, out, scope.Hosts)
	}
	p.last = nil
	if !out.Open() { // else Rehearse writes into it
		p.last, p.lastAt = out, p.version
	}
	return out
}

// Open reports whether there is something to be played through.
func (o *Outlook) Open() bool {
	unproven := func(v Verdict) bool { return v.Unproven }
	return slices.ContainsFunc(o.All, unproven) || slices.ContainsFunc(o.Together, unproven)
}

func (p *Prover) verdict(s *fsm.State, domain string, dead []*view) Verdict {
	v := p.judge(s, dead)
	v.Domain = domain
	if v.Unproven && p.at == p.version {
		if down, ok := p.played[v.Name()]; ok {
			v.Down, v.Unproven, v.Short = down, false, ""
			return v
		}
	}
	sortStays(v.Down)
	return v
}

func sortStays(all []Stay) {
	slices.SortFunc(all, func(a, b Stay) int {
		return cmp.Or(cmp.Compare(b.Tier, a.Tier), ha.Natural(a.Name, b.Name), bytes.Compare(a.VM[:], b.VM[:]))
	})
}

// Rehearse plays the failures through that the proof leaves open, with the real
// decisions, one after the other until enough says so. What comes out is remembered until
// something changes that it may depend on.
func (p *Prover) Rehearse(s *fsm.State, out *Outlook, enough func() bool) {
	defer out.settle()
	var base *fsm.State
	for v := range out.each() {
		if !v.Unproven {
			continue
		}
		if enough() {
			return
		}
		if base == nil {
			base = s.Fork()
		}
		if p.at != p.version || p.played == nil {
			p.played, p.at = map[string][]Stay{}, p.version
		}
		down := fail(base, v.Hosts, Assumed{}.filled(s)).Stays
		sortStays(down)
		p.played[v.Name()] = down
		v.Down, v.Unproven, v.Short = down, false, ""
	}
}

// each goes through all verdicts, those about one host first.
func (o *Outlook) each() iter.Seq[*Verdict] {
	return func(yield func(*Verdict) bool) {
		for _, all := range [][]Verdict{o.All, o.Together} {
			for i := range all {
				if !yield(&all[i]) {
					return
				}
			}
		}
	}
}

// Unsafe are those whose failure would leave VMs down.
func (o *Outlook) Unsafe() (out []*Verdict) {
	for v := range o.each() {
		if len(v.Down) > 0 {
			out = append(out, v)
		}
	}
	return out
}

// Count counts hosts whose failure leaves VMs down, those of which that is not known, and
// VMs that some host's failure leaves down. Failure domains and hosts together count for
// nothing here (CountTogether).
func (o *Outlook) Count() (unsafe, unproven, vms int) {
	for i := range o.All {
		switch v := &o.All[i]; {
		case v.Domain != "":
		case o.Stopped != "":
			if v.Lost > 0 {
				unsafe++
			}
			vms += v.Lost
		case len(v.Down) > 0:
			unsafe++
			vms += len(v.Down)
		case v.Unproven:
			unproven++
		}
	}
	return unsafe, unproven, vms
}

// Sentence says in one line whose failure would leave what down, and why.
func (o *Outlook) Sentence() string {
	if o.Stopped != "" {
		return o.Stopped
	}
	open := 0
	for i := range o.All {
		if v := &o.All[i]; v.Unproven && len(v.Down) == 0 {
			open++
		}
	}
	_, sets := o.CountTogether()
	text := badSentence(o.Unsafe())
	if text == "" {
		text = o.mayFail()
		if open > 0 || sets > 0 {
			text = "no VM is known that the failure of one host would leave down"
		}
	}
	if open > 0 {
		text += fmt.Sprintf("; of %d of %d it is not known yet (`lifeboat plan --n1` plays each host's failure through)", open, len(o.All))
	}
	if sets > 0 {
		text += fmt.Sprintf("; of %d sets of %d hosts it is not known yet (`lifeboat plan --fail` plays one through)", sets, o.scope.Hosts)
	}
	return text
}

// mayFail says what may fail without leaving a VM down.
func (o *Outlook) mayFail() string {
	rack := slices.ContainsFunc(o.All, func(v Verdict) bool { return v.Domain != "" })
	switch {
	case o.scope.Hosts > 1 && rack:
		return fmt.Sprintf("any %d hosts together or any one %s may fail: their protected VMs would be started again", o.scope.Hosts, Domain)
	case o.scope.Hosts > 1:
		return fmt.Sprintf("any %d hosts may fail together: their protected VMs would be started again", o.scope.Hosts)
	case rack:
		return mayFail("host or " + Domain)
	default:
		return mayFail("host")
	}
}

const (
	maxHosts = 3 // that a sentence names
	maxVMs   = 5 // that it names of one host
)

// mayFail says that no failure of that kind leaves a VM down.
func mayFail(what string) string {
	return "any one " + what + " may fail: its protected VMs would be started again"
}

// badSentence names those whose failure leaves VMs down; "" = there are none.
func badSentence(bad []*Verdict) string {
	var out []string
	for i, x := range bad {
		if i == maxHosts {
			out = append(out, fmt.Sprintf("and %d more (`lifeboat plan --n1`)", len(bad)-i))
			break
		}
		vms := "VMs"
		if len(x.Down) == 1 {
			vms = "VM"
		}
		out = append(out, fmt.Sprintf("%s would leave %d %s down: %s", x.failing(), len(x.Down), vms, downText(x.Down)))
	}
	return strings.Join(out, "; ")
}

// downText names VMs, and what stops the first of them.
func downText(down []Stay) string {
	var names []string
	for k, v := range down {
		if k == maxVMs {
			names = append(names, fmt.Sprintf("%d more", len(down)-k))
			break
		}
		names = append(names, v.Name)
	}
	text := strings.Join(names, ", ")
	if why := down[0].Why; why != "" {
		text += " [" + why + "]"
	}
	return text
}

// short says what a proof lacks.
func (c *class) short(left, enough int64) string {
	return fmt.Sprintf("with %d MiB each they could fill the hosts that take them: there is room for %d MiB before none takes another one, and %d MiB may come", c.memory>>20, max(left, 0)>>10, max(enough, 0)>>10)
}

// Explain says in a sentence what the failure of a host would leave down; "" = the host
// is gone, or runs nothing that would be started again. It plays the failure through if
// it must.
func (p *Prover) Explain(s *fsm.State, id fsm.HostID) string {
	o := p.Outlook(s, Scope{})
	i := slices.IndexFunc(o.All, func(v Verdict) bool { return v.Hosts[0] == id })
	if i < 0 || o.All[i].Lost == 0 {
		return ""
	}
	one := &Outlook{Index: o.Index, Stopped: o.Stopped, All: []Verdict{o.All[i]}}
	p.Rehearse(s, one, func() bool { return false })
	v := &one.All[0]
	switch n := len(v.Down); {
	case o.Stopped != "":
		return "If it failed now, nothing would be started again: HA is disarmed."
	case n == 0:
		return fmt.Sprintf("If it failed now, the protected VMs that it runs (%d) would be started on other hosts.", v.Lost)
	default:
		return fmt.Sprintf("If it failed now, %d of the %d protected VMs that it runs would stay down: %s.", n, v.Lost, downText(v.Down))
	}
}
