package redfish

import (
	"bytes"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lifeboat/fence"
	"lifeboat/fence/fencetest"
	"lifeboat/fence/redfishsim"
)

const (
	uuid   = "2f1d6b0e-57a4-4c55-9c1c-6a5b1e7d9f01"
	serial = "LB00042"
)

type rig struct {
	bmc    *redfishsim.Server
	target fence.Target

	mu sync.Mutex
	on bool
}

func newRig(t *testing.T, options map[string]string, change func(*redfishsim.Config)) *rig {
	t.Helper()
	r := &rig{on: true}
	cfg := redfishsim.Config{
		User: "admin", Password: "sesame-street", UUID: uuid, Serial: serial,
		Power: func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.on },
		SetPower: func(on bool) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.on = on
			return nil
		},
	}
	if change != nil {
		change(&cfg)
	}
	bmc, err := redfishsim.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bmc.Close() })
	ca := filepath.Join(t.TempDir(), "bmc.pem")
	if err := os.WriteFile(ca, bmc.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"ca_file": ca}
	for k, v := range options {
		all[k] = v
	}
	r.bmc = bmc
	r.target = fence.Target{Driver: Name, Address: bmc.Address(), User: "admin", Password: fence.NewSecret("sesame-street"), Options: all}
	return r
}

func (r *rig) Kind() fence.Kind     { return Kind() }
func (r *rig) Target() fence.Target { return r.target }
func (r *rig) Identity() string     { return uuid }
func (r *rig) SetPower(_ *testing.T, on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on = on
}

func (r *rig) Power(*testing.T) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.on
}

func (r *rig) Orders(*testing.T) int { return len(r.bmc.Resets()) }

func (r *rig) Inject(t *testing.T, f fencetest.Fault) {
	faults, ok := map[fencetest.Fault]redfishsim.Faults{
		fencetest.Slow:     {Delay: 300 * time.Millisecond},
		fencetest.Hung:     {Delay: 30 * time.Second},
		fencetest.Down:     {Down: true},
		fencetest.Erring:   {RefuseReset: true},
		fencetest.Lying:    {Lies: true},
		fencetest.Flapping: {Flaps: true},
	}[f]
	if !ok {
		t.Fatalf("fault %q is not known", f)
	}
	r.bmc.SetFaults(faults)
}

func (r *rig) Leftovers(*testing.T) []string {
	if n := r.bmc.Sessions(); n > 0 {
		return []string{strconv.Itoa(n) + " sessions"}
	}
	return nil
}

func TestConformanceBasicAuth(t *testing.T) {
	t.Parallel()
	fencetest.Run(t, func(t *testing.T) fencetest.Rig { return newRig(t, nil, nil) })
}

func TestConformanceSessions(t *testing.T) {
	t.Parallel()
	fencetest.Run(t, func(t *testing.T) fencetest.Rig {
		return newRig(t, map[string]string{"auth": "session", "system": "/redfish/v1/Systems/1"}, nil)
	})
}

func (r *rig) fence(t *testing.T, identity string) (fence.Proof, error) {
	t.Helper()
	d, err := fence.NewRegistry(Kind()).Open(r.target)
	if err != nil {
		t.Fatal(err)
	}
	return fence.Fence(t.Context(), d, fence.Expect{Identity: identity}, nil)
}

func TestAnswersAreNotProof(t *testing.T) {
	t.Run("done but answered with 500", func(t *testing.T) {
		r := newRig(t, nil, nil)
		r.bmc.SetFaults(redfishsim.Faults{LateError: true})
		if p, err := r.fence(t, uuid); err != nil || p.AlreadyOff {
			t.Fatal(p, err)
		}
	})
	t.Run("409 for what went off meanwhile", func(t *testing.T) {
		r := newRig(t, nil, nil)
		d, err := open(r.target)
		if err != nil {
			t.Fatal(err)
		}
		r.bmc.SetFaults(redfishsim.Faults{Conflict: true})
		r.SetPower(t, false)
		if err := d.Off(t.Context()); !errors.Is(err, fence.Refused) || !strings.Contains(err.Error(), "409") {
			t.Fatal(err)
		}
		if s, err := d.Power(t.Context()); s != fence.Off || err != nil {
			t.Fatal(s, err)
		}
	})
	t.Run("powering off is not off", func(t *testing.T) {
		r := newRig(t, nil, nil)
		r.bmc.SetFaults(redfishsim.Faults{PowerState: "PoweringOff"})
		d, _ := open(r.target)
		if s, err := d.Power(t.Context()); s != fence.Unknown || err != nil {
			t.Fatal(s, err)
		}
	})
}

