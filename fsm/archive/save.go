package archive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Suffix is how the names of archives end, by custom.
const Suffix = ".lifeboat"

// Temporary is how the names of files begin that Save has not finished.
const Temporary = ".lifeboat-snapshot-"

// Save writes a file that only its owner may read. When it returns nil the file is
// there as a whole, whatever crashes then; otherwise what was there before still is.
func Save(path string, raw []byte) error {
	if err := save(path, raw); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

func save(path string, raw []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), Temporary+"*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes durable which files a folder holds.
func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, syscall.EINVAL) {
		err = nil // some file systems of the network cannot
	}
	return errors.Join(err, dir.Close())
}
