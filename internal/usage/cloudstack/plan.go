package cloudstack

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Kind is a type of usage whose rows are mended.
type Kind struct {
	Name   string // of the usage type
	Type   string // its number in cloud_usage
	Table  string // that is billed from
	own    string // column of the resource's id since 4.18; before that it was "id"
	ends   string // column that says that it has ended
	delete string // event
}

// LoadBalancer is usage_load_balancer_policy.
func LoadBalancer() Kind {
	return Kind{"LOAD_BALANCER_POLICY", "11", "usage_load_balancer_policy", "lb_id", "deleted", "LB.DELETE"}
}

// PortForwarding is usage_port_forwarding.
func PortForwarding() Kind {
	return Kind{"PORT_FORWARDING_RULE", "12", "usage_port_forwarding", "pf_id", "deleted", "NET.RULEDELETE"}
}

// VMSnapshot is usage_vmsnapshot. It has a row for each event of each volume, and the
// newest is billed; one of size 0 says that nothing is left.
func VMSnapshot() Kind {
	return Kind{"VM_SNAPSHOT", "25", "usage_vmsnapshot", "volume_id", "processed", "VMSNAPSHOT.DELETE"}
}

// Network is usage_networks.
func Network() Kind {
	return Kind{"NETWORK", "30", "usage_networks", "network_id", "removed", "NETWORK.DELETE"}
}

// Helper is one of the tables that is billed from.
type Helper struct {
	Kind  Kind
	Table *Table
	// Live are the ids of the resources that live; nil = not known.
	Live map[string]bool
}

// Input is what a plan is made of. Usage may be nil: then rows are closed, and nothing
// is said of money.
type Input struct {
	Events  *Table // usage_event
	Usage   *Table // cloud_usage
	Helpers []Helper
}

// Finding is a row that is billed and should not be.
type Finding struct {
	Kind     string    `json:"kind"`
	Resource string    `json:"resource"`
	Account  string    `json:"account_id"`
	Created  time.Time `json:"created"`
	Ended    time.Time `json:"ended,omitzero"` // zero = not known: nothing is mended
	Why      string    `json:"why"`
	Rows     int       `json:"billed_rows"` // of cloud_usage that say too much
	Hours    float64   `json:"hours_too_much"`
}

// Account is what one was billed too much.
type Account struct {
	ID    string  `json:"account_id"`
	Kind  string  `json:"kind"`
	Rows  int     `json:"billed_rows"`
	Hours float64 `json:"hours_too_much"`
}

// Plan is what was found, and the changes that mend it.
type Plan struct {
	Findings []Finding `json:"findings"`
	Accounts []Account `json:"accounts"` // by account and kind
	changes  []change
}

// helperRow is a row that is billed from.
type helperRow struct {
	row               row
	resource, account string
	own               string // the id in its own column
	kind              string // what must be equal in two rows that are one
	empty, closed     bool   // of size 0; has an end
	pk                string // "" before 4.18: the table has none
	created           time.Time
}

type resourceKey struct{ kind, resource, account string }

// Make compares the exports. It fails on an export that it cannot read as a whole:
// half a plan would be a wrong one.
func Make(in Input) (*Plan, error) {
	ended, err := deletes(in)
	if err != nil {
		return nil, err
	}
	bills, err := billed(in)
	if err != nil {
		return nil, err
	}
	p := &Plan{}
	for _, h := range in.Helpers {
		rows, err := h.open()
		if err != nil {
			return nil, err
		}
		if h.Kind.Type == VMSnapshot().Type {
			p.snapshots(h, rows, ended, bills)
			continue
		}
		first := map[resourceKey]helperRow{}
		for _, r := range rows {
			key := resourceKey{h.Kind.Type, r.resource, r.account}
			f := Finding{Kind: h.Kind.Name, Resource: r.resource, Account: r.account, Created: r.created}
			at := firstAfter(ended[resourceKey{h.Kind.delete, r.resource, ""}], r.created)
			older, twice := first[key]
			switch {
			case h.Kind.Type == Network().Type && twice && older.kind != r.kind:
				f.Why = fmt.Sprintf("a second row for a network that is billed since %s already, with another state or offering: nothing is mended; find out which is right", stamp(older.created))
			case h.Kind.Type == Network().Type && twice:
				// It never began: the older row bills the same time.
				f.Why, f.Ended = fmt.Sprintf("a second row for a network that is billed since %s already", stamp(older.created)), r.created
				p.duplicates(&f, bills[key])
			case !at.IsZero():
				f.Why, f.Ended = fmt.Sprintf("%s at %s, and the row was not closed", h.Kind.delete, stamp(at)), at
				p.tooMuch(&f, bills[key])
			case h.Live != nil && !h.Live[r.resource]:
				f.Why = "it does not live, and no event says since when: nothing is mended; find out when it was deleted"
			}
			if !twice {
				first[key] = r
			}
			if f.Why == "" {
				continue
			}
			if !f.Ended.IsZero() {
				p.changes = append(p.changes, h.closing(r, f.Ended))
			}
			p.Findings = append(p.Findings, f)
		}
	}
	p.sum()
	return p, nil
}

