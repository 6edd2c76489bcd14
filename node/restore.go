package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
)

// ErrRestore ends Run when a restore was begun here and it is not known whether
// the others take it. Which of the two states the cluster has is decided by the
// next leader: this node must start again to learn it.
var ErrRestore = errors.New("a restore was begun and its outcome is not known; this node ends so that the cluster decides which state it has")

const (
	// restoreGap lies between the last entry of the log and the restored state, so
	// that the state knows its index whatever Raft itself appends meanwhile.
	restoreGap = 64
	// restorePatience is how long the others may take to install a restored state.
	restorePatience = 2 * time.Minute
	// disarmPatience is how long hosts may take to hear that HA is disarmed.
	disarmPatience = 15 * time.Second
)

// restoring is a snapshot that the term ends for.
type restoring struct {
	state *fsm.State
	req   *lifeboatv1.RestoreSnapshotRequest
	actor string
	from  string
	done  chan restored // capacity 1
}

type restored struct {
	index uint64
	err   error
}

// errRestoring ends a term: no decision of it may be carried out in the state that
// follows.
type errRestoring struct{ job *restoring }

func (e *errRestoring) Error() string { return "a snapshot is being restored" }

// restores waits for a snapshot to restore.
func (t *term) restores(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case job := <-t.node.restoring:
		t.job = job
		return &errRestoring{job}
	}
}

// restoreSnapshot checks an archive as a whole, and then replaces the state of
// every node by it.
func (t *term) restoreSnapshot(ctx context.Context, q *lifeboatv1.RestoreSnapshotRequest) (*lifeboatv1.WriteResponse, error) {
	meta, state, err := t.node.unpack(ctx, q.Id, q.Sha256)
	if err != nil {
		return nil, err
	}
	if err := t.node.restorable(t.node.fsm.State(), state, q); err != nil {
		return nil, err
	}
	if err := t.disarmed(ctx); err != nil {
		return nil, err
	}
	job := &restoring{state: state, req: q, actor: actor(ctx), done: make(chan restored, 1),
		from: fmt.Sprintf(" from a snapshot that node %s of cluster %s took on %s", meta.Node, meta.ClusterID, meta.Taken.Format(time.RFC3339))}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-t.over:
		return nil, errNoLeader
	case t.node.restoring <- job:
	}
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("%w (%w)", errUnknown, ctx.Err())
	case r := <-job.done:
		if r.err != nil {
			return nil, r.err
		}
		return &lifeboatv1.WriteResponse{Index: r.index, Message: fmt.Sprintf(
			"the state of log index %d was restored on a majority of the nodes; HA is disarmed: when `lifeboat host list` shows every host as Up, look at `lifeboat vm list` and run `lifeboat ha arm`", meta.Index)}, nil
	}
}

func forbid(format string, args ...any) error {
	return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf(format+"; nothing was changed", args...))
}

// restorable says why a snapshot may not replace the state.
func (n *Node) restorable(now, snap *fsm.State, q *lifeboatv1.RestoreSnapshotRequest) error {
	if why := n.lacks(n.term.Load(), now, max(levelNodes, snap.Level)); why != "" && now.ClusterID != "" {
		return forbid("a restore %s; an older node does not know what holds after a restore, and would give orders before HA is armed", why) // S22
	}
	switch ahead := time.Duration(snap.Time - n.clock().UnixNano()); {
	case now.ClusterID == "":
		return errNoLeader // it is being founded
	case now.Armed:
		return forbid("HA is armed; run `lifeboat ha disarm` first, so that no host stops its VMs while the state is replaced")
	case ahead > maxAhead:
		return forbid("the snapshot's time is %s ahead of this node's clock, and no node could lead with it; set the clocks right", ahead.Round(time.Second))
	case max(now.Generation, snap.Generation) >= fsm.MaxGeneration:
		return forbid("the cluster has been restored %d times; there is no further generation", now.Generation)
	case snap.ClusterID != now.ClusterID && !q.OtherCluster:
		return forbid("the snapshot is of cluster %s, this one is %s; if that is meant, add --other-cluster", snap.ClusterID, now.ClusterID)
	}
	for id, h := range now.Hosts() {
		if end := h.Attempt.End(); end > n.clock().UnixNano() {
			return forbid("the power of host %s may still be cut, by a fence attempt that ends at %s; try again after that", id, clock(end)) // S10
		}
	}
	if err := n.readable(snap); err != nil && !q.OtherKey {
		return forbid("its definitions and passwords were sealed with another secret key than this node has (%v); give every node the secret key file of the cluster that it was taken from, or add --other-key to go on without them", err)
	}
	return nil
}

