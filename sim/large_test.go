package sim_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"lifeboat/sim/scenario"
)

// largeWorld is a fleet of which one host in a hundred fails within an hour, one
// after the other, for half a minute each.
func largeWorld(tb testing.TB, hosts, vms int) *scenario.File {
	var b strings.Builder
	fmt.Fprintf(&b, "settings: {cpu_overcommit: 0}\nhosts: {count: %d, prefix: h}\nvms: [{count: %d, prefix: v, host: \"*\", cpus: 1, memory: 1GiB}]\nsteps:\n", hosts, hosts*vms)
	fail := max(hosts/100, 1)
	pause := time.Hour / time.Duration(fail+1)
	for i := range fail {
		down := i*(hosts/fail) + 1
		fmt.Fprintf(&b, "  - %s: [power h%d off]\n", pause, down)
	}
	fmt.Fprintf(&b, "until: %s\nexpect:\n  work: {error: 0, open: 0}\n", pause)
	f, err := scenario.Parse("large.yaml", []byte(b.String()))
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// BenchmarkLarge is one virtual hour of 10,000 hosts with 100 VMs each, 1 % of
// which fail.
func BenchmarkLarge(b *testing.B) {
	hosts := 10000
	if n, err := strconv.Atoi(os.Getenv("LIFEBOAT_BENCH_HOSTS")); err == nil {
		hosts = n
	}
	for b.Loop() {
		r := runFile(b, largeWorld(b, hosts, 100), 1)
		if !r.Passed {
			var t strings.Builder
			_ = r.Write(&t)
			b.Fatal(t.String())
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/hour")
}