// deletes are the times of delete events, by event and resource, in order.
func deletes(in Input) (map[resourceKey][]time.Time, error) {
	t := in.Events
	if t == nil {
		return nil, errors.New("the events are missing: export usage_event")
	}
	if err := t.need("type", "resource_id", "created"); err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, h := range in.Helpers {
		wanted[h.Kind.delete] = true
	}
	out := map[resourceKey][]time.Time{}
	for _, r := range t.rows {
		typ, _ := t.text(r, "type")
		if !wanted[typ] {
			continue
		}
		id, err := t.id(r, "resource_id")
		if err != nil {
			return nil, err
		}
		if typ == VMSnapshot().delete {
			// Its resource is the VM; the volume stands in template_id, and what is left in size.
			volume, _ := t.text(r, "template_id")
			if size, ok := t.text(r, "size"); !ok || size != "0" {
				continue
			}
			id += ":" + volume
		}
		at, err := t.time(r, "created")
		if err != nil || at.IsZero() {
			return nil, errors.Join(err, t.bad(r, "created", errors.New("is no time")))
		}
		key := resourceKey{typ, id, ""}
		out[key] = append(out[key], at)
	}
	for _, list := range out {
		slices.SortFunc(list, time.Time.Compare)
	}
	return out, nil
}

func firstAfter(list []time.Time, at time.Time) time.Time {
	for _, x := range list {
		if !x.Before(at) {
			return x
		}
	}
	return time.Time{}
}

// bill is a row of cloud_usage.
type bill struct {
	id         string
	raw        float64
	rawText    string
	display    string
	start, end time.Time
}

// billed are the rows of cloud_usage of the kinds, by resource and account.
func billed(in Input) (map[resourceKey][]*bill, error) {
	out := map[resourceKey][]*bill{}
	t := in.Usage
	if t == nil {
		return out, nil
	}
	if err := t.need("id", "account_id", "usage_type", "usage_id", "raw_usage", "usage_display", "start_date", "end_date"); err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, h := range in.Helpers {
		wanted[h.Kind.Type] = true
	}
	for _, r := range t.rows {
		typ, _ := t.text(r, "usage_type")
		if !wanted[typ] {
			continue
		}
		b := &bill{}
		var errs [5]error
		var account, resource string
		b.id, errs[0] = t.id(r, "id")
		account, errs[1] = t.id(r, "account_id")
		if typ != VMSnapshot().Type {
			resource, errs[2] = t.id(r, "usage_id")
		}
		b.start, errs[3] = t.time(r, "start_date")
		b.end, errs[4] = t.time(r, "end_date")
		b.rawText, _ = t.text(r, "raw_usage")
		b.display, _ = t.text(r, "usage_display")
		if err := errors.Join(errs[:]...); err != nil {
			return nil, err
		}
		raw, err := strconv.ParseFloat(b.rawText, 64)
		if err != nil || !(raw >= 0 && raw < 1e12) || b.start.IsZero() || b.end.IsZero() {
			return nil, t.bad(r, "raw_usage", errors.New("is no number of hours from start_date to end_date"))
		}
		b.raw, b.rawText = raw, strconv.FormatFloat(raw, 'g', -1, 64)
		if typ == VMSnapshot().Type {
			// Before 4.19 usage_id is not the volume's: the description names both.
			text, _ := t.text(r, "description")
			resource = volumeOf(text)
		}
		key := resourceKey{typ, resource, account}
		out[key] = append(out[key], b)
	}
	for _, list := range out {
		slices.SortStableFunc(list, func(a, b *bill) int {
			return cmp.Or(a.start.Compare(b.start), cmp.Compare(len(a.id), len(b.id)), cmp.Compare(a.id, b.id))
		})
	}
	return out, nil
}

