package libvirt

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// endpoint is where a libvirtd listens and what it is asked to open.
type endpoint struct {
	network string   // "unix" or "tcp"
	addrs   []string // candidates, the first that exists is used
	name    string   // what the daemon is asked to open, e.g. "qemu:///system"
	driver  string   // "qemu", "test", …
	tls     bool
	host    string // for the certificate
	pki     string // directory of the certificates; empty: libvirt's default
}

const (
	tcpPort = "16509"
	tlsPort = "16514"
)

// parseURI understands
//
//	qemu:///system  qemu:///session  test:///default
//	qemu+unix:///system?socket=/path  qemu+tcp://host[:port]/system  qemu+tls://host[:port]/system?pkipath=/dir
//
// and the same with test instead of qemu.
func parseURI(uri string) (endpoint, error) {
	e, err := parse(uri)
	if err != nil {
		return endpoint{}, fmt.Errorf("libvirt address %q: %w", uri, err)
	}
	return e, nil
}

func parse(uri string) (endpoint, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return endpoint{}, errors.New("not a URI; an example is qemu:///system")
	}
	driver, transport, _ := strings.Cut(u.Scheme, "+")
	if driver != "qemu" && driver != "test" {
		return endpoint{}, fmt.Errorf("the driver %q is not supported, use qemu (or test)", driver)
	}
	if u.Path == "" || u.Path == "/" {
		return endpoint{}, errors.New("the path is missing; use /system, or /session for an unprivileged daemon")
	}
	if driver == "qemu" && u.Path != "/system" && u.Path != "/session" {
		return endpoint{}, fmt.Errorf("the path %q is not supported, use /system or /session", u.Path)
	}
	if u.User != nil || u.Fragment != "" {
		return endpoint{}, errors.New("user names and fragments are not supported")
	}
	e := endpoint{driver: driver, name: driver + "://" + u.Path, host: u.Hostname()}
	q := u.Query()
	switch {
	case transport == "unix" || transport == "" && u.Host == "":
		if u.Host != "" {
			return endpoint{}, fmt.Errorf("a unix socket has no host; use %s+tcp or %s+tls", driver, driver)
		}
		e.network = "unix"
		e.addrs = defaultSockets(u.Path == "/session")
		if s := q.Get("socket"); s != "" {
			if !filepath.IsAbs(s) {
				return endpoint{}, fmt.Errorf("socket=%s must be an absolute path", s)
			}
			e.addrs = []string{s}
		}
		q.Del("socket")
	case transport == "tcp" || transport == "tls" || transport == "":
		if e.host == "" {
			return endpoint{}, errors.New("the host is missing")
		}
		e.network, e.tls = "tcp", transport != "tcp" // a bare remote URI means TLS, as with libvirt's own clients
		port := u.Port()
		if port == "" && e.tls {
			port = tlsPort
		} else if port == "" {
			port = tcpPort
		}
		e.addrs = []string{net.JoinHostPort(e.host, port)}
		if e.tls {
			e.pki = q.Get("pkipath")
			q.Del("pkipath")
		}
	default:
		return endpoint{}, fmt.Errorf("the transport %q is not supported, use unix, tcp or tls", transport)
	}
	for key := range q {
		return endpoint{}, fmt.Errorf("the parameter %q is not supported here", key)
	}
	return e, nil
}

// defaultSockets are those of the monolithic daemon (also virtproxyd's) and of
// the modular one.
func defaultSockets(session bool) []string {
	dir := "/run/libvirt"
	if session {
		base := os.Getenv("XDG_RUNTIME_DIR")
		if base == "" {
			cache, err := os.UserCacheDir()
			if err != nil {
				cache = "/nonexistent"
			}
			base = cache
		}
		dir = filepath.Join(base, "libvirt")
	}
	return []string{filepath.Join(dir, "libvirt-sock"), filepath.Join(dir, "virtqemud-sock")}
}
