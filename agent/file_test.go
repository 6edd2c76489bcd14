package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

const goodFile = `host_id: h1
managers:
  - 10.0.0.1:7000
  - 10.0.0.2:7000
cert: h1.crt
key: h1.key
ca: /etc/lifeboat/ca.crt
labels:
  rack: a
  gpu: none
probe_addrs: ["10.0.1.1:22"]
watchdog:
  kind: external
  bound: 15s
  command: [/usr/sbin/reset-me, now]
log:
  format: json
`

func TestLoadConfig(t *testing.T) {
	name := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(name, []byte(goodFile), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := LoadConfig(name)
	if err != nil {
		t.Fatal(err)
	}
	if f.Cert != filepath.Join(filepath.Dir(name), "h1.crt") || f.CA != "/etc/lifeboat/ca.crt" {
		t.Errorf("relative paths: cert %s, ca %s", f.Cert, f.CA)
	}
	if f.Hypervisor != "qemu:///system" || f.StateDir != DefaultStateDir || f.Log.Level != "info" || f.Watchdog.Bound != Duration(15*time.Second) {
		t.Errorf("defaults: %+v", f)
	}
	c, err := Build(f, Deps{HTTP: noHTTP{}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Watchdog.Kind() != lifeboatv1.WatchdogKind_WATCHDOG_KIND_EXTERNAL || c.Bound != 15*time.Second || len(c.Labels) != 2 || c.Labels[0].Key != "gpu" {
		t.Errorf("built %+v", c)
	}
	w := c.Watchdog.(*externalWatchdog)
	if got := strings.Join(w.o.Command[1:], " "); got != "agent-watchdog --socket "+DefaultRunDir+"/watchdog.sock -- /usr/sbin/reset-me now" {
		t.Errorf("watchdog command: %s", got)
	}
}

func TestLoadConfigRefuses(t *testing.T) {
	cases := []struct{ name, from, to, want string }{
		{"unknown key", "labels:", "lables:", "agent.yaml:8: \"lables\" is no key here"},
		{"unknown key in a section", "  bound: 15s", "  bnd: 15s", "agent.yaml:14: \"bnd\" is no key here"},
		{"wrong kind", "  - 10.0.0.1:7000\n  - 10.0.0.2:7000", "  10.0.0.1", "agent.yaml:3: "},
		{"not a duration", "15s", "fifteen", "agent.yaml:14: "},
		{"a number is no duration", "15s", "15", "agent.yaml:14: \"15\" is no duration"},
		{"twice", "ca: ", "key: x\nca: ", "agent.yaml:7: "},
		{"no host", "host_id: h1", "", "host_id is missing"},
		{"bad host", "host_id: h1", "host_id: 'h 1'", "agent.yaml:1: host_id is"},
		{"no port", "10.0.0.2:7000", "10.0.0.2", "agent.yaml:4: managers[1] is"},
		{"kind", "kind: external", "kind: hardwear", "agent.yaml:13: watchdog.kind is \"hardwear\": use hardware"},
		{"bound", "15s", "1h", "agent.yaml:14: watchdog.bound is 1h0m0s"},
		{"command without use", "kind: external", "kind: soft", "watchdog.command is only for kind external"},
		{"format", "json", "xml", "agent.yaml:17: log.format is"},
		{"no certificate", "cert: h1.crt", "", "cert is missing"},
		{"not yaml", "host_id: h1", "host_id: [", "agent.yaml:"},
		{"tab", "  format: json", "\tformat: json", "agent.yaml:"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(goodFile, c.from) {
				t.Fatal("the case changes nothing")
			}
			_, err := parseFile("agent.yaml", []byte(strings.Replace(goodFile, c.from, c.to, 1)))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %s", err, c.want)
			}
		})
	}
	if _, err := parseFile("agent.yaml", nil); err == nil {
		t.Error("an empty file was accepted")
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte(goodFile))
	f.Add([]byte("watchdog: {kind: external, bound: -1s}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseFile("agent.yaml", b)
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("the error has several lines: %v", err)
		}
		if err == nil && (got.HostID == "" || len(got.Managers) == 0 || got.Watchdog.Bound <= 0) {
			t.Errorf("accepted %+v", got)
		}
	})
}
