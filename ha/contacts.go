package ha

import (
	"iter"
	"slices"
	"strings"

	"lifeboat/fsm"
)

// Contacts are what was heard of the hosts, in the order of their ids, which is
// that of the state: a look at all of them goes along both at once. The zero
// value is of nobody.
type Contacts struct{ list []heard }

type heard struct {
	id fsm.HostID
	Contact
}

// Of is what was heard of a host; the zero Contact when that is nothing.
func (c *Contacts) Of(id fsm.HostID) Contact {
	if i, ok := c.find(id); ok {
		return c.list[i].Contact
	}
	return Contact{}
}

// Set notes what was heard of a host.
func (c *Contacts) Set(id fsm.HostID, x Contact) {
	i, ok := c.find(id)
	if !ok {
		c.list = slices.Insert(c.list, i, heard{id: id})
	}
	c.list[i].Contact = x
}

// All goes through them by id.
func (c *Contacts) All() iter.Seq2[fsm.HostID, Contact] {
	return func(yield func(fsm.HostID, Contact) bool) {
		for _, x := range c.list {
			if !yield(x.id, x.Contact) {
				return
			}
		}
	}
}

func (c *Contacts) find(id fsm.HostID) (int, bool) {
	if n := len(c.list); n > 0 && c.list[n-1].id < id { // in order, as they are made
		return n, false
	}
	return slices.BinarySearchFunc(c.list, id, func(h heard, id fsm.HostID) int { return strings.Compare(string(h.id), string(id)) })
}

// along goes through the contacts in the order of ids; each call asks for a
// later host than the one before. What it returns is not to be changed.
func (c *Contacts) along() func(fsm.HostID) *Contact {
	i, none := 0, &Contact{}
	return func(id fsm.HostID) *Contact {
		for i < len(c.list) && c.list[i].id < id {
			i++
		}
		if i < len(c.list) && c.list[i].id == id {
			return &c.list[i].Contact
		}
		return none
	}
}