// open are the rows without an end, oldest first.
func (h Helper) open() ([]helperRow, error) {
	t := h.Table
	if err := t.need("id", "account_id", "created", h.Kind.ends); err != nil {
		return nil, err
	}
	column := "id"
	if t.has(h.Kind.own) {
		column = h.Kind.own
	}
	var out []helperRow
	for _, r := range t.rows {
		_, closed := t.text(r, h.Kind.ends)
		snapshot := h.Kind.Type == VMSnapshot().Type
		if closed && !snapshot {
			continue
		}
		var x helperRow
		var errs [4]error
		x.row = r
		x.resource, errs[0] = t.id(r, column)
		x.account, errs[1] = t.id(r, "account_id")
		x.created, errs[2] = t.time(r, "created")
		if column != "id" {
			x.pk, errs[3] = t.id(r, "id")
		}
		if err := errors.Join(errs[:]...); err != nil {
			return nil, err
		}
		if x.created.IsZero() {
			return nil, t.bad(r, "created", errors.New("is no time"))
		}
		x.own = x.resource
		offering, _ := t.text(r, "network_offering_id")
		state, _ := t.text(r, "state")
		x.kind = offering + " " + state
		if snapshot {
			vm, err := t.id(r, "vm_id")
			if err != nil {
				return nil, err
			}
			size, _ := t.text(r, "size")
			x.resource, x.empty, x.closed = vm+":"+x.resource, size == "0", closed
		}
		out = append(out, x)
	}
	slices.SortStableFunc(out, func(a, b helperRow) int { return a.created.Compare(b.created) })
	return out, nil
}

// epsilon is a third of a second, in hours: CloudStack reckons hours with 24 bits.
const epsilon = 1e-4

// tooMuch finds what was billed after an end.
func (p *Plan) tooMuch(f *Finding, bills []*bill) {
	for _, b := range bills {
		if !b.end.After(f.Ended) || b.end.Before(f.Created) {
			continue
		}
		right := 0.0
		if from := later(b.start, f.Created); from.Before(f.Ended) {
			// CloudStack counts both ends of a span, by the millisecond.
			right = float64(f.Ended.Sub(from).Milliseconds()+1) / 3.6e6
		}
		if b.raw-right > epsilon {
			p.cut(f, b, right)
		}
	}
}

// duplicates finds the rows of one period but the first.
func (p *Plan) duplicates(f *Finding, bills []*bill) {
	last := (*bill)(nil)
	for _, b := range bills {
		if last != nil && b.start.Equal(last.start) && b.end.Equal(last.end) {
			if b.raw > epsilon {
				p.cut(f, b, 0)
			}
			continue
		}
		last = b
	}
}

// cut lowers what a row says.
func (p *Plan) cut(f *Finding, b *bill, right float64) {
	c := billing(b, right)
	f.Rows++
	f.Hours += b.raw - right
	b.raw, b.rawText, b.display = right, c.newRaw, c.newDisplay // a second row of the resource finds it mended
	p.changes = append(p.changes, c.change)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sum adds up by account and kind.
func (p *Plan) sum() {
	at := map[[2]string]int{}
	for _, f := range p.Findings {
		if f.Rows == 0 {
			continue
		}
		key := [2]string{f.Account, f.Kind}
		i, ok := at[key]
		if !ok {
			i = len(p.Accounts)
			at[key] = i
			p.Accounts = append(p.Accounts, Account{ID: f.Account, Kind: f.Kind})
		}
		p.Accounts[i].Rows += f.Rows
		p.Accounts[i].Hours += f.Hours
	}
	slices.SortFunc(p.Accounts, func(a, b Account) int {
		return cmp.Or(cmp.Compare(len(a.ID), len(b.ID)), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Kind, b.Kind))
	})
}
