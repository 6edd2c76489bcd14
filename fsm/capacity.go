package fsm

import (
	"fmt"
	"strconv"
	"strings"
)

// Capacity is what of a host is for VMs: what it has, less what is reserved for
// itself, times what may be promised of it. No CPUs: they are not counted.
func (p *Policy) Capacity(inv *Inventory) (cpus uint32, memory uint64) {
	memory = inv.MemoryBytes - min(p.ReservedMemory, inv.MemoryBytes)
	memory = min(memory, maxSize) * uint64(p.MemoryOvercommit) / 100
	if p.CPUOvercommit == 0 {
		return 0, memory
	}
	own := inv.CPUs - min(uint32(p.ReservedCPUs), inv.CPUs)
	return max(uint32(uint64(own)*uint64(p.CPUOvercommit)/100), 1), memory
}

// factor is a policy key that is a factor, kept in hundredths.
func factor(key string, f func(*Policy) *int, lo, hi int, doc string) PolicySetting {
	return PolicySetting{key, doc, LevelPolicy,
		func(p *Policy) string { return strconv.FormatFloat(float64(*f(p))/100, 'f', -1, 64) },
		func(p *Policy, v string) error {
			x, err := strconv.ParseFloat(v, 64)
			n := int(x*100 + 0.5)
			if err != nil || !(x >= 0 && x <= 1000) || n != 0 && n < lo || n == 0 && lo > 0 || n > hi {
				return fmt.Errorf("%s: %q must be a factor between %g and %g, such as 1.5", key, v, float64(lo)/100, float64(hi)/100)
			}
			*f(p) = n
			return nil
		}}
}

// size is a policy key that is an amount of memory.
func size(key string, f func(*Policy) *uint64, doc string) PolicySetting {
	return PolicySetting{key, doc, LevelPolicy,
		func(p *Policy) string { return sizeText(*f(p)) },
		func(p *Policy, v string) error {
			n, err := parseSize(v)
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			*f(p) = n
			return nil
		}}
}

// maxSize is more memory than any host has.
const maxSize = uint64(1) << 50

func sizeText(n uint64) string {
	switch {
	case n == 0:
		return "0"
	case n%(1<<30) == 0:
		return fmt.Sprintf("%dGiB", n>>30)
	case n%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", n>>20)
	}
	return fmt.Sprintf("%dKiB", n>>10)
}

func parseSize(v string) (uint64, error) {
	for _, u := range []struct {
		unit  string
		shift uint
	}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		if text, ok := strings.CutSuffix(v, u.unit); ok {
			n, err := strconv.ParseUint(text, 10, 40)
			if err != nil || n<<u.shift > maxSize {
				break
			}
			return n << u.shift, nil
		}
	}
	if v == "0" {
		return 0, nil
	}
	return 0, fmt.Errorf("%q is no amount of memory; write for example 8GiB or 512MiB", v)
}
