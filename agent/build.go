package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/go-hclog"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fence"
	"lifeboat/hypervisor"
	"lifeboat/transport"
)

// Deps are what the caller of [Build] makes from a [File].
type Deps struct {
	Credentials *transport.Credentials // from File.Files
	Hypervisor  hypervisor.Hypervisor  // from File.Hypervisor
	Version     string
	Logger      hclog.Logger
	Fences      fence.Registry // power controllers this program can use for other hosts
	// HTTP replaces the client made from Credentials; for tests.
	HTTP connect.HTTPClient
}

// maxAnswer bounds what a manager may send at once.
const maxAnswer = 64 << 20

// Build makes the configuration of [Run] out of the file.
func Build(f File, d Deps) (Config, error) {
	if d.Credentials != nil {
		if id, want := d.Credentials.Identity(), (transport.Identity{Kind: transport.KindHost, Name: f.HostID}); id != want {
			return Config{}, fmt.Errorf("the certificate %s is for %s, but this agent is %s: correct host_id, or make a certificate with lifeboat ca issue", f.Cert, id, want)
		}
	}
	client := d.HTTP
	if client == nil {
		if d.Credentials == nil {
			return Config{}, fmt.Errorf("build agent: no credentials")
		}
		client = transport.NewHTTPClient(d.Credentials, ClientOptions())
	}
	dog, err := f.watchdog()
	if err != nil {
		return Config{}, err
	}
	c := Config{
		HostID: f.HostID, Version: d.Version, NodeID: f.Node, Managers: f.Managers, ProbeAddrs: f.ProbeAddrs, HeartbeatDirs: f.HeartbeatDirs,
		Labels: f.labels(), Hypervisor: d.Hypervisor, Connect: Connect(client),
		StateDir: f.StateDir, RunDir: f.RunDir, BootIDFile: f.BootIDFile, MachineIDFile: f.MachineIDFile,
		HardwareIDFile: f.HardwareIDFile, Fences: d.Fences,
		Watchdog: dog, Bound: time.Duration(f.Watchdog.Bound), Logger: d.Logger,
	}
	if d.Credentials != nil {
		c.Renew = func(ctx context.Context, manager func() string) { renew(ctx, d.Credentials, client, manager) }
	}
	return c, nil
}

// ClientOptions are those of an agent's client. A report is parked for a beat, and the
// session gives up on a manager that is silent for longer than that: asking whether the
// connection lives would cost a manager of a large fleet, which beats slowly, more than
// the reports do. What is left to notice is a connection that nothing is sent on.
func ClientOptions() transport.ClientOptions {
	return transport.ClientOptions{PingAfter: 15 * time.Second, Dial: transport.DialOptions{HandshakeTimeout: dialWithin}}
}

// dialWithin bounds a handshake. It outlasts the request that asked for it, which gives up
// after a beat: with a manager to which everybody comes at once the next request mostly
// finds the connection made.
const dialWithin = 15 * time.Second

// renewWithin bounds one request for another certificate.
const renewWithin = 15 * time.Second

// renew keeps credentials from expiring until ctx ends.
func renew(ctx context.Context, creds *transport.Credentials, client connect.HTTPClient, manager func() string) {
	_ = creds.KeepFresh(ctx, func(ctx context.Context, request []byte) ([]byte, error) {
		addr := manager()
		if addr == "" {
			return nil, errors.New("no manager has answered yet")
		}
		ctx, cancel := context.WithTimeout(ctx, renewWithin)
		defer cancel()
		r, err := lifeboatv1connect.NewJoinServiceClient(client, "https://"+addr).Renew(ctx, connect.NewRequest(&lifeboatv1.RenewRequest{Request: request}))
		switch {
		case connect.CodeOf(err) == connect.CodeUnimplemented && err != nil:
			return nil, transport.ErrNoCA
		case err != nil:
			return nil, err
		}
		return r.Msg.Certificate, nil
	}) // it ends with ctx only
}

// Connect returns the Connect function of [Config] for an HTTP client.
func Connect(client connect.HTTPClient) func(addr string) lifeboatv1connect.AgentServiceClient {
	return func(addr string) lifeboatv1connect.AgentServiceClient {
		return lifeboatv1connect.NewAgentServiceClient(client, "https://"+addr, connect.WithReadMaxBytes(maxAnswer))
	}
}

var _ connect.HTTPClient = (*http.Client)(nil)

func (f File) watchdog() (Watchdog, error) {
	switch f.Watchdog.Kind {
	case WatchdogHardware:
		return HardwareWatchdog(f.Watchdog.Device), nil
	case WatchdogSoft:
		return SoftWatchdog(), nil
	case WatchdogExternal:
		o := ExternalOptions{Socket: f.Watchdog.Device}
		if o.Socket != "" {
			return ExternalWatchdog(o), nil // somebody else's process
		}
		o.Socket = filepath.Join(f.RunDir, "watchdog.sock")
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find own program for the watchdog: %w", err)
		}
		o.Command = []string{self, WatchdogCommand, "--socket", o.Socket}
		if len(f.Watchdog.Command) > 0 {
			o.Command = append(append(o.Command, "--"), f.Watchdog.Command...)
		}
		return ExternalWatchdog(o), nil
	}
	return noWatchdog{}, nil
}

// WatchdogCommand is the hidden command of the lifeboat program that calls
// [ServeWatchdog]: lifeboat agent-watchdog --socket PATH [-- RESET COMMAND…].
const WatchdogCommand = "agent-watchdog"

func (f File) labels() []*lifeboatv1.Label {
	var ls []*lifeboatv1.Label
	for k, v := range f.Labels {
		ls = append(ls, &lifeboatv1.Label{Key: k, Value: v})
	}
	slices.SortFunc(ls, func(a, b *lifeboatv1.Label) int { return strings.Compare(a.Key, b.Key) })
	return ls
}
