package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lifeboat/node"
)

// A cluster of processes loses two of its three nodes for ever, and goes on with what
// the third one has, as docs/recovery.md says.
func TestDevRecover(t *testing.T) {
	d := newDev(t)
	d.start()
	d.until("Ctrl-C ends everything")
	data := filepath.Join(d.dir(), "cluster")
	config, peers := filepath.Join(data, "n3.yaml"), filepath.Join(d.runtime, "peers.yaml")
	cfg, err := node.LoadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(peers, []byte("n3: "+cfg.Advertise+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	recovery := []string{"server", "recover", "-c", config, "--peers", peers}
	expect := func(text string, code int, args ...string) {
		t.Helper()
		if out, got := d.run(args...); got != code || !strings.Contains(out, text) {
			t.Fatalf("%v: exit code %d, %s", args, got, out)
		}
	}
	expect("already running", 1, append(recovery, "--yes")...)
	for _, n := range []string{"n1", "n2", "n3"} {
		expect("is killed", 0, "dev", "kill", n)
	}
	expect("nothing was recovered", 1, recovery...)
	expect("1 node recovered: n3, generation ", 0, append(recovery, "--yes")...)
	expect("runs again", 0, "dev", "start", "n3")
	var status string
	for end := time.Now().Add(60 * time.Second); !strings.Contains(status, "4 of 4 up"); {
		if time.Now().After(end) {
			t.Fatalf("the hosts have not registered: %s", status)
		}
		time.Sleep(200 * time.Millisecond)
		status, _ = d.run("status", "--timeout", "5s")
	}
	for _, text := range []string{"12 of 12 protected running", "DISARMED", "Leader:        n3"} {
		if !strings.Contains(status, text) {
			t.Errorf("%q is not said: %s", text, status)
		}
	}
	expect("HA is armed", 0, "ha", "arm")
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := d.end(10 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	d.gone()
}
