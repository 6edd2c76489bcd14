package storm

import (
	"encoding/json"
	"os"
	"os/exec"
	"testing"
	"time"
)

// Agents in processes of their own come over TLS, are answered all the time, and
// find the next leader when theirs is killed.
func TestCrowd(t *testing.T) {
	if text := os.Getenv("LIFEBOAT_STORM_AGENTS"); text != "" { // this is such a process
		var cfg AgentsConfig
		if err := json.Unmarshal([]byte(text), &cfg); err != nil {
			t.Fatal(err)
		}
		if err := ActAsAgents(t.Context(), cfg, os.Stdout); err != nil {
			t.Fatal(err)
		}
		return
	}
	c := cluster(t, Options{})
	r, err := c.Crowd(t.Context(), CrowdOptions{Agents: 20, VMs: 5, Beat: 200 * time.Millisecond, For: time.Second, Processes: 2,
		Command: func(cfg AgentsConfig) *exec.Cmd {
			text, err := json.Marshal(cfg)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(os.Args[0], "-test.run", "^TestCrowd$")
			cmd.Env = append(os.Environ(), "LIFEBOAT_STORM_AGENTS="+string(text))
			return cmd
		}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Changed || r.Answers < 20 || r.Back <= 0 {
		t.Errorf("%+v", r)
	}
}
