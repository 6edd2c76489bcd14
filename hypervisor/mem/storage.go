package mem

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"lifeboat/hypervisor"
	"lifeboat/hypervisor/domxml"
)

// Storage is a directory of disks. Give the same *Storage to several hosts and
// they see the same disks; give each its own and the disks are local.
type Storage struct {
	name, dir string
	shared    bool
	locks     bool

	mu        sync.Mutex
	writers   map[string][]writer // by path
	conflicts []Conflict
}

// StorageOptions describe a storage.
type StorageOptions struct {
	Name   string
	Dir    string // absolute; disks are files below it
	Shared bool   // reported in the inventory
	// Locks refuses a second writer, as a cluster file system with qemu's
	// image locks does. Without it (a SAN) nothing but the control plane keeps
	// two domains apart, and Conflicts tells when it failed.
	Locks bool
}

// Conflict is a disk that two running domains could write at the same time.
type Conflict struct {
	Path   string
	First  string // host of the domain that had the disk
	Second string // host of the one that opened it as well
	UUID   hypervisor.UUID
}

type writer struct {
	host string
	id   hypervisor.UUID
}

// NewStorage returns an empty storage.
func NewStorage(o StorageOptions) *Storage {
	return &Storage{name: o.Name, dir: path.Clean(o.Dir), shared: o.Shared, locks: o.Locks, writers: make(map[string][]writer)}
}

// Name returns the name given in StorageOptions.
func (s *Storage) Name() string { return s.name }

// Conflicts returns every conflict there ever was, oldest first.
func (s *Storage) Conflicts() []Conflict {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.conflicts)
}

func (s *Storage) holds(file string) bool { return strings.HasPrefix(path.Clean(file), s.dir+"/") }

func (s *Storage) open(file string, w writer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, have := range s.writers[file] {
		if have == w {
			return nil
		}
		if s.locks {
			return fmt.Errorf("Failed to get \"write\" lock: %s is in use by a domain on %s", file, have.host)
		}
		s.conflicts = append(s.conflicts, Conflict{Path: file, First: have.host, Second: w.host, UUID: w.id})
	}
	s.writers[file] = append(s.writers[file], w)
	return nil
}

func (s *Storage) closeAll(w writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for file, ws := range s.writers {
		ws = slices.DeleteFunc(ws, func(have writer) bool { return have == w })
		if len(ws) == 0 {
			delete(s.writers, file)
		} else {
			s.writers[file] = ws
		}
	}
}

// mount is a storage as one host sees it.
type mount struct {
	*Storage
	offline bool
}

// openDisks opens the writable disks of a domain for writing, all or none.
func (h *Host) openDisks(v *vm) error {
	w := writer{h.name, v.needs.UUID}
	for _, d := range v.needs.Disks {
		if d.ReadOnly || d.Shareable || d.Kind == domxml.SourceNetwork {
			continue
		}
		for _, m := range h.mounts {
			if !m.holds(d.Path) {
				continue
			}
			if err := m.open(path.Clean(d.Path), w); err != nil {
				h.closeDisks(v)
				return err
			}
		}
	}
	return nil
}

func (h *Host) closeDisks(v *vm) {
	for _, m := range h.mounts {
		m.closeAll(writer{h.name, v.needs.UUID})
	}
}

// missing says what the domain needs and this host does not have.
func (h *Host) missing(n domxml.Needs) error {
	for _, d := range n.Disks {
		if d.Optional || d.Kind == domxml.SourceNetwork || len(h.mounts) == 0 {
			continue
		}
		i := slices.IndexFunc(h.mounts, func(m *mount) bool { return m.holds(d.Path) && !m.offline })
		if i < 0 {
			return fmt.Errorf("Cannot access storage file '%s': No such file or directory", d.Path)
		}
	}
	for _, w := range n.Networks {
		if h.networks != nil && !slices.Contains(h.networks, hypervisor.Network{Name: w.Name, Kind: w.Kind}) {
			return fmt.Errorf("Network not found: no network with matching name '%s'", w.Name)
		}
	}
	return nil
}

// uses reports whether the domain has a disk on m.
func (v *vm) uses(m *mount) bool {
	return slices.ContainsFunc(v.needs.Disks, func(d domxml.Disk) bool { return m.holds(d.Path) })
}
