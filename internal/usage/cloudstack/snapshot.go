package cloudstack

import (
	"fmt"
	"strings"
	"time"
)

// volumeOf is VM:VOLUME out of the description of a row of cloud_usage.
func volumeOf(description string) string {
	field := func(name string) string {
		_, rest, _ := strings.Cut(description, name)
		id, _, _ := strings.Cut(rest, " ")
		return id
	}
	return field("VM Id: ") + ":" + field("Volume Id: ")
}

// snapshots looks at the rows of VM snapshots, oldest first: one is over when the next
// row of its volume was made, and one of size 0, or followed by a delete that left
// nothing, is not to be billed at all until there is another.
func (p *Plan) snapshots(h Helper, rows []helperRow, ended map[resourceKey][]time.Time, bills map[resourceKey][]*bill) {
	for i, r := range rows {
		if r.closed {
			continue
		}
		next := (*helperRow)(nil)
		for j := i + 1; j < len(rows) && next == nil; j++ {
			if rows[j].resource == r.resource && rows[j].account == r.account {
				next = &rows[j]
			}
		}
		f := Finding{Kind: h.Kind.Name, Resource: r.resource, Account: r.account, Created: r.created}
		gone := firstAfter(ended[resourceKey{h.Kind.delete, r.resource, ""}], r.created)
		if next != nil && !gone.IsZero() && gone.After(next.created) {
			gone = time.Time{} // that is the end of a later one
		}
		switch {
		case r.empty:
			f.Why, f.Ended = "nothing was left of it, and it was not closed", r.created
		case !gone.IsZero():
			f.Why, f.Ended = fmt.Sprintf("%s at %s left nothing, and the row was not closed", h.Kind.delete, stamp(gone)), gone
		case next != nil:
			f.Why, f.Ended = "it was followed by another at "+stamp(next.created)+", and not closed", next.created
		default:
			continue
		}
		if r.empty || !gone.IsZero() {
			var mine []*bill
			for _, b := range bills[resourceKey{h.Kind.Type, r.resource, r.account}] {
				if next == nil || b.start.Before(next.created) && !b.end.After(next.created) {
					mine = append(mine, b)
				}
			}
			p.tooMuch(&f, mine)
		}
		p.changes = append(p.changes, h.closing(r, f.Ended))
		p.Findings = append(p.Findings, f)
	}
}
