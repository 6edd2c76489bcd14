package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// FeatureLevel is the newest behaviour of Apply that this build knows.
const FeatureLevel = fsm.FeatureLevel

const (
	// raiseAfter is how long every member must have known a feature level before the
	// leader raises it: a node that was started by mistake can be taken back until then.
	raiseAfter = 3 * time.Second
	// headerLevel is the feature level of the cluster, in the answer to a hello of a
	// node that does not know it.
	headerLevel = "Lifeboat-Feature-Level"
)

// level is the newest feature level that this node knows.
func (n *Node) level() uint32 {
	if l := n.deps.faults.level; l != 0 {
		return l
	}
	return FeatureLevel
}

// told is what a node said of its build.
type told struct {
	level   uint32
	version string
}

// behind says that a node's version is in the way.
func (x told) behind(id fsm.NodeID) string {
	return fmt.Sprintf("node %s runs version %s, which knows feature levels up to %d; install the version of the others there", id, x.version, x.level)
}

// laggard is the member because of which the cluster's level is not higher.
type laggard struct {
	id  fsm.NodeID
	why string // a sentence about it
}

// ceiling is the highest feature level that every server of the cluster knows, and
// who keeps it from being this node's. What a node says in this term counts; of one
// that is Down, what it last said. t is nil where this node does not lead: then only
// the records count.
func (n *Node) ceiling(t *term, servers []raft.Server, s *fsm.State) (level uint32, by *laggard) {
	level = n.level()
	var silent *laggard
	for _, srv := range servers {
		id := fsm.NodeID(srv.ID)
		if id == n.self() {
			continue
		}
		record, x := s.Node(id), told{}
		if record != nil {
			x = told{record.Level, record.Version}
		}
		if t != nil {
			if now, heard := t.members.told(id); heard {
				x = now
			} else if record != nil && record.State != fsm.NodeDown {
				silent = &laggard{id, fmt.Sprintf("node %s has not been heard since this leader was elected; look again in a few seconds", id)}
			}
		}
		if x == (told{}) {
			silent = &laggard{id, fmt.Sprintf("node %s has never been up, so nobody knows its version; start it, or take it out with `lifeboat node remove %s`", id, id)}
			continue
		}
		if x.level >= level {
			continue
		}
		level = x.level
		why := x.behind(id)
		if record != nil && record.State == fsm.NodeDown {
			why = fmt.Sprintf("node %s is Down and last ran version %s, which knows feature levels up to %d; install the version of the others there and start it, or take it out with `lifeboat node remove %s`", id, x.version, x.level, id)
		}
		by = &laggard{id, why}
	}
	switch {
	case silent == nil:
		return level, by
	case by == nil:
		by = silent
	}
	return 0, by
}

// told is what a node said of its build in this term.
func (m *members) told(id fsm.NodeID) (told, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x, ok := m.build[id]
	return x, ok
}

// raise commits a higher feature level once every member has known it for a while.
func (m *members) raise(ctx context.Context, s *fsm.State) error {
	n := m.t.node
	servers, err := n.servers()
	if err != nil {
		return nil // Raft ends
	}
	level, _ := n.ceiling(m.t, servers, s)
	switch {
	case s.ClusterID == "" || level <= s.Level:
		m.raisable = 0
		return nil
	case level != m.raisable:
		m.raisable, m.raisableSince = level, m.t.mono()
		return nil
	case m.t.mono()-m.raisableSince < raiseAfter:
		return nil
	}
	if !n.reshaping.TryLock() {
		return nil // somebody may join whom nobody has asked yet
	}
	defer n.reshaping.Unlock()
	if servers, err = n.servers(); err != nil {
		return nil
	}
	if again, _ := n.ceiling(m.t, servers, s); again < level {
		return nil
	}
	m.t.log.Info("every node knows a higher feature level; raising it", "from", s.Level, "to", level)
	_, err = m.t.propose(ctx, "", &logpb.Command{Body: &logpb.Command_FeatureRaise{FeatureRaise: &logpb.FeatureRaise{Level: level, Version: n.deps.Version}}})
	var no *errRejected
	if err != nil && ctx.Err() == nil && !errors.As(err, &no) {
		return err
	}
	return nil
}

// needs refuses what came with a feature level that the cluster is not at: a member
// could not read it in the log.
func (n *Node) needs(t *term, s *fsm.State, level uint32) error {
	if why := n.lacks(t, s, level); why != "" {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("this "+why))
	}
	return nil
}

// lacks says why the cluster is not at a feature level; "" = it is.
func (n *Node) lacks(t *term, s *fsm.State, level uint32) string {
	if s.Level >= level {
		return ""
	}
	why := "every node knows it by now, and the cluster raises its level in a few seconds; try again"
	if n.level() < level {
		why = told{n.level(), n.deps.Version}.behind(n.self())
	} else if servers, err := n.servers(); err == nil {
		if can, by := n.ceiling(t, servers, s); can < level && by != nil {
			why = by.why
		}
	}
	return fmt.Sprintf("needs feature level %d, and the cluster is at level %d: %s", level, s.Level, why)
}

// levelNotes say why the feature level is not as high as it could be; none when it is.
func (n *Node) levelNotes(t *term, s *fsm.State) []string {
	if s.ClusterID == "" || s.Level >= n.level() {
		return nil
	}
	servers, err := n.servers()
	if err != nil {
		return nil
	}
	why := "every node knows it, and it rises in a few seconds"
	if can, by := n.ceiling(t, servers, s); can < n.level() && by != nil {
		why = by.why
	}
	return []string{fmt.Sprintf("the cluster is at feature level %d, and could be at %d: %s", s.Level, n.level(), why)}
}

// tooOld refuses the hello of a node whose version must not be part of this cluster
// any more.
func (n *Node) tooOld(s *fsm.State, q *lifeboatv1.HelloRequest) error {
	if q.FeatureLevel >= s.Level || q.Leaving {
		return nil
	}
	err := connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf(
		"node %s runs version %s, which knows feature levels up to %d, and the cluster is at level %d: it would pass over what the other nodes do; install the version of the other nodes there (%s)", q.Id, q.Version, q.FeatureLevel, s.Level, n.deps.Version))
	err.Meta().Set(headerLevel, strconv.FormatUint(uint64(s.Level), 10))
	return err
}

// outgrown is the end of a node that was told that its version is too old; nil for
// any other error.
func (n *Node) outgrown(err error) error {
	var coded *connect.Error
	if !errors.As(err, &coded) {
		return nil
	}
	if level, bad := strconv.ParseUint(coded.Meta().Get(headerLevel), 10, 32); bad != nil || uint32(level) <= n.level() {
		return nil
	}
	return fmt.Errorf("%w: %s", fsm.ErrNewer, coded.Message())
}

// inspected is a snapshot on its way from another node to this one's disk. It ends in
// an error before anything of it is written when this build cannot use it.
type inspected struct {
	from    io.Reader
	level   uint32
	refused func(error)
	rest    io.Reader // nil before the beginning was looked at
}

// Read implements io.Reader.
func (x *inspected) Read(p []byte) (int, error) {
	if x.rest == nil {
		var begin bytes.Buffer
		err := fsm.CheckSnapshot(io.TeeReader(x.from, &begin), x.level)
		if errors.Is(err, fsm.ErrNewer) {
			x.rest = x.from // Raft drains it
			x.refused(err)
			return 0, err
		}
		x.rest = io.MultiReader(&begin, x.from)
	}
	return x.rest.Read(p)
}
