package storm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Percentile is the smallest time that at least p percent of all are at or below;
// 0 when there are none.
func (t Times) Percentile(p int) time.Duration {
	if len(t) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(t))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

// Fsyncs measures what a disk takes to make 4 KiB durable at the end of a file.
func Fsyncs(dir string, times int) (out Times, err error) {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return nil, fmt.Errorf("measure fsync: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	page := make([]byte, 4096)
	for range times {
		if _, err := f.Write(page); err != nil {
			return nil, fmt.Errorf("measure fsync: %w", err)
		}
		began := time.Now()
		if err := f.Sync(); err != nil {
			return nil, fmt.Errorf("measure fsync: %w", err)
		}
		out = append(out, time.Since(began))
	}
	return out, nil
}
