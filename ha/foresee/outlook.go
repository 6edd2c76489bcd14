package foresee

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"lifeboat/fsm"
	"lifeboat/ha"
)

// Verdict is what the failure of one host, or of all hosts of a failure domain at once,
// would leave down.
type Verdict struct {
	Domain string       // "rack=a"; "" = one host
	Hosts  []fsm.HostID // in natural order
	Lost   int          // VMs that would have to be started elsewhere
	Down   []Stay       // of them would not, and why
	// Unproven: more VMs than those in Down might stay down, nobody knows yet. Short says
	// what the proof lacks.
	Unproven bool
	Short    string
}

// Name is "host h1" or "rack a".
func (v *Verdict) Name() string {
	if key, value, ok := strings.Cut(v.Domain, "="); ok {
		return key + " " + value
	}
	return "host " + string(v.Hosts[0])
}

// Safe reports whether it is proven that all VMs would be started again.
func (v *Verdict) Safe() bool { return !v.Unproven && len(v.Down) == 0 }

// Outlook is the proof as of one state.
type Outlook struct {
	Index   uint64
	Stopped string // why nothing at all would be started again; "" = it would
	// All are the hosts, in natural order, then the failure domains.
	All []Verdict
}

// Domain is the label by which hosts are in one failure domain.
const Domain = "rack"

// Outlook says of each host by itself, and with domains of each failure domain of more
// than one host, what its failure would leave down, as far as that is known without
// playing it through, or has been played through for this state.
func (p *Prover) Outlook(s *fsm.State, domains bool) *Outlook {
	p.Look(s)
	if last := p.last; last != nil && p.lastAt == p.version && p.lastDomains == domains {
		return &Outlook{s.Index, last.Stopped, last.All}
	}
	out := &Outlook{Index: s.Index}
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
		if rack := v.h.Label(Domain); domains && rack != "" {
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
	p.last = nil
	if !slices.ContainsFunc(out.All, func(v Verdict) bool { return v.Unproven }) { // else Rehearse writes into it
		p.last, p.lastAt, p.lastDomains = out, p.version, domains
	}
	return out
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
	var base *fsm.State
	for i := range out.All {
		v := &out.All[i]
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

// Unsafe are those whose failure would leave VMs down.
func (o *Outlook) Unsafe() (out []*Verdict) {
	for i := range o.All {
		if len(o.All[i].Down) > 0 {
			out = append(out, &o.All[i])
		}
	}
	return out
}

// Count counts hosts whose failure leaves VMs down, those of which that is not known, and
// VMs that some host's failure leaves down. Failure domains count for nothing here.
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
	domains, open := false, 0
	for i := range o.All {
		v := &o.All[i]
		domains = domains || v.Domain != ""
		if v.Unproven && len(v.Down) == 0 {
			open++
		}
	}
	text := badSentence(o.Unsafe())
	if text == "" {
		text = mayFail("host")
		if domains {
			text = mayFail("host or " + Domain)
		}
		if open > 0 {
			text = "no VM is known that the failure of one host would leave down"
		}
	}
	if open > 0 {
		text += fmt.Sprintf("; of %d of %d it is not known yet (`lifeboat plan --n1` plays each host's failure through)", open, len(o.All))
	}
	return text
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
		out = append(out, fmt.Sprintf("%s's failure would leave %d %s down: %s", x.Name(), len(x.Down), vms, downText(x.Down)))
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
	o := p.Outlook(s, false)
	i := slices.IndexFunc(o.All, func(v Verdict) bool { return v.Hosts[0] == id })
	if i < 0 || o.All[i].Lost == 0 {
		return ""
	}
	one := &Outlook{o.Index, o.Stopped, []Verdict{o.All[i]}}
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
