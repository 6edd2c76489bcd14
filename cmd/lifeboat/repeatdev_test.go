package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// leader waits for a node that leads.
func (d *devCluster) leader() string {
	d.t.Helper()
	var r struct {
		Nodes []struct {
			ID     string
			Leader bool
		}
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		out, err := d.lifeboat("node", "list", "-o", "json").Output()
		if err != nil {
			continue // nobody leads, and that is what it says
		}
		if err := json.Unmarshal(out, &r); err != nil {
			d.t.Fatal(err)
		}
		for _, n := range r.Nodes {
			if n.Leader {
				return n.ID
			}
		}
	}
	d.t.Error("nobody leads")
	return ""
}

// Settings are changed one after the other while leaders are killed with -9: every
// command succeeds, and each change is made once.
func TestDevWritesOutliveLeaders(t *testing.T) {
	d := newDev(t)
	d.start()
	d.until("all are Up")
	written := make(chan int)
	stop := make(chan struct{})
	go func() {
		n := 0
		defer func() { written <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if out, code := d.run("policy", "set", fmt.Sprintf("max_restart=%d", 100+n), "--timeout=30s"); code != 0 {
				t.Errorf("write %d: exit code %d, %s", n, code, out)
				return
			}
			n++
		}
	}()
	for range 2 {
		time.Sleep(500 * time.Millisecond)
		l := d.leader()
		if out, code := d.run("dev", "kill", l); code != 0 {
			t.Errorf("kill %s: %s", l, out)
		}
		time.Sleep(3 * time.Second)
		if out, code := d.run("dev", "start", l); code != 0 {
			t.Errorf("start %s: %s", l, out)
		}
	}
	close(stop)
	n := <-written
	out, err := d.lifeboat("event", "list", "-n", "1000", "--consistency=linearizable").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(out), "max_restart:"); got != n || n == 0 {
		t.Errorf("%d commands succeeded, %d changes were made", n, got)
	}
	if v, _ := d.run("policy", "get", "max_restart", "--consistency=linearizable"); strings.TrimSpace(v) != fmt.Sprint(100+n-1) {
		t.Errorf("the last write set %d, read is %s", 100+n-1, v)
	}
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := d.end(10 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	t.Logf("%d writes", n)
}
