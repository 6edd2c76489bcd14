package redfish

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stmcginnis/gofish"
	"github.com/stmcginnis/gofish/schemas"

	"lifeboat/fence"
)

// Name is the driver's name in a fence.Target.
const Name = "redfish"

// Kind offers the driver to a fence.Registry.
func Kind() fence.Kind {
	return fence.Kind{
		Name: Name,
		Options: []fence.Option{
			{Name: "system", Help: "path of the computer system, such as /redfish/v1/Systems/1; needed where the BMC has more than one"},
			{Name: "auth", Help: "basic (default) or session"},
			{Name: "identity", Help: "what identifies the machine: uuid, serial, or not set: the UUID, else the serial number"},
			{Name: "ca_file", Help: "PEM file of the certificates to trust instead of the system's"},
			{Name: "server_name", Help: "name in the BMC's certificate, where it differs from the address"},
			{Name: "tls_insecure", Help: `"true": accept any certificate; whoever can answer at that address can then lie about the power state`},
		},
		Open: func(t fence.Target) (fence.Driver, error) { return open(t) },
	}
}

type driver struct {
	end      fence.Endpoint
	url      string
	user     string
	password fence.Secret
	session  bool
	identity string // "uuid", "serial" or empty
	tls      *tls.Config

	// mu guards system: the path of the computer system, once known. It is kept
	// so that all questions are about the same one, and saves a round trip.
	mu     sync.Mutex
	system string
}

func open(t fence.Target) (*driver, error) {
	address, found := strings.CutPrefix(t.Address, "https://")
	if !found && strings.Contains(address, "://") {
		return nil, fmt.Errorf("address %q is not HTTPS; passwords are not sent without TLS", t.Address)
	}
	host, port, err := fence.SplitAddress(strings.TrimSuffix(address, "/"), "443")
	if err != nil {
		return nil, err
	}
	if t.User == "" || t.Password.IsZero() {
		return nil, errors.New("user and password must be set; Redfish needs both")
	}
	d := &driver{
		end: t.Endpoint(), url: "https://" + net.JoinHostPort(host, port),
		user: t.User, password: t.Password,
		system: t.Option("system", ""), identity: t.Option("identity", ""),
	}
	switch auth := t.Option("auth", "basic"); auth {
	case "basic":
	case "session":
		d.session = true
	default:
		return nil, fmt.Errorf("option auth is %q; it must be basic or session", auth)
	}
	if !slices.Contains([]string{"", "uuid", "serial"}, d.identity) {
		return nil, fmt.Errorf("option identity is %q; it must be uuid or serial", d.identity)
	}
	if d.system != "" && !strings.HasPrefix(d.system, "/") {
		return nil, fmt.Errorf("option system is %q; it must be a path, such as /redfish/v1/Systems/1", d.system)
	}
	d.tls, err = tlsConfig(t, host)
	return d, err
}

func tlsConfig(t fence.Target, host string) (*tls.Config, error) {
	insecure, err := t.Flag("tls_insecure")
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.Option("server_name", host), InsecureSkipVerify: insecure} //nolint:gosec // the operator's choice, documented
	if file := t.Option("ca_file", ""); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read option ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("option ca_file: %s holds no certificate in PEM form", file)
		}
	}
	return c, nil
}

func (d *driver) Endpoint() fence.Endpoint { return d.end }

func (d *driver) Identity(ctx context.Context) (string, error) {
	var identity string
	err := d.withSystem(ctx, func(s *schemas.ComputerSystem) error {
		candidates := []string{s.UUID, s.SerialNumber}
		switch d.identity {
		case "uuid":
			candidates = candidates[:1]
		case "serial":
			candidates = candidates[1:]
		}
		for _, c := range candidates {
			if fence.UsableIdentity(c) {
				identity = strings.TrimSpace(c)
				return nil
			}
		}
		return fence.Because(fence.IdentityUnknown, "%s shows UUID %q and serial number %q", s.ODataID, s.UUID, s.SerialNumber)
	})
	return identity, err
}

func (d *driver) Power(ctx context.Context) (fence.PowerState, error) {
	state := fence.Unknown
	err := d.withSystem(ctx, func(s *schemas.ComputerSystem) error {
		state = powerState(s.PowerState)
		return nil
	})
	return state, err
}

// powerState: PoweringOff, Paused and whatever comes next are not off.
func powerState(s schemas.PowerState) fence.PowerState {
	switch s {
	case schemas.OnPowerState:
		return fence.On
	case schemas.OffPowerState:
		return fence.Off
	default:
		return fence.Unknown
	}
}

// Off resets with ForceOff; where the system does not offer that, with
// GracefulShutdown, which a hung host ignores (and then stays unproven).
func (d *driver) Off(ctx context.Context) error {
	return d.reset(ctx, schemas.ForceOffResetType, schemas.GracefulShutdownResetType)
}

func (d *driver) On(ctx context.Context) error {
	return d.reset(ctx, schemas.OnResetType, schemas.ForceOnResetType)
}

func (d *driver) reset(ctx context.Context, wanted ...schemas.ResetType) error {
	return d.withSystem(ctx, func(s *schemas.ComputerSystem) error {
		offered, err := s.GetSupportedResetTypes()
		if err != nil {
			offered = nil // a broken ActionInfo must not stop the order
		}
		kind := wanted[0]
		if len(offered) > 0 {
			i := slices.IndexFunc(wanted, func(w schemas.ResetType) bool { return slices.Contains(offered, w) })
			if i < 0 {
				return fence.Because(fence.Refused, "%s offers only the resets %v, none of %v", s.ODataID, offered, wanted)
			}
			kind = wanted[i]
		}
		_, err = s.Reset(kind)
		return err
	})
}

// withSystem connects, finds the computer system, runs do on it and lets go of
// everything again. Its errors carry reasons.
func (d *driver) withSystem(ctx context.Context, do func(*schemas.ComputerSystem) error) error {
	httpClient := d.httpClient()
	defer httpClient.CloseIdleConnections()
	client, err := gofish.ConnectContext(ctx, gofish.ClientConfig{
		Endpoint: d.url, Username: d.user, Password: d.password.Reveal(), BasicAuth: !d.session,
		HTTPClient: httpClient, NoModifyTransport: true, ReuseConnections: true,
	})
	if err != nil {
		return d.explain(ctx, err)
	}
	if d.session {
		defer logout(ctx, client)
	}
	s, err := d.find(client)
	if err != nil {
		return d.explain(ctx, err)
	}
	if err := do(s); err != nil {
		return d.explain(ctx, err)
	}
	return nil
}

// logout gives the session back even when ctx has ended, but waits only a second for it.
func logout(ctx context.Context, client *gofish.APIClient) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	client.WithContext(ctx).Logout()
}

func (d *driver) find(client *gofish.APIClient) (*schemas.ComputerSystem, error) {
	d.mu.Lock()
	path := d.system
	d.mu.Unlock()
	if path != "" {
		return schemas.GetObject[schemas.ComputerSystem](client, path)
	}
	systems, err := client.Service.Systems()
	if err != nil {
		return nil, err
	}
	if len(systems) != 1 {
		paths := make([]string, len(systems))
		for i, s := range systems {
			paths[i] = s.ODataID
		}
		return nil, fence.Because(fence.Refused, "it shows %d computer systems %v; set option system to the path of the one to switch", len(systems), paths)
	}
	d.mu.Lock()
	d.system = systems[0].ODataID
	d.mu.Unlock()
	return systems[0], nil
}
