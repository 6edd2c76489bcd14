package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const loopMajor = 7

// diskBytes is enough for the guest's records; see guest-init.sh.
const diskBytes = 4 << 20

// lun is a block device that all hosts see.
type lun struct {
	name   string
	number int
}

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$`)

func (l *Lab) sharedDir() string { return filepath.Join(l.opts.Dir, "shared") }
func (l *Lab) lunDir() string    { return filepath.Join(l.opts.Dir, "lun") }

// SharedDir is a directory that all hosts see under this path, like an NFS
// mount with working locks: qemu refuses a second start of a disk in it.
func (l *Lab) SharedDir() string { return l.sharedDir() }

// AddDisk makes an empty raw disk in the shared directory and returns its path.
func (l *Lab) AddDisk(name string) (string, error) {
	path := filepath.Join(l.sharedDir(), name+".img")
	if err := makeDisk(name, path); err != nil {
		return "", err
	}
	l.diskMu.Lock()
	defer l.diskMu.Unlock()
	l.disks[path] = path
	return path, nil
}

// AddLUN makes an empty block device that all hosts see, like a LUN of a SAN,
// and returns its path inside the hosts. Every host has a device node of its
// own, so no lock of qemu or of the kernel keeps two hosts from writing at once:
// only the control plane does.
func (l *Lab) AddLUN(name string) (string, error) {
	backing := filepath.Join(l.lunDir(), name+".img")
	if err := makeDisk(name, backing); err != nil {
		return "", err
	}
	l.diskMu.Lock()
	defer l.diskMu.Unlock()
	number, err := attachLoop(backing, loopLabel(l.opts.Prefix)+name)
	if err != nil {
		return "", fmt.Errorf("add LUN %s: %w", name, err)
	}
	l.luns = append(l.luns, lun{name: name, number: number})
	dev := fmt.Sprintf("/dev/loop%d", number)
	l.disks[dev] = backing
	for _, h := range l.hosts {
		root := l.HostRoot(h.n)
		if root == "" {
			continue // it finds the device when it boots
		}
		if err := mknod(root+dev, unix.S_IFBLK|0o660, loopMajor, uint32(number)); err != nil {
			return "", fmt.Errorf("add LUN %s to %s: %w", name, h.name, err)
		}
	}
	l.logf("LUN %s is %s", name, dev)
	return dev, nil
}

// loopNumbers lists the loop devices a booting host has to know.
func (l *Lab) loopNumbers() []int {
	l.diskMu.Lock()
	defer l.diskMu.Unlock()
	var numbers []int
	for _, d := range l.luns {
		numbers = append(numbers, d.number)
	}
	return numbers
}

func makeDisk(name, path string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("add disk %q: want a name of at most 40 characters A-Z, a-z, 0-9, dot, dash and underscore", name)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("add disk %s: %w", name, err)
	}
	defer f.Close()
	if err := f.Truncate(diskBytes); err != nil {
		return fmt.Errorf("add disk %s: %w", name, err)
	}
	return nil
}

// loopLabel marks a loop device as this lab's. The kernel keeps it with the
// device, so a later lab recognises what a crashed one left.
func loopLabel(prefix string) string { return "lifeboat-lab/" + prefix + "/" }

func attachLoop(backing, label string) (int, error) {
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("open loop control: %w", err)
	}
	defer ctl.Close()
	file, err := os.OpenFile(backing, os.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("open backing file: %w", err)
	}
	defer file.Close()
	config := unix.LoopConfig{Fd: uint32(file.Fd())}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], label)
	for range 20 { // another process may take the free device first
		number, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return 0, fmt.Errorf("find free loop device: %w", err)
		}
		err = withLoop(number, func(fd int) error { return unix.IoctlLoopConfigure(fd, &config) })
		if err == nil {
			return number, nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return 0, err
		}
	}
	return 0, errors.New("find free loop device: others were always faster")
}

// withLoop opens a loop device by number. The machine's /dev may lack the node.
func withLoop(number int, f func(fd int) error) error {
	path := fmt.Sprintf("/dev/loop%d", number)
	if err := mknod(path, unix.S_IFBLK|0o660, loopMajor, uint32(number)); err != nil {
		return err
	}
	dev, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open loop device: %w", err)
	}
	defer dev.Close()
	if err := f(int(dev.Fd())); err != nil {
		return fmt.Errorf("control %s: %w", path, err)
	}
	return nil
}

// labLoops lists the loop devices that carry the prefix's label.
func labLoops(prefix string) ([]string, error) {
	inUse, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return nil, fmt.Errorf("list loop devices: %w", err)
	}
	var found []string
	for _, dir := range inUse {
		dev := filepath.Base(filepath.Dir(dir))
		number, err := strconv.Atoi(strings.TrimPrefix(dev, "loop"))
		if err != nil {
			continue
		}
		var label string
		err = withLoop(number, func(fd int) error {
			info, err := unix.IoctlLoopGetStatus64(fd)
			if err == nil {
				label = unix.ByteSliceToString(info.File_name[:])
			}
			return err
		})
		if err == nil && strings.HasPrefix(label, loopLabel(prefix)) {
			found = append(found, dev)
		}
	}
	return found, nil
}

func detachLoops(prefix string) error {
	devs, err := labLoops(prefix)
	if err != nil {
		return err
	}
	var errs []error
	for _, dev := range devs {
		number, _ := strconv.Atoi(strings.TrimPrefix(dev, "loop")) // labLoops parsed it before
		errs = append(errs, withLoop(number, func(fd int) error {
			return unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0)
		}))
	}
	return errors.Join(errs...)
}
