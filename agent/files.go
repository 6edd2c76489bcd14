package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lifeboat/agent/session"
)

// files are the two directories of the agent, locked against a second one.
type files struct {
	state, run string
	lock       *os.File
}

func openFiles(state, run string) (*files, error) {
	for _, dir := range []string{state, run} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the agent's directory: %w", err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(state, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the agent's lock: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another agent runs with the state directory %s: stop it first, or give this one a directory of its own", state)
		}
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	return &files{state: state, run: run, lock: lock}, nil
}

func (f *files) close() error { return f.lock.Close() }

// load reads what earlier processes left behind. It never fails: what cannot
// be trusted is not used.
func (f *files) load() (session.Saved, error) {
	var s session.Saved
	b, err := os.ReadFile(filepath.Join(f.state, session.LedgerFile))
	switch {
	case errors.Is(err, fs.ErrNotExist): // a new host
	case err != nil:
		s.LedgerErr = fmt.Errorf("read ledger: %w", err)
	default:
		if s.Ledger, err = session.DecodeLedger(b); err != nil {
			s.LedgerErr = fmt.Errorf("read %s: %w", filepath.Join(f.state, session.LedgerFile), err)
		}
	}
	b, err = os.ReadFile(filepath.Join(f.run, session.LeaseFile))
	if err == nil {
		s.Held, err = session.DecodeHeld(b)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return s, err
}

// saveLedger makes the ledger durable: after it returns nil, no crash of the
// process or the machine undoes it.
func (f *files) saveLedger(l session.Ledger) error {
	b, err := session.EncodeLedger(l)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(f.state, session.LedgerFile), b, true)
}

// saveLease is for this boot only and needs no fsync.
func (f *files) saveLease(h session.Held) error {
	b, err := session.EncodeHeld(h)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(f.run, session.LeaseFile), b, false)
}

// replaceFile puts a new file in the place of an old one: readers and crashes
// find one or the other.
func replaceFile(name string, b []byte, durable bool) error {
	tmp := name + ".tmp"
	file, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = file.Write(b)
	if err == nil && durable {
		err = file.Sync()
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, name)
	}
	if err == nil && durable {
		err = syncDir(filepath.Dir(name))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
