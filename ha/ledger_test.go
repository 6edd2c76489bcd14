package ha_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// ledger is a state machine for tests of single decisions, and what writes into its
// log at the time that *now says. A command that is refused fails the test.
func ledger(t *testing.T, now *int64) (*fsm.Machine, func(*logpb.Command)) {
	m, index := fsm.NewMachine(), uint64(0)
	return m, func(c *logpb.Command) {
		t.Helper()
		index++
		c.TimeUnixNs = *now
		b, err := proto.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if no := m.Apply([]fsm.Entry{{Index: index, Term: 1, Data: b}})[0].Rejected; no != "" {
			t.Fatalf("%v: %s", c, no)
		}
	}
}
