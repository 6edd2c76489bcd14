package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/internal/durable"
)

const (
	// maxHandedOut bounds how many snapshots a node gives away that no leader has noted.
	maxHandedOut = 1000
	// toldAtOnce is how many of them one hello tells: each costs the leader an entry.
	toldAtOnce = 20
)

// noteHandedOut sees to it that an operator who gets a snapshot is in the audit, before a
// byte of it is given. Where a leader can be reached, the event is committed first. A
// stale read must also be served where none can: a cluster without a quorum is recovered
// from it. Then a note on this node's disk comes first, and is told as soon as there is a
// leader, also by a later run of this node.
func (n *Node) noteHandedOut(ctx context.Context, t *term, stale bool, x *lifeboatv1.HandedOut) error {
	if !stale {
		return t.auditSnapshot(ctx, n.cfg.ID, x)
	}
	if err := n.outside(); err != nil {
		return err // nobody would ever hear of it
	}
	// A hello after the goodbye would bring this node up again.
	select {
	case n.greeting <- struct{}{}:
		defer func() { <-n.greeting }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if n.hushed.Load() {
		return errStopping
	}
	// Below the feature level that knows the event there is no audit to lose. A node that
	// is behind may only believe so: what it notes is told when it knows better.
	audited := n.fsm.State().Level >= fsm.LevelPolicy
	if err := n.handed.add(x, audited); err != nil {
		return fmt.Errorf("note who gets this node's state: %w; nothing was handed out", err)
	}
	hctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	if err := n.sayHello(hctx, false); err != nil || n.handed.has(x) {
		n.log.Warn("a snapshot is handed out and no leader could be told; one is told later", "snapshot", x.Id, "to", x.Actor, "error", err)
	}
	return nil
}

// handedOut is which snapshots this node has given to operators and no leader is known to
// have noted. It is a file in the data directory, so that the next run tells of them. What
// was noted and not confirmed is told again; the state takes each once.
type handedOut struct {
	mu      sync.Mutex
	path    string
	waiting []*lifeboatv1.HandedOut // oldest first
}

// open reads what an earlier run has left. A file that cannot be read is put aside: it
// must not keep a node from running.
func (h *handedOut) open(dir string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.path = filepath.Join(dir, "handed-out.json")
	raw, err := os.ReadFile(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &h.waiting)
	}
	if err == nil && slices.Contains(h.waiting, nil) {
		err = errors.New("it holds an empty note")
	}
	if err != nil {
		h.waiting = nil
		aside := h.path + ".unreadable"
		return errors.Join(fmt.Errorf("read %s, which is put aside as %s: %w", h.path, aside, err), os.Rename(h.path, aside))
	}
	return nil
}

// add is durable when it returns nil. When there are too many, it is refused if all
// matter, else the oldest goes.
func (h *handedOut) add(x *lifeboatv1.HandedOut, all bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.waiting) >= maxHandedOut && all {
		return fmt.Errorf("%d snapshots were handed out that no leader has noted; bring a leader back first, or recover the cluster", len(h.waiting))
	}
	next := append(slices.Clone(h.waiting), x)
	return h.keep(next[max(0, len(next)-maxHandedOut):])
}

// oldest are those to be told next.
func (h *handedOut) oldest() []*lifeboatv1.HandedOut {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.waiting[:min(len(h.waiting), toldAtOnce)])
}

func (h *handedOut) has(x *lifeboatv1.HandedOut) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.waiting, x)
}

// noted forgets what a leader has committed.
func (h *handedOut) noted(told []*lifeboatv1.HandedOut) error {
	if len(told) == 0 {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.keep(slices.DeleteFunc(slices.Clone(h.waiting), func(x *lifeboatv1.HandedOut) bool { return slices.Contains(told, x) }))
}

// keep writes what waits from now on, under mu.
func (h *handedOut) keep(next []*lifeboatv1.HandedOut) error {
	raw, err := json.Marshal(next)
	if err == nil {
		err = durable.Write(h.path, raw, 0o600)
	}
	if err == nil {
		h.waiting = next
	}
	return err
}
