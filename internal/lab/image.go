package lab

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/elf"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

//go:embed guest-init.sh
var guestInit []byte

// guestImage is what the guests boot.
type guestImage struct {
	kernel, initrd string
}

// kernelModules in the order they are loaded; one that the kernel has built in is skipped.
var kernelModules = []string{
	"virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk", "button", "evdev",
}

// applets are busybox's commands that the guest's init uses.
var applets = []string{
	"sh", "mount", "insmod", "cat", "sed", "cut", "echo", "printf", "chmod", "acpid", "dd", "head", "sleep", "sync", "poweroff",
}

// DefaultCacheDir is where the guest kernel is kept between labs.
func DefaultCacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = "/var/cache" // no home, as under some init systems
	}
	return filepath.Join(dir, "lifeboat-lab")
}

// prepareImage makes kernel and initramfs unless the cache has them. The kernel
// is Debian's, unpacked from its package without being installed.
func prepareImage(ctx context.Context, cache string, logf func(string, ...any)) (guestImage, error) {
	if cache == "" {
		cache = DefaultCacheDir()
	}
	cache, err := filepath.Abs(cache)
	if err != nil {
		return guestImage{}, fmt.Errorf("find guest cache: %w", err)
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return guestImage{}, fmt.Errorf("make guest cache: %w", err)
	}
	// Two labs may start at once on an empty cache.
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return guestImage{}, fmt.Errorf("lock guest cache: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return guestImage{}, fmt.Errorf("lock guest cache: %w", err)
	}
	busybox, err := os.ReadFile(tool("busybox"))
	if err != nil {
		return guestImage{}, fmt.Errorf("read busybox: %w", err)
	}
	// The initramfs is rebuilt when anything of ours in it changes.
	sum := sha256.Sum256(bytes.Join([][]byte{guestInit, busybox, []byte(strings.Join(append(kernelModules, applets...), " "))}, nil))
	img := guestImage{
		kernel: filepath.Join(cache, "vmlinuz"),
		initrd: filepath.Join(cache, "initrd-"+hex.EncodeToString(sum[:6])+".img"),
	}
	if exists(img.kernel) && exists(img.initrd) {
		return img, nil
	}
	if err := buildImage(ctx, cache, img, busybox, logf); err != nil {
		return guestImage{}, fmt.Errorf("build guest image: %w", err)
	}
	return img, nil
}

func buildImage(ctx context.Context, cache string, img guestImage, busybox []byte, logf func(string, ...any)) error {
	tree := filepath.Join(cache, "kernel")
	if !exists(tree) {
		if err := fetchKernel(ctx, cache, tree, logf); err != nil {
			return err
		}
	}
	kernels, err := filepath.Glob(filepath.Join(tree, "boot/vmlinuz-*"))
	if err != nil || len(kernels) == 0 {
		return fmt.Errorf("no kernel in %s; remove that directory and try again", tree)
	}
	version := strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
	modules, err := collectModules(ctx, filepath.Join(tree, "lib/modules", version))
	if err != nil {
		return err
	}
	var zipped bytes.Buffer
	z, _ := gzip.NewWriterLevel(&zipped, gzip.BestSpeed) // fails only on a bad level
	if err := writeInitramfs(z, busybox, modules); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("compress initramfs: %w", err)
	}
	kernel, err := os.ReadFile(kernels[0])
	if err != nil {
		return fmt.Errorf("read kernel: %w", err)
	}
	if err := replaceFile(img.initrd, zipped.Bytes()); err != nil {
		return err
	}
	return replaceFile(img.kernel, kernel)
}

