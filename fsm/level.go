package fsm

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"lifeboat/fsm/logpb"
)

// FeatureLevel is the newest behaviour of Apply that this build knows. What came
// with a level happens from the entry on that raises State.Level to it, on every
// replica at once: a build that is new asks `s.Level >= n` in Apply, and the
// leader proposes nothing of level n before.
const FeatureLevel = 4

// levelRaise is the feature level from which on the level itself is in the log:
// what it is, and which version raised it.
const levelRaise = 3

// LevelPolicy is the feature level from which on there are rules, orders of starts,
// moves and usage.
const LevelPolicy = 4

// ErrNewer marks what only a newer version of lifeboat can read or may go on with.
// The text is a sentence: what, why, what to do.
var ErrNewer = errors.New("written by a newer version of lifeboat")

// newer is the sentence for something of a feature level that this build does not know.
func newer(what string, level uint32, version string, known uint32) error {
	by := ""
	if version != "" {
		by = ", raised by version " + version
	}
	return fmt.Errorf("%w: %s is of feature level %d%s, and this version knows levels up to %d: it would pass over what the other nodes do; install the version of the other nodes here", ErrNewer, what, level, by, known)
}

// levelOf is the feature level that a command came with, by its number in the oneof;
// 0 = this build does not know the command.
func levelOf(number protowire.Number) uint32 {
	const nodeSteer, featureRaise, caSet, nodeAdmit, firstPolicy, lastPolicy = 60, 65, 80, 85, 90, 199
	switch {
	case number == nodeSteer:
		return 2
	case number == featureRaise:
		return levelRaise
	case caSet <= number && number <= nodeAdmit:
		return LevelJoin
	}
	switch known := (&logpb.Command{}).ProtoReflect().Descriptor().Oneofs().ByName("body").Fields().ByNumber(number) != nil; {
	case !known:
		return 0
	case firstPolicy <= number && number <= lastPolicy:
		return LevelPolicy
	}
	return 1
}

// LevelOf is the feature level that a command takes: builds that know less would stop
// at it, so it must not get into the log before the cluster is there.
func LevelOf(c *logpb.Command) uint32 {
	switch b := c.Body.(type) {
	case *logpb.Command_ClusterInit, *logpb.Command_FeatureRaise:
		return 1 // they say themselves which level they lead to
	case *logpb.Command_HostControl:
		switch {
		case b.HostControl.Force && b.HostControl.Action == 3:
			return LevelPolicy
		case b.HostControl.Force:
			return LevelJoin
		}
	case *logpb.Command_VmProtect:
		if p := b.VmProtect.Protect; p != nil && (p.Failback != nil || p.LiveMigration != nil) {
			return LevelPolicy
		}
	case *logpb.Command_Arm:
		if b.Arm.Ignore {
			return LevelPolicy
		}
	}
	m := c.ProtoReflect()
	field := m.WhichOneof(m.Descriptor().Oneofs().ByName("body"))
	if field == nil {
		return 1
	}
	return levelOf(field.Number())
}

// CheckEntry refuses an entry that a build which knows feature levels up to level
// must not go on with, as an ErrNewer: a command or a feature level that it does not
// know. It looks no deeper than it must.
func CheckEntry(data []byte, level uint32) error {
	var body protowire.Number
	for b := data; len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("an entry cannot be read: %w; it is damaged, or %w", protowire.ParseError(n), ErrNewer)
		}
		size := protowire.ConsumeFieldValue(number, kind, b[n:])
		if size < 0 {
			return fmt.Errorf("an entry cannot be read: %w; it is damaged, or %w", protowire.ParseError(size), ErrNewer)
		}
		b = b[n+size:]
		if wireType(number) != kind {
			return unknown(fmt.Sprintf("field %d", number), level)
		}
		const firstBody = 10
		if number >= firstBody {
			body = number
		}
	}
	switch x := levelOf(body); {
	case body == 0:
		return unknown("nothing", level)
	case x > level:
		return unknown(fmt.Sprintf("command %d", body), level)
	case x < levelRaise && body != clusterInit:
		return nil
	}
	var c logpb.Command
	if err := proto.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("an entry cannot be read: %w; it is damaged, or %w", err, ErrNewer)
	}
	return fits(&c, level)
}

// wireType is how a field of Command is written; -1 = there is none of that number.
func wireType(number protowire.Number) protowire.Type {
	f := (&logpb.Command{}).ProtoReflect().Descriptor().Fields().ByNumber(number)
	if f == nil {
		return -1
	}
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.StringKind, protoreflect.BytesKind:
		return protowire.BytesType
	}
	return protowire.VarintType
}

// clusterInit is the number of the command that says at which level a cluster begins.
const clusterInit = 10

func unknown(what string, level uint32) error {
	return fmt.Errorf("%w: an entry of the log holds %s, which this version does not know (it knows feature levels up to %d): to pass over it would make this node differ from the others; install the version of the other nodes here", ErrNewer, what, level)
}

// fits refuses a command that leads to a feature level above level, or came with one.
func fits(c *logpb.Command, level uint32) error {
	if len(c.ProtoReflect().GetUnknown()) > 0 {
		return unknown("a field", level)
	}
	switch b := c.Body.(type) {
	case *logpb.Command_ClusterInit:
		if b.ClusterInit.FeatureLevel > level {
			return newer("the cluster", b.ClusterInit.FeatureLevel, b.ClusterInit.Version, level)
		}
	case *logpb.Command_FeatureRaise:
		if level < levelRaise {
			return unknown("command 65", level)
		}
		if b.FeatureRaise.Level > level {
			return newer("the cluster", b.FeatureRaise.Level, b.FeatureRaise.Version, level)
		}
	case *logpb.Command_NodeSteer:
		if level < 2 {
			return unknown("command 60", level)
		}
	}
	return nil
}

// cameWith says what a feature level made possible, for people. It stands in events:
// the text of a level that was released does not change.
func cameWith(level uint32) string {
	switch level {
	case 2:
		return "nodes can be put into maintenance and shut down in order, and snapshots be restored"
	case 3:
		return "nodes, hosts and operators can join by tokens, operators have roles, and the log says which version a node needs, so that an older one refuses to start instead of going wrong"
	case 4:
		return "VMs have tiers, dependencies and rules about where they run, hosts are emptied by live migration, usage is recorded, and alerts are told to receivers"
	}
	return ""
}

// featureRaise raises the feature level. It never lowers it: a late one is no news.
func (t *tx) featureRaise(c *logpb.FeatureRaise) string {
	if t.s.ClusterID == "" {
		return "a cluster begins at a feature level when it is created"
	}
	if c.Level <= t.s.Level {
		return ""
	}
	was, text := t.s.Level, ""
	for l := was + 1; l <= c.Level; l++ {
		if x := cameWith(l); x != "" {
			text += "; " + x
		}
	}
	t.s.Level, t.s.LevelVersion = c.Level, c.Version
	if was < LevelPolicy && c.Level >= LevelPolicy {
		t.dropDestroys() // older levels kept them when a host was removed
	}
	t.event("CLUSTER.LEVEL", Warning, "cluster", "the feature level was raised from %d to %d by version %s: older versions cannot be run here any more%s", was, c.Level, c.Version, text)
	return ""
}
