package storm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Disk is a small file system of its own, in memory.
type Disk struct{ dir string }

// ErrNoMount: this process may not mount.
var ErrNoMount = errors.New("mounting a file system needs root")

// MountDisk mounts a file system of some MiB at a directory. [Disk.Unmount] ends it.
func MountDisk(dir string, mib int) (*Disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("mount disk: %w", err)
	}
	err := syscall.Mount("storm", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", mib))
	if errors.Is(err, syscall.EPERM) {
		return nil, ErrNoMount
	}
	if err != nil {
		return nil, fmt.Errorf("mount disk at %s: %w", dir, err)
	}
	return &Disk{dir}, nil
}

func (d *Disk) ballast() string { return filepath.Join(d.dir, "ballast") }

// Fill takes all the space that is left.
func (d *Disk) Fill() error {
	f, err := os.Create(d.ballast())
	if err != nil {
		return fmt.Errorf("fill disk: %w", err)
	}
	defer f.Close()
	piece := make([]byte, 64<<10)
	for len(piece) > 0 {
		if _, err := f.Write(piece); errors.Is(err, syscall.ENOSPC) {
			piece = piece[:len(piece)/2]
		} else if err != nil {
			return fmt.Errorf("fill disk: %w", err)
		}
	}
	return nil
}

// Free gives the space back.
func (d *Disk) Free() error { return os.Remove(d.ballast()) }

// Unmount waits for nobody: what still has a file open keeps it.
func (d *Disk) Unmount() error { return syscall.Unmount(d.dir, syscall.MNT_DETACH) }