// fetchKernel downloads and unpacks the newest cloud kernel, which is small and
// has virtio.
func fetchKernel(ctx context.Context, cache, tree string, logf func(string, ...any)) error {
	logf("fetching the guests' kernel from Debian (27 MB, once)")
	work, err := os.MkdirTemp(cache, "fetch-")
	if err != nil {
		return fmt.Errorf("make download directory: %w", err)
	}
	defer os.RemoveAll(work)
	pkg := kernelPackage(ctx, work)
	if pkg == "" { // a fresh machine has no package lists
		if _, err := run(ctx, work, "apt-get", "-q", "update"); err != nil {
			return err
		}
		if pkg = kernelPackage(ctx, work); pkg == "" {
			return errors.New("apt knows no package linux-image-cloud-amd64; run the lab on Debian 12 or later")
		}
	}
	if _, err := run(ctx, work, "apt-get", "download", pkg); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("download %s: want one package, got %d", pkg, len(debs))
	}
	if _, err := run(ctx, work, "dpkg", "-x", debs[0], "unpacked"); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(work, "unpacked"), tree); err != nil {
		return fmt.Errorf("keep kernel: %w", err)
	}
	return nil
}

// kernelPackage is the package that the newest cloud kernel is in, "" when apt
// does not know it.
func kernelPackage(ctx context.Context, dir string) string {
	depends, err := run(ctx, dir, "apt-cache", "depends", "linux-image-cloud-amd64")
	if err != nil {
		return ""
	}
	return regexp.MustCompile(`linux-image-[0-9][^ \n]*`).FindString(depends)
}

// collectModules reads the modules that are files, by name.
func collectModules(ctx context.Context, dir string) (map[string][]byte, error) {
	found := make(map[string][]byte)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, packing, isModule := strings.Cut(d.Name(), ".ko")
		if !isModule {
			return nil
		}
		for _, want := range kernelModules {
			if strings.ReplaceAll(name, "-", "_") == want {
				found[want], err = readModule(ctx, path, packing)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("collect kernel modules: %w", err)
	}
	return found, nil
}

// readModule unpacks what later Debian kernels compress; busybox cannot.
func readModule(ctx context.Context, path, packing string) ([]byte, error) {
	switch packing {
	case "":
		return os.ReadFile(path)
	case ".xz", ".zst":
		program := map[string]string{".xz": "xz", ".zst": "zstd"}[packing]
		out, err := run(ctx, "", program, "-dc", path)
		return []byte(out), err
	}
	return nil, fmt.Errorf("read %s: unknown packing", path)
}

func writeInitramfs(z *gzip.Writer, busybox []byte, modules map[string][]byte) error {
	a := newArchive(z)
	for _, d := range []string{"bin", "dev", "proc", "sys", "modules", "etc", "etc/acpi", "etc/acpi/PWRF"} {
		a.add(d, unix.S_IFDIR|0o755, nil, 0)
	}
	a.add("dev/console", unix.S_IFCHR|0o600, nil, unix.Mkdev(5, 1))
	a.add("dev/null", unix.S_IFCHR|0o666, nil, unix.Mkdev(1, 3))
	a.add("init", unix.S_IFREG|0o755, guestInit, 0)
	a.add("bin/busybox", unix.S_IFREG|0o755, busybox, 0)
	for _, name := range applets {
		a.add("bin/"+name, unix.S_IFLNK|0o777, []byte("busybox"), 0)
	}
	var order []string
	for _, name := range kernelModules {
		if body, ok := modules[name]; ok {
			a.add("modules/"+name+".ko", unix.S_IFREG|0o644, body, 0)
			order = append(order, name)
		}
	}
	a.add("modules/order", unix.S_IFREG|0o644, []byte(strings.Join(order, "\n")+"\n"), 0)
	return a.close()
}

// isStatic says whether the binary at path runs without shared libraries.
func isStatic(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return false
		}
	}
	return true
}

// run runs a tool to completion and returns its stdout.
func run(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, tool(name), args...)
	cmd.Dir = dir
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("run %s %s: %w: %s", name, strings.Join(args, " "), err, lastLine(problems.Bytes()))
	}
	return out.String(), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// replaceFile writes all of a file or none of it.
func replaceFile(path string, body []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, body, 0o644); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return nil
}
