package cli

import (
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// consistency is what the user's reads may miss.
type consistency struct {
	want    lifeboatv1.Consistency
	stderr  io.Writer
	verbose bool
	told    string // which node's stale answer was spoken of
}

func newConsistency(env *Env, g *Globals) consistency {
	want := map[string]lifeboatv1.Consistency{
		"stale": lifeboatv1.Consistency_CONSISTENCY_STALE, "linearizable": lifeboatv1.Consistency_CONSISTENCY_LINEARIZABLE,
	}[g.Consistency]
	return consistency{want: want, stderr: env.Stderr, verbose: g.Verbose}
}

// ask writes into a request what is wanted. A request that has its own flag for a
// stale answer keeps it; older nodes know that one only.
func (c *consistency) ask(req any) error {
	m, ok := req.(proto.Message)
	if !ok {
		return nil
	}
	r := m.ProtoReflect()
	fields := r.Descriptor().Fields()
	stale, field := fields.ByName("stale"), fields.ByName("consistency")
	if stale == nil {
		return nil
	}
	switch {
	case r.Get(stale).Bool() && c.want == lifeboatv1.Consistency_CONSISTENCY_LINEARIZABLE:
		return Usage("give one of them", "--stale and --consistency=linearizable contradict each other")
	case c.want == lifeboatv1.Consistency_CONSISTENCY_STALE:
		r.Set(stale, protoreflect.ValueOfBool(true))
	case field != nil && c.want != lifeboatv1.Consistency_CONSISTENCY_LEADER:
		r.Set(field, protoreflect.ValueOfEnum(c.want.Number()))
	}
	return nil
}

// check compares an answer with what was wanted, and tells the user where a stale
// one comes from.
func (c *consistency) check(res any) error {
	x, ok := res.(interface{ GetAnswered() *lifeboatv1.Answered })
	if !ok {
		return nil
	}
	a := x.GetAnswered()
	if c.want == lifeboatv1.Consistency_CONSISTENCY_LINEARIZABLE && a.GetConsistency() != c.want {
		return &Error{Exit: ExitFailed, Text: "the answer is not linearizable: a node of this cluster runs a version that does not know such reads",
			Do: "leave --consistency out, or upgrade the nodes"}
	}
	stale := a.GetConsistency() == lifeboatv1.Consistency_CONSISTENCY_STALE && a.LastContactMs != 0
	if a == nil || !c.verbose && (!stale || c.told == a.NodeId) {
		return nil
	}
	c.told = a.NodeId
	since := ""
	switch {
	case stale && a.LastContactMs < 0:
		since = "; it has heard no leader and may be behind by any time"
	case stale:
		since = fmt.Sprintf("; it heard a leader %s ago and may be behind by that much or more", (time.Duration(a.LastContactMs) * time.Millisecond).Round(time.Millisecond))
	}
	fmt.Fprintf(c.stderr, "lifeboat: answered by %s from the state of log index %d%s\n", clean(a.NodeId), a.Index, since)
	return nil
}
