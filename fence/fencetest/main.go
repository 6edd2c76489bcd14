package fencetest

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// Main is the TestMain of packages that run the suite. Its tests wait for
// devices and compute nothing, so more of them run at once than there are cores,
// unless -parallel says otherwise.
func Main(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", "16"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
