package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/cli"
)

// S24: the VMs at risk are named, and only the name of the host is a yes.
func TestS24ConfirmDeadAsks(t *testing.T) {
	for name, tc := range map[string]struct {
		stdin string
		args  []string
		code  int
		sent  string
		says  []string
	}{
		"yes is not enough":          {stdin: "yes\n", code: cli.ExitFailed, says: []string{"nothing was changed"}},
		"no answer":                  {stdin: "", code: cli.ExitFailed, says: []string{"nothing was changed"}},
		"another host":               {stdin: "h1\n", code: cli.ExitFailed, says: []string{"nothing was changed"}},
		"the name":                   {stdin: "h2\n", sent: `{"host":"h2","action":"confirm-dead"}`, says: []string{"confirmed dead by alice"}},
		"the name without a newline": {stdin: "h2", sent: `{"host":"h2","action":"confirm-dead"}`},
		"a script":                   {args: []string{"--yes"}, sent: `{"host":"h2","action":"confirm-dead"}`},
		"forced":                     {args: []string{"--yes", "--force"}, sent: `{"host":"h2","action":"confirm-dead","force":true}`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, busyState())
			w.stdin = tc.stdin
			r := w.run(append([]string{"host", "confirm-dead", "h2"}, tc.args...)...)
			for _, text := range append(tc.says, "Host h2 is Down (silent for 4 beats), last heard: 15s ago.",
				"1 protected VM will start on other hosts", `仮想\x1b[2J`, "disk /var/lib/vm.img is local") {
				if !strings.Contains(r.stdout+r.stderr, text) {
					t.Errorf("%q is not said:\n%s%s", text, r.stdout, r.stderr)
				}
			}
			if r.code != tc.code {
				t.Errorf("exit code %d, want %d", r.code, tc.code)
			}
			if got := w.sent(); got != strings.TrimSpace("ControlHost "+tc.sent) && !(tc.sent == "" && got == "") {
				t.Errorf("sent %q, want %q", got, tc.sent)
			}
		})
	}
	t.Run("a host that is heard", func(t *testing.T) {
		w := newWorld(t, busyState())
		r := w.run("host", "confirm-dead", "h1", "--yes")
		if r.code != cli.ExitRefused || !strings.Contains(r.stderr, "was heard 0.4 s ago; 'lifeboat host show h1'") {
			t.Errorf("exit %d, %s", r.code, r.stderr)
		}
	})
}

// sent is the writes the node executed.
func (w *world) sent() string {
	w.admin.mu.Lock()
	defer w.admin.mu.Unlock()
	var calls []string
	for _, c := range w.admin.calls {
		calls = append(calls, compactJSON(w.t, c))
	}
	return strings.Join(calls, "\n")
}

func TestFencePasswordsAreNeverInTheCommandLine(t *testing.T) {
	w := newWorld(t, busyState())
	own := filepath.Join(t.TempDir(), "own")
	if err := os.WriteFile(own, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const bmc = "ipmi,address=10.0.9.1,user=admin"
	for name, tc := range map[string]struct {
		args  []string
		stdin string
		typed string // on the terminal; empty = there is none
		code  int
		sent  string // part of it
		says  string
	}{
		"on the command line": {args: []string{bmc + ",password=hunter2"}, code: cli.ExitUsage, says: "can be read by every user"},
		"no terminal":         {args: []string{bmc}, code: cli.ExitUsage, says: "--password-file"},
		"a terminal":          {args: []string{bmc, "lease"}, typed: "secret", sent: `"password":"secret"`},
		"stdin":               {args: []string{bmc, "--password-file=-"}, stdin: "piped\n", sent: `"password":"piped"`},
		"stdin for two": {args: []string{bmc, "redfish,address=b:443,user=root", "--password-file=-"}, stdin: "piped",
			sent: `{"driver":"redfish","address":"b:443","user":"root","password":"piped"}`},
		"a file of its own": {args: []string{bmc + ",password-file=" + own}, sent: `"password":"from-file"`},
		"an empty file":     {args: []string{bmc, "--password-file=-"}, code: cli.ExitUsage, says: "empty"},
		"two lines":         {args: []string{bmc, "--password-file=-"}, stdin: "a\nb\n", code: cli.ExitUsage, says: "several lines"},
		"a wrong driver":    {args: []string{"ilo"}, code: cli.ExitUsage, says: "ipmi, redfish, fence-agent, lease, manual"},
		"no address":        {args: []string{"ipmi,user=a"}, code: cli.ExitUsage, says: "no address"},
		"a wrong timeout":   {args: []string{"ipmi,address=a,timeout=5"}, code: cli.ExitUsage, says: "write it like 10s"},
		"an executor":       {args: []string{"fence-agent,agent=fence_apc", "fence-agent,agent=fence_apc,executor=any", "lease", "--executor=host:h2"}, sent: `"executor":"host:h2"},{"driver":"fence-agent","options":{"agent":"fence_apc"},"executor":"any"},{"driver":"lease"}`},
		"driver options":    {args: []string{"fence-agent,agent=fence_apc,port=3"}, sent: `"options":{"agent":"fence_apc","port":"3"}`},
	} {
		t.Run(name, func(t *testing.T) {
			w.admin.mu.Lock()
			w.admin.calls = nil
			w.admin.mu.Unlock()
			w.stdin, w.ask = tc.stdin, nil
			if tc.typed != "" {
				w.ask = func(context.Context, string) (string, error) { return tc.typed, nil }
			}
			r := w.run(append([]string{"host", "fence", "set", "h1"}, tc.args...)...)
			if r.code != tc.code || !strings.Contains(r.stderr, tc.says) {
				t.Errorf("exit %d, want %d with %q: %s", r.code, tc.code, tc.says, r.stderr)
			}
			if !strings.Contains(w.sent(), tc.sent) || (tc.code != 0) != (w.sent() == "") {
				t.Errorf("sent %s, want %s", w.sent(), tc.sent)
			}
			if strings.Contains(r.stdout+r.stderr, "hunter2") {
				t.Error("the password is repeated")
			}
		})
	}
}