// readable tries one sealed text of a state.
func (n *Node) readable(s *fsm.State) error {
	for id, h := range s.Hosts() {
		for _, l := range h.Fence {
			if len(l.Secret) > 0 {
				_, err := n.sealer.open(l.Secret, secretOf(id))
				return err
			}
		}
		for i := range h.VMs {
			if v := &h.VMs[i]; v.Spec != nil && v.Spec.Defines() {
				_, err := n.sealer.open(v.Spec.Definition(), v.ID[:])
				return err
			}
		}
	}
	return nil
}

// disarmed waits until every host that reports has heard that HA is disarmed: from
// then on none stops its VMs when nobody renews its lease (S16).
func (t *term) disarmed(ctx context.Context) error {
	for end := t.mono() + disarmPatience; ; {
		deaf := t.contacts.deaf(t.node.fsm.State())
		if len(deaf) == 0 {
			return nil
		}
		if t.mono() > end {
			return forbid("host %s has not said yet that it knows that HA is disarmed; look at its agent, then try again", strings.Join(deaf, ", "))
		}
		if !pause(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// restore replaces the state by one that wakes. No term of this node runs
// meanwhile. The result is an error when this node must end.
func (n *Node) restore(ctx context.Context, job *restoring) error {
	fail := func(err error) error {
		job.done <- restored{err: err}
		return nil
	}
	// What was decided in the old state is not proposed to the new one.
	if !n.gate.turn(ctx) {
		return fail(forbid("what was decided before has no outcome yet: the disk or a majority of the nodes is slow; try again"))
	}
	now := n.fsm.State()
	if err := n.restorable(now, job.state, job.req); err != nil {
		return fail(err)
	}
	at := max(n.raft.LastIndex(), now.Index, job.state.Index) + restoreGap
	_, unusable := n.authority(job.state.CA)
	next := job.state.Wake(now, fsm.Waking{Index: at + 1, Term: n.raft.CurrentTerm(), Now: n.clock().UnixNano(), Actor: job.actor, From: job.from, DropCA: unusable != nil})
	data, err := checked(next)
	if err != nil {
		return fail(fmt.Errorf("the snapshot cannot be restored: %w; nothing was changed", err))
	}
	n.log.Warn("restoring a snapshot", "actor", job.actor, "generation", next.Generation, "bytes", len(data))
	if f := n.deps.faults.restoring; f != nil {
		f()
	}
	done := make(chan error, 1)
	meta := &raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: at, Term: next.Term, Size: int64(len(data))}
	go func() { done <- n.raft.Restore(meta, bytes.NewReader(data), 0) }()
	timer := time.NewTimer(restorePatience)
	defer timer.Stop()
	answered := false // by Raft: it does nothing more
	select {
	case err = <-done:
		answered = true
	case <-timer.C:
		err = fmt.Errorf("the others have not taken it within %s", restorePatience)
	case <-ctx.Done():
		err = ctx.Err()
	}
	switch {
	case err == nil:
		job.done <- restored{index: at + 1}
		n.log.Warn("the snapshot was restored; HA is disarmed", "index", at+1, "generation", next.Generation)
		return nil
	case answered && !errors.Is(err, raft.ErrRaftShutdown) && n.fsm.State().Generation != next.Generation:
		return fail(fmt.Errorf("restore snapshot: %w; nothing was changed", err))
	}
	job.done <- restored{err: fmt.Errorf("%w (%w)", errUnknown, err)}
	return fmt.Errorf("%w: %w", ErrRestore, err)
}

// checked writes a state down as Raft will read it. Raft ends the process when it
// cannot be read, so it is tried before.
func checked(s *fsm.State) ([]byte, error) {
	var b bytes.Buffer
	if _, err := s.WriteTo(&b); err != nil {
		return nil, err
	}
	again, err := fsm.ReadState(bytes.NewReader(b.Bytes()))
	if err != nil {
		return nil, err
	}
	return b.Bytes(), again.Check()
}
