package node

import (
	"reflect"
	"testing"
	"time"

	"lifeboat/ha"
)

// Decide may run between the commit of a host's new epoch and the note of its
// first request: a host that has just come back must not be suspect then.
func TestHostThatRegistersIsNotSilent(t *testing.T) {
	c := newContacts()
	x := c.of("h1", 1)
	x.touch(1, time.Second)
	c.knock("h1", 60*time.Second)

	soft := c.soft()
	if got := soft.Hosts.Of("h1"); got.Knocked != 60*time.Second || got.Epoch != 1 || got.Heard != time.Second {
		t.Errorf("soft view of h1: %+v", got)
	}
	if got := c.soft().Hosts.Of("h2"); !reflect.DeepEqual(got, ha.Contact{}) {
		t.Errorf("soft view of a host that was never heard: %+v", got)
	}
	c.knock("h2", 0)
	if got := c.soft().Hosts.Of("h2"); got.Knocked == 0 || got.Epoch != 0 {
		t.Errorf("soft view of a host that registers for the first time: %+v", got)
	}
}
