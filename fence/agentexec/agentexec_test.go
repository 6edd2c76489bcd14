package agentexec

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/fence"
	"lifeboat/fence/fencetest"
	"lifeboat/fence/internal/child"
)

const (
	identity = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
	password = "letmein-4711"
)

// rig is a fence agent in shell that keeps the convention, in front of a
// machine in a folder.
type rig struct {
	fencetest.Machine
	agent string
}

// agentBody follows ScriptHead. It notes what others could see of it (command
// line and environment), so that a test can look for the password there.
const agentBody = `
tr '\0' ' ' </proc/$$/cmdline >>"$d/seen"
tr '\0' ' ' </proc/$$/environ >>"$d/seen"
while IFS='=' read -r key value; do
  case $key in
    action) action=$value ;; username) user=$value ;; password) pass=$value ;; ip) ip=$value ;; plug) plug=$value ;;
    *) echo "Parse error: Ignoring unknown option '$key'" >&2 ;;
  esac
done
case $fault in
  down) echo "2026-01-01 00:00:00,000 ERROR: Unable to connect/login to fencing device" >&2; exit 1 ;;
  slow) sleep 0.4 ;;
  hung) echo 'sleep 30; :' >"$d/hang"; sh "$d/hang" & wait; exit 1 ;;
esac
if [ "$user" != admin ] || [ "$pass" != letmein-4711 ]; then
  echo "ERROR: Login denied for $user with $pass" >&2; exit 1
fi
[ "$ip" = pdu1 ] && [ "$plug" = 3 ] || { echo "ERROR: no such plug" >&2; exit 1; }
case $action in
  monitor) exit 0 ;;
  status) if [ "$(get_power)" = 1 ]; then echo "Status: ON"; exit 0; else echo "Status: OFF"; exit 2; fi ;;
  on) set_power 1 || { echo "ERROR: Failed" >&2; exit 1; }; echo "Success: Powered ON" ;;
  off) set_power 0 || { echo "ERROR: Failed: Timed out waiting to power OFF" >&2; exit 1; }; echo "Success: Powered OFF" ;;
  *) exit 1 ;;
esac
`

func newRig(t *testing.T) *rig {
	t.Helper()
	m := fencetest.NewMachine(t)
	return &rig{Machine: m, agent: script(t, m.Dir, m.ScriptHead()+agentBody)}
}

func script(t *testing.T, dir, text string) string {
	t.Helper()
	path := filepath.Join(dir, "fence_shell")
	fencetest.Program(t, path, text)
	return path
}

func (r *rig) Kind() fence.Kind { return Kind() }
func (r *rig) Identity() string { return identity }
func (r *rig) Target() fence.Target {
	return fence.Target{
		Driver: Name, Address: "pdu1", User: "admin", Password: fence.NewSecret(password),
		Options: map[string]string{"agent": r.agent, "identity": identity, "identity_checked": "by-hand", "param.plug": "3"},
	}
}

func (r *rig) Leftovers(t *testing.T) []string { return fencetest.Processes(t, r.Dir) }

func TestConformance(t *testing.T) {
	fencetest.Run(t, func(t *testing.T) fencetest.Rig { return newRig(t) })
}

func TestThePasswordIsNotSeen(t *testing.T) {
	t.Setenv("SOME_SECRET_OF_OURS", "tell-nobody")
	r := newRig(t)
	d, err := open(r.Target())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fence.Fence(t.Context(), d, fence.Expect{Identity: identity}, nil); err != nil {
		t.Fatal(err)
	}
	seen, err := os.ReadFile(filepath.Join(r.Dir, "seen"))
	if err != nil || !strings.Contains(string(seen), "fence_shell") {
		t.Fatalf("the agent saw %q: %v", seen, err)
	}
	for _, secret := range []string{password, "tell-nobody"} {
		if strings.Contains(string(seen), secret) {
			t.Errorf("%q is on the command line or in the environment of the agent", secret)
		}
	}
}

