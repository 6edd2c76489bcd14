package fencetest

import (
	"os"
	"syscall"
	"testing"
)

// Program writes a program that the test will run. Nobody forks meanwhile: a child
// that held the file open for writing for a moment longer would keep it from being
// run ("text file busy").
func Program(t testing.TB, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}