func TestResetTypes(t *testing.T) {
	for _, c := range []struct {
		offered []string
		want    string
	}{
		{[]string{"On", "ForceOff", "GracefulShutdown"}, "ForceOff"},
		{[]string{"On", "GracefulShutdown"}, "GracefulShutdown"},
		{[]string{}, "ForceOff"}, // nothing offered: the usual one is tried, and refused by this BMC
		{[]string{"On", "Nmi", "PushPowerButton"}, ""},
	} {
		r := newRig(t, nil, nil)
		r.bmc.SetFaults(redfishsim.Faults{ResetTypes: c.offered})
		d, _ := open(r.target)
		err := d.Off(t.Context())
		got := strings.Join(r.bmc.Resets(), " ")
		if got != c.want || (err == nil) != slices.Contains(c.offered, c.want) {
			t.Errorf("%v: asked for %q, want %q: %v", c.offered, got, c.want, err)
		}
	}
}

func TestS9_WhichMachine(t *testing.T) {
	t.Run("two systems need the option", func(t *testing.T) {
		r := newRig(t, nil, nil)
		r.bmc.SetFaults(redfishsim.Faults{TwoSystems: true})
		_, err := r.fence(t, uuid)
		if !errors.Is(err, fence.Refused) || !strings.Contains(err.Error(), "set option system") || len(r.bmc.Resets()) > 0 {
			t.Fatal(err)
		}
		r.target.Options["system"] = "/redfish/v1/Systems/1"
		if _, err := r.fence(t, uuid); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a system that is not there", func(t *testing.T) {
		r := newRig(t, map[string]string{"system": "/redfish/v1/Systems/9"}, nil)
		if _, err := r.fence(t, uuid); !errors.Is(err, fence.Refused) {
			t.Fatal(err)
		}
	})
	for _, c := range []struct {
		name, uuid, serial, option, expect string
		reason                             error
	}{
		{"serial where the UUID is a placeholder", "00000000-0000-0000-0000-000000000000", serial, "", serial, nil},
		{"serial by option", uuid, serial, "serial", serial, nil},
		{"uuid by option", "", serial, "uuid", serial, fence.IdentityUnknown},
		{"neither", "", "To be filled by O.E.M.", "", serial, fence.IdentityUnknown},
		{"UUID in SMBIOS byte order", "0e6b1d2f-a457-554c-9c1c-6a5b1e7d9f01", "", "", uuid, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, map[string]string{"identity": c.option}, func(cfg *redfishsim.Config) { cfg.UUID, cfg.Serial = c.uuid, c.serial })
			r.SetPower(t, false)
			if _, err := r.fence(t, c.expect); !errors.Is(err, c.reason) {
				t.Fatal(err)
			}
		})
	}
}

func TestTransport(t *testing.T) {
	t.Run("certificate", func(t *testing.T) {
		r := newRig(t, map[string]string{"ca_file": ""}, nil)
		if _, err := r.fence(t, uuid); !errors.Is(err, fence.Refused) || !strings.Contains(err.Error(), "set option ca_file") {
			t.Fatal(err)
		}
		r.target.Options["tls_insecure"] = "true"
		if _, err := r.fence(t, uuid); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		r := newRig(t, nil, nil)
		r.target.Address = l.Addr().String()
		if _, err := r.fence(t, uuid); !errors.Is(err, fence.Unreachable) || !strings.Contains(err.Error(), "connection refused") {
			t.Fatal(err)
		}
	})
	t.Run("no TLS behind the address", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Write(bytes.Repeat([]byte("220 mail\r\n"), 100))
				_ = c.Close()
			}
		}()
		r := newRig(t, nil, nil)
		r.target.Address = l.Addr().String()
		if _, err := r.fence(t, uuid); err == nil {
			t.Fatal("proof from a mail server")
		} else {
			t.Log(err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	sound := fence.Target{Driver: Name, Address: "bmc1", User: "admin", Password: fence.NewSecret("pw")}
	for name, change := range map[string]func(*fence.Target){
		"plain http":   func(t *fence.Target) { t.Address = "http://bmc1" },
		"no address":   func(t *fence.Target) { t.Address = "" },
		"a path":       func(t *fence.Target) { t.Address = "https://bmc1/redfish/v1" },
		"no user":      func(t *fence.Target) { t.User = "" },
		"no password":  func(t *fence.Target) { t.Password = fence.Secret{} },
		"auth":         func(t *fence.Target) { t.Options = map[string]string{"auth": "digest"} },
		"identity":     func(t *fence.Target) { t.Options = map[string]string{"identity": "name"} },
		"insecure":     func(t *fence.Target) { t.Options = map[string]string{"tls_insecure": "yes"} },
		"system":       func(t *fence.Target) { t.Options = map[string]string{"system": "1"} },
		"missing file": func(t *fence.Target) { t.Options = map[string]string{"ca_file": "/nonexistent/ca.pem"} },
		"not PEM":      func(t *fence.Target) { t.Options = map[string]string{"ca_file": "/proc/self/cmdline"} },
		"unknown":      func(t *fence.Target) { t.Options = map[string]string{"cipher": "3"} },
	} {
		target := sound
		change(&target)
		if _, err := fence.NewRegistry(Kind()).Open(target); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	sound.Address = "https://bmc1:8443/"
	if _, err := fence.NewRegistry(Kind()).Open(sound); err != nil {
		t.Error(err)
	}
}
