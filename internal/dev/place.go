package dev

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// mark is the file that makes a directory the room's: only then is it emptied.
const mark = ".lifeboat-dev"

// errBusy: another process holds the lock.
var errBusy = errors.New("it is in use")

// lockFile takes a lock that ends with this process, and writes our pid into
// the file for whoever finds it taken.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(path)
		return nil, errors.Join(fmt.Errorf("%w by process %s", errBusy, trimSpace(pid)), f.Close())
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	}
	return f, nil
}

// ownDir makes a directory that only we can write to, or checks that it is one:
// its parent may be /tmp.
func ownDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	fi, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("look at directory: %w", err)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch {
	case !fi.IsDir() || !ok:
		return fmt.Errorf("%s is not a directory; remove it", path)
	case int(st.Uid) != os.Getuid():
		return fmt.Errorf("%s belongs to user %d, not to you; use another directory", path, st.Uid)
	case fi.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("others may write to %s; make it yours with chmod 700", path)
	}
	return nil
}

// takeDir locks and empties the directory of the cluster. One that holds
// something else is refused.
func takeDir(dir string) (*os.File, error) {
	if err := ownDir(dir); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read directory: %w", err)
	}
	marked := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == mark })
	if len(entries) > 0 && !marked {
		return nil, fmt.Errorf("%s holds files that are not of 'lifeboat dev'; name an empty directory, or one that does not exist", dir)
	}
	lock, err := lockFile(filepath.Join(dir, mark))
	if err != nil {
		return nil, fmt.Errorf("use %s: %w", dir, err)
	}
	killLeftovers(dir)
	if err := empty(dir); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// empty removes what is in a marked directory, except the mark.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("empty directory: %w", err)
	}
	for _, e := range entries {
		if e.Name() == mark {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("empty directory: %w", err)
		}
	}
	return nil
}

// runs reports whether a process has been started with the file as an argument.
func runs(pid int, file string) bool {
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return false
	}
	return slices.Contains(bytesToStrings(bytes.Split(line, []byte{0})), file)
}

func bytesToStrings(list [][]byte) []string {
	out := make([]string, len(list))
	for i, b := range list {
		out[i] = string(b)
	}
	return out
}

func trimSpace(b []byte) []byte { return bytes.TrimSpace(b) }
