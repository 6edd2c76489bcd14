package sim

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// hugePages asks the kernel to back the heap with huge pages. A large world is
// some gigabytes of small pieces that are visited in no order: with pages of
// 4 KiB it spends a fifth of its time on faults and on looking addresses up. What
// the kernel does not want to do it leaves.
func hugePages() {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var from, to uintptr
		var mode string
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); n == 3 && mode == "rw-p" && from >= heapStart && to <= heapEnd && !strings.Contains(lines.Text(), "/") {
			_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_HUGEPAGE)
		}
	}
}

// Where Go's heap lies on 64-bit Linux: arenas are asked for from the start on.
const (
	heapStart = 0x00c0_0000_0000
	heapEnd   = 0x00e0_0000_0000
)
