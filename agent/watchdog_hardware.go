package agent

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// DefaultWatchdogDevice is Linux's first hardware watchdog.
const DefaultWatchdogDevice = "/dev/watchdog"

// HardwareWatchdog returns the watchdog of the machine, through the kernel's
// device; empty is DefaultWatchdogDevice.
func HardwareWatchdog(device string) Watchdog {
	if device == "" {
		device = DefaultWatchdogDevice
	}
	return &hardwareWatchdog{device: device}
}

type hardwareWatchdog struct {
	device string

	mu   sync.Mutex
	file *os.File // nil: not ours
}

func (w *hardwareWatchdog) Kind() lifeboatv1.WatchdogKind {
	return lifeboatv1.WatchdogKind_WATCHDOG_KIND_HARDWARE
}

// watchdogInfo is struct watchdog_info of linux/watchdog.h.
type watchdogInfo struct {
	options  uint32
	firmware uint32
	identity [32]byte
}

const magicClose = 0x0100 // WDIOF_MAGICCLOSE

// Arm opens the device, which starts it.
func (w *hardwareWatchdog) Arm(bound time.Duration) error {
	seconds := int(bound / time.Second)
	if seconds < 1 {
		return fmt.Errorf("arm %s: a bound of %s is too short for a hardware watchdog: give it at least 1s", w.device, bound)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		f, err := os.OpenFile(w.device, os.O_WRONLY, 0)
		switch {
		case errors.Is(err, unix.EBUSY):
			return fmt.Errorf("arm %s: another program has it open (systemd's RuntimeWatchdogSec, or a watchdog daemon?): switch that off: %w", w.device, err)
		case errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("arm %s: this machine shows no such watchdog: load its module (or softdog in a test), or use kind external: %w", w.device, err)
		case err != nil:
			return fmt.Errorf("arm watchdog: %w", err)
		}
		w.file = f
	}
	if err := setWatchdog(int(w.file.Fd()), seconds); err != nil {
		w.letGo()
		return fmt.Errorf("arm %s: %w", w.device, err)
	}
	return nil
}

func setWatchdog(fd, seconds int) error {
	var info watchdogInfo
	if _, _, no := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.WDIOC_GETSUPPORT, uintptr(unsafe.Pointer(&info))); no != 0 {
		return fmt.Errorf("ask what it can do: %w", no)
	}
	if info.options&magicClose == 0 {
		return errors.New("it stops when its file is closed, so a crash of the agent would disarm it: use another watchdog, or kind external")
	}
	if err := unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, seconds); err != nil {
		return fmt.Errorf("set %d s: %w", seconds, err)
	}
	got, err := unix.IoctlGetInt(fd, unix.WDIOC_GETTIMEOUT)
	if err != nil {
		return fmt.Errorf("read its time: %w", err)
	}
	if got > seconds {
		return fmt.Errorf("it took %d s for %d s, which is too long: raise watchdog.bound to at least %ds", got, seconds, got)
	}
	return unix.IoctlSetPointerInt(fd, unix.WDIOC_KEEPALIVE, 0)
}

func (w *hardwareWatchdog) Pet() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return nil
	}
	return unix.IoctlSetPointerInt(int(w.file.Fd()), unix.WDIOC_KEEPALIVE, 0)
}

// Disarm closes the device in the way that stops it. One that an earlier
// process armed is opened for that.
func (w *hardwareWatchdog) Disarm() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		f, err := os.OpenFile(w.device, os.O_WRONLY, 0)
		if errors.Is(err, os.ErrNotExist) {
			return nil // it never was
		}
		if err != nil {
			return fmt.Errorf("disarm watchdog: %w", err)
		}
		w.file = f
	}
	return w.letGo()
}

// letGo writes the magic character and closes.
func (w *hardwareWatchdog) letGo() error {
	_, err := w.file.WriteString("V")
	if cerr := w.file.Close(); err == nil {
		err = cerr
	}
	w.file = nil
	if err != nil {
		return fmt.Errorf("disarm %s: %w", w.device, err)
	}
	return nil
}

// Close closes the device without the magic character: an armed watchdog goes
// on counting.
func (w *hardwareWatchdog) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}
