package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"filippo.io/age"

	"lifeboat/fsm"
	"lifeboat/fsm/archive"
)

// backups are the snapshots that a node writes by itself, to a folder that it may
// share with others.
type backups struct {
	cfg  SnapshotsConfig
	to   []age.Recipient
	node string

	mu      sync.Mutex
	last    time.Time // when the newest was taken that was verified; zero = none is there
	since   time.Time // when the one began that is under way; zero = none
	failure string    // of the last try
}

const (
	// backupRetry is how soon a snapshot is tried again that failed.
	backupRetry = 5 * time.Minute
	// backupHangs is how long one may take before it counts as failed.
	backupHangs = 10 * time.Minute
	// leftoverAge is when a file that was never finished is nobody's any more.
	leftoverAge = 24 * time.Hour
	backupTime  = "20060102T150405Z"
)

// openBackups touches no disk: what is wrong with the folder shows with the first
// snapshot, and does not keep the node from starting.
func (n *Node) openBackups(context.Context) error {
	to, err := archive.ParseRecipients(n.cfg.Snapshots.Recipients)
	if err != nil {
		return err
	}
	n.backups = &backups{cfg: n.cfg.Snapshots, to: to, node: n.cfg.ID}
	return nil
}

// backUp takes snapshots until ctx ends, counted from the newest that is there, so
// that a restart changes nothing.
func (n *Node) backUp(ctx context.Context) error {
	b := n.backups
	if b.cfg.Every == 0 {
		return nil
	}
	for wait := time.Second; pause(ctx, wait); {
		s := n.fsm.State()
		if s.ClusterID == "" {
			continue // it is not known yet what is to be kept
		}
		b.began(n.clock()) // a folder that hangs, hangs as it is read too
		var file string
		var err error
		taken := n.clock().Truncate(time.Second) // as its name says it, which is what a restart knows
		if wait, err = b.due(n.clock(), s.ClusterID); err == nil && wait > 0 {
			b.rested()
			continue
		}
		if err == nil {
			file, err = b.take(ctx, s, n.deps.Version, taken)
		}
		if ctx.Err() != nil {
			return nil
		}
		b.ended(taken, err)
		wait = b.cfg.Every
		if err != nil {
			wait = min(wait, backupRetry)
			n.log.Error("a snapshot could not be taken", "folder", b.cfg.Dir, "error", err, "again_in", wait)
			continue
		}
		n.log.Info("a snapshot was taken", "file", file, "index", s.Index)
	}
	return nil
}

// take writes a snapshot, checks it, and only then removes the oldest ones.
func (b *backups) take(ctx context.Context, s *fsm.State, version string, now time.Time) (file string, err error) {
	var plain bytes.Buffer
	if err := archive.Write(&plain, s, version, b.node, now); err != nil {
		return "", err
	}
	if _, _, err := archive.Read(bytes.NewReader(plain.Bytes()), FeatureLevel); err != nil {
		return "", fmt.Errorf("check snapshot: %w", err)
	}
	raw, err := archive.Seal(plain.Bytes(), b.to)
	if err != nil || ctx.Err() != nil {
		return "", errors.Join(err, ctx.Err())
	}
	if err := os.MkdirAll(b.cfg.Dir, 0o700); err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	file = filepath.Join(b.cfg.Dir, b.prefix(s.ClusterID)+now.UTC().Format(backupTime)+b.suffix())
	if err := archive.Save(file, raw); err != nil {
		return "", err
	}
	switch again, err := os.ReadFile(file); {
	case err != nil:
		return "", fmt.Errorf("read snapshot back: %w", err)
	case !bytes.Equal(again, raw):
		return "", errors.Join(fmt.Errorf("%s is not what was written: the disk is not to be trusted", file), os.Remove(file))
	}
	return file, b.prune(s.ClusterID, now)
}

func (b *backups) prefix(cluster string) string { return "lifeboat-" + cluster + "-" + b.node + "-" }

const sealedSuffix = ".age"

func (b *backups) suffix() string {
	if len(b.to) > 0 {
		return archive.Suffix + sealedSuffix
	}
	return archive.Suffix
}

// backup is a snapshot that is there.
type backup struct {
	name  string
	taken time.Time
}

// list is what this node has taken of a cluster, the oldest first. What is of a time
// after now was taken while a clock was wrong, now or then, and does not count.
func (b *backups) list(cluster string, now time.Time) ([]backup, error) {
	entries, err := os.ReadDir(b.cfg.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var out []backup
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), b.prefix(cluster))
		rest, whole := strings.CutSuffix(strings.TrimSuffix(rest, sealedSuffix), archive.Suffix)
		taken, err := time.Parse(backupTime, rest)
		if ours && whole && err == nil && !taken.After(now) && e.Type().IsRegular() {
			out = append(out, backup{e.Name(), taken})
		}
	}
	slices.SortFunc(out, func(x, y backup) int { return x.taken.Compare(y.taken) })
	return out, nil
}

// prune removes what is more than should be kept, and what was never finished.
func (b *backups) prune(cluster string, now time.Time) error {
	list, err := b.list(cluster, now)
	if err != nil {
		return err
	}
	for _, old := range list[:max(0, len(list)-b.cfg.Keep)] {
		err = errors.Join(err, os.Remove(filepath.Join(b.cfg.Dir, old.name)))
	}
	left, _ := filepath.Glob(filepath.Join(b.cfg.Dir, archive.Temporary+"*"))
	for _, name := range left {
		if i, no := os.Stat(name); no == nil && now.Sub(i.ModTime()) > leftoverAge {
			err = errors.Join(err, os.Remove(name))
		}
	}
	if err != nil {
		return fmt.Errorf("remove old snapshots: %w", err)
	}
	return nil
}

// due is how long the next snapshot of a cluster has time.
func (b *backups) due(now time.Time, cluster string) (time.Duration, error) {
	list, err := b.list(cluster, now)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = list[len(list)-1].taken
	return max(0, b.cfg.Every-now.Sub(b.last)), nil
}

func (b *backups) began(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.since = now
}

// rested: there was nothing to do.
func (b *backups) rested() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.since = time.Time{}
}

// ended: one was taken, at that time, or could not be.
func (b *backups) ended(taken time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failure = ""
	if err != nil {
		b.failure = b.reason(err)
	} else {
		b.last = taken
	}
	b.since = time.Time{}
}

// reason is the same text as long as the reason is the same: names of files differ
// with each try.
func (b *backups) reason(err error) string {
	text := err.Error()
	var no syscall.Errno
	if errors.As(err, &no) {
		text = no.Error()
	}
	const most = 200
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return fmt.Sprintf("%s: %s", b.cfg.Dir, text)
}

// report is when the newest snapshot was taken, unix ns, and why there is no newer
// one; 0 and "" where none are to be taken.
func (b *backups) report(now time.Time) (last int64, failure string) {
	if b.cfg.Every == 0 {
		return 0, ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.last.IsZero() {
		last = b.last.UnixNano()
	}
	if !b.since.IsZero() && now.Sub(b.since) > backupHangs {
		return last, fmt.Sprintf("%s: writing hangs", b.cfg.Dir)
	}
	return last, b.failure
}