func TestS9_IdentityMustBeCheckedByHand(t *testing.T) {
	r := newRig(t)
	target := r.Target()
	delete(target.Options, "identity_checked")
	r.SetPower(t, false)
	d, err := open(target)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fence.Fence(t.Context(), d, fence.Expect{Identity: identity}, nil)
	if !errors.Is(err, fence.IdentityUnknown) || r.Orders(t) != 0 {
		t.Fatal(err)
	}
	t.Log(err)
}

// An exit code of 2 is "off" by the convention and "I am broken" by custom.
func TestABrokenAgentIsNotOff(t *testing.T) {
	for name, text := range map[string]string{
		"syntax error":         "#!/bin/sh\nif then\n",
		"always 2":             "#!/bin/sh\nexit 2\n",
		"killed":               "#!/bin/sh\nkill -9 $$\n",
		"missing interpreter":  "#!/nonexistent/python\n",
		"contradicts itself":   "#!/bin/sh\ngrep -q action=monitor && exit 0\necho 'Status: ON'; exit 2\n",
		"endless output, code": "#!/bin/sh\nhead -c 1000000 /dev/zero; exit 2\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			target := r.Target()
			target.Options["agent"] = script(t, t.TempDir(), text)
			d, err := open(target)
			if err != nil {
				t.Fatal(err)
			}
			state, err := d.Power(t.Context())
			if state == fence.Off {
				t.Fatal("a broken agent reads off")
			}
			t.Log(state, err)
		})
	}
}

func TestAMissingAgentIsNamed(t *testing.T) {
	r := newRig(t)
	target := r.Target()
	target.Options["agent"] = "fence_that_is_not_here"
	d, err := open(target)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fence.Fence(t.Context(), d, fence.Expect{Identity: identity}, nil)
	if !errors.Is(err, fence.NoProgram) || !strings.Contains(err.Error(), "fence_that_is_not_here is not installed") {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, change := range map[string]func(*fence.Target){
		"no agent":            func(t *fence.Target) { delete(t.Options, "agent") },
		"any program":         func(t *fence.Target) { t.Options["agent"] = "/bin/sh" },
		"relative path":       func(t *fence.Target) { t.Options["agent"] = "./fence_x" },
		"checked, but what":   func(t *fence.Target) { delete(t.Options, "identity") },
		"checked how":         func(t *fence.Target) { t.Options["identity_checked"] = "true" },
		"action":              func(t *fence.Target) { t.Options["param.action"] = "reboot" },
		"password twice":      func(t *fence.Target) { t.Options["param.password"] = "x" },
		"injected by value":   func(t *fence.Target) { t.Options["param.plug"] = "3\naction=reboot" },
		"injected by name":    func(t *fence.Target) { t.Options["param.plug=1\naction"] = "reboot" },
		"injected by secret":  func(t *fence.Target) { t.Password = fence.NewSecret("x\naction=reboot") },
		"injected by address": func(t *fence.Target) { t.Address = "pdu\naction=reboot" },
		"unknown":             func(t *fence.Target) { t.Options["plug"] = "3" },
	} {
		target := fence.Target{Driver: Name, Address: "pdu1", Options: map[string]string{"agent": "fence_apc", "identity": identity, "identity_checked": byHand}}
		change(&target)
		if _, err := fence.NewRegistry(Kind()).Open(target); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

func FuzzReadStatus(f *testing.F) {
	f.Add(2, "Status: OFF\n", "")
	f.Add(0, "Status: ON\n", "")
	f.Add(2, "status :on", "x ERROR: y")
	f.Fuzz(func(t *testing.T, code int, stdout, stderr string) {
		state, err := readStatus(child.Result{Stdout: stdout, Stderr: stderr, Code: code})
		if state == fence.Off && (code != 2 || err != nil) {
			t.Fatal("off without the code for it")
		}
		if (err != nil) != (code != 0 && code != 2) {
			t.Fatal(state, err)
		}
	})
}
