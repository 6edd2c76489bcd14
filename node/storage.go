package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// storage is a node's part of the replicated log on disk.
type storage struct {
	bolt      *raftboltdb.BoltStore
	logs      raft.LogStore
	stable    raft.StableStore
	snapshots raft.SnapshotStore
	guard     *guard // is logs and snapshots once it watches
	instance  string // of the data directory: made with it, and lost with it
}

// watch lets a guard see all that Raft stores.
func (s *storage) watch(dir string, log hclog.Logger) error {
	g, err := newGuard(dir, s.logs, s.snapshots, log)
	if err != nil {
		return err
	}
	s.guard, s.logs, s.snapshots = g, g, g
	return nil
}

const (
	lockTimeout  = 2 * time.Second // a second process on one data directory
	logCache     = 512             // entries
	keepSnapshot = 3
)

// openStorage opens or creates a data directory. Only one process may have it
// open.
func openStorage(dir string, log hclog.Logger) (*storage, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	path := filepath.Join(dir, "raft.db")
	// Without NoFreelistSync and a hash map of free pages, appends slow down
	// tenfold once the log has been truncated.
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path:                    path,
		BoltOptions:             &bbolt.Options{Timeout: lockTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
		MsgpackUseNewTimeFormat: true,
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: another process has it open; is a lifeboat server of this node already running?", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	instance, err := instanceOf(bolt)
	if err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	cache, err := raft.NewLogCache(logCache, bolt)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make log cache: %w", err), bolt.Close())
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, keepSnapshot, log.Named("snapshot"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open snapshots in %s: %w", dir, err), bolt.Close())
	}
	return &storage{bolt: bolt, logs: cache, stable: bolt, snapshots: snaps, instance: instance}, nil
}

// instanceOf reads the name of a data directory, or gives it one. It stands beside the
// log and the votes, so that it is lost with them.
func instanceOf(bolt *raftboltdb.BoltStore) (string, error) {
	key := []byte("lifeboat instance")
	name, err := bolt.Get(key)
	if err == nil && len(name) > 0 {
		return string(name), nil
	}
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return "", fmt.Errorf("read the name of the data directory: %w", err)
	}
	id := newID()
	if err := bolt.Set(key, []byte(id)); err != nil {
		return "", fmt.Errorf("name the data directory: %w", err)
	}
	return id, nil
}

// fresh reports whether nothing was ever written.
func (s *storage) fresh() (bool, error) {
	has, err := raft.HasExistingState(s.logs, s.stable, s.snapshots)
	return !has, err
}

func (s *storage) Close() error { return s.bolt.Close() }
