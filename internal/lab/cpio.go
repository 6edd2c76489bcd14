package lab

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// archive writes the cpio format ("newc") that the Linux kernel reads as its
// initramfs. All files belong to root and have no times, so equal contents make
// equal archives.
type archive struct {
	w       io.Writer
	inode   int
	written int
	err     error // the first one; later calls do nothing
}

func newArchive(w io.Writer) *archive { return &archive{w: w} }

// add appends one file. mode has the file type in it; a symbolic link's body is
// its target; dev is for device nodes.
func (a *archive) add(name string, mode uint32, body []byte, dev uint64) {
	a.inode++
	a.entry(name, a.inode, mode, body, dev)
}

func (a *archive) entry(name string, inode int, mode uint32, body []byte, dev uint64) {
	const links, zero = 1, 0
	header := "070701" // magic, then thirteen fields of eight hex digits
	for _, field := range []uint32{
		uint32(inode), mode, zero, zero, links, zero, uint32(len(body)),
		zero, zero, unix.Major(dev), unix.Minor(dev), uint32(len(name) + 1), zero,
	} {
		header += fmt.Sprintf("%08x", field)
	}
	a.write([]byte(header + name + "\x00"))
	a.pad()
	a.write(body)
	a.pad()
}

// pad fills up to a multiple of four bytes.
func (a *archive) pad() { a.write(make([]byte, (4-a.written%4)%4)) }

func (a *archive) write(b []byte) {
	if a.err != nil {
		return
	}
	n, err := a.w.Write(b)
	a.written += n
	if err != nil {
		a.err = fmt.Errorf("write initramfs: %w", err)
	}
}

// close appends the end mark and returns the first error of all calls.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, 0, nil, 0)
	return a.err
}
