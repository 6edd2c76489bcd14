package libvirt

import (
	"slices"
	"strings"
	"testing"
)

func TestParseURI(t *testing.T) {
	for _, c := range []struct {
		uri, network, name, addr string
		tls                      bool
	}{
		{"qemu:///system", "unix", "qemu:///system", "/run/libvirt/libvirt-sock", false},
		{"qemu+unix:///system?socket=/x/y", "unix", "qemu:///system", "/x/y", false},
		{"qemu:///session?socket=/x/y", "unix", "qemu:///session", "/x/y", false},
		{"test:///default", "unix", "test:///default", "/run/libvirt/libvirt-sock", false},
		{"qemu+tcp://h1/system", "tcp", "qemu:///system", "h1:16509", false},
		{"qemu+tcp://[fd00::1]:7/system", "tcp", "qemu:///system", "[fd00::1]:7", false},
		{"qemu+tls://h1/system", "tcp", "qemu:///system", "h1:16514", true},
		{"qemu://h1/system", "tcp", "qemu:///system", "h1:16514", true},
		{"test+tcp://h1:9/default", "tcp", "test:///default", "h1:9", false},
	} {
		e, err := parseURI(c.uri)
		if err != nil || e.network != c.network || e.name != c.name || e.tls != c.tls || !slices.Contains(e.addrs, c.addr) {
			t.Errorf("%s: got %+v, %v", c.uri, e, err)
		}
	}
}

// What is refused says why and, where there is a way, what to write instead.
func TestParseURIRefuses(t *testing.T) {
	for uri, hint := range map[string]string{
		"":                               "driver",
		"xen:///system":                  "use qemu",
		"qemu+ssh://h1/system":           "use unix, tcp or tls",
		"qemu:///":                       "/system",
		"qemu:///elsewhere":              "/system or /session",
		"qemu+tcp:///system":             "host is missing",
		"qemu+unix://h1/system":          "qemu+tcp",
		"qemu:///system?socket=relative": "absolute",
		"qemu:///system?keyfile=/x":      "keyfile",
		"qemu+tcp://u@h1/system":         "user names",
		"qemu+tcp://h1:x/system":         "not a URI",
	} {
		if _, err := Open(uri, Options{}); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q: got %v, want a sentence with %q", uri, err, hint)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	f.Add("qemu+tls://h1:1/system?pkipath=/x")
	f.Add("qemu+unix:///system?socket=/x/y")
	f.Fuzz(func(t *testing.T, uri string) {
		e, err := parseURI(uri)
		if err == nil && (len(e.addrs) == 0 || e.addrs[0] == "" || e.network != "unix" && e.network != "tcp") {
			t.Errorf("%q was accepted as %+v", uri, e)
		}
	})
}
