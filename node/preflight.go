package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"lifeboat/fsm"
)

// preflight refuses a data directory that holds what only a newer version may go on
// with, as an fsm.ErrNewer. It only reads: the directory is as it was, and the
// version that wrote it can go on with it.
func preflight(dir string, level uint32) error {
	err := checkSnapshots(filepath.Join(dir, "snapshots"), level)
	if err == nil {
		err = checkLog(filepath.Join(dir, "raft.db"), level)
	}
	if errors.Is(err, fsm.ErrNewer) {
		return fmt.Errorf("data_dir %s is as it was: %w", dir, err)
	}
	return err
}

// checkSnapshots looks at the beginning of each complete snapshot.
func checkSnapshots(dir string, level uint32) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	for _, d := range list {
		if strings.HasSuffix(d.Name(), ".tmp") {
			continue // never completed
		}
		f, err := os.Open(filepath.Join(dir, d.Name(), "state.bin"))
		if err != nil {
			continue // Raft says so, or takes another one
		}
		err = fsm.CheckSnapshot(f, level)
		_ = f.Close() // only read
		if errors.Is(err, fsm.ErrNewer) {
			return fmt.Errorf("snapshot %s: %w", d.Name(), err)
		}
	}
	return nil
}

// checkLog looks at every entry of a log.
func checkLog(path string, level uint32) error {
	if fi, err := os.Stat(path); errors.Is(err, os.ErrNotExist) || err == nil && fi.Size() == 0 {
		return nil
	} else if err != nil {
		return fmt.Errorf("look for the log: %w", err)
	}
	options := &bbolt.Options{Timeout: lockTimeout, ReadOnly: true}
	empty, err := withoutLog(path, options)
	if err != nil || empty {
		return err
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: options})
	if err != nil {
		return unopened(path, err)
	}
	err = checkEntries(bolt, level)
	return errors.Join(err, bolt.Close())
}

// withoutLog reports whether a store was created and never got as far as a log.
func withoutLog(path string, options *bbolt.Options) (empty bool, err error) {
	db, err := bbolt.Open(path, 0o600, options)
	if err != nil {
		return false, unopened(path, err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		empty = tx.Bucket([]byte("logs")) == nil
		return nil
	})
	return empty, errors.Join(err, db.Close())
}

func unopened(path string, err error) error {
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("open %s: another process has it open; is a lifeboat server of this node already running?", path)
	}
	return fmt.Errorf("open %s: %w", path, err)
}

func checkEntries(logs raft.LogStore, level uint32) error {
	first, err := logs.FirstIndex()
	if err != nil {
		return fmt.Errorf("find the first entry: %w", err)
	}
	last, err := logs.LastIndex()
	if err != nil {
		return fmt.Errorf("find the last entry: %w", err)
	}
	for i := max(first, 1); i <= last; i++ {
		var e raft.Log
		switch err := logs.GetLog(i, &e); {
		case errors.Is(err, raft.ErrLogNotFound):
			continue
		case err != nil:
			return fmt.Errorf("read log index %d: %w", i, err)
		case e.Type != raft.LogCommand:
			continue
		}
		if err := fsm.CheckEntry(e.Data, level); err != nil {
			return fmt.Errorf("log index %d: %w", i, err)
		}
	}
	return nil
}
