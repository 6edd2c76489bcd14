package agentexec

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"lifeboat/fence"
	"lifeboat/fence/internal/child"
)

// Name is the driver's name in a fence.Target.
const Name = "fence-agent"

// byHand is the only value of identity_checked.
const byHand = "by-hand"

// param is the prefix of options that go to the program as they are.
const param = "param."

// Kind offers the driver to a fence.Registry.
func Kind() fence.Kind {
	return fence.Kind{
		Name: Name,
		Options: []fence.Option{
			{Name: "agent", Help: "the program, such as fence_apc_snmp, or its absolute path; its name must start with fence_"},
			{Name: "identity", Help: "system UUID or serial of the machine that this device feeds"},
			{Name: "identity_checked", Help: `"by-hand": somebody verified that this device feeds that machine; without it the device can prove nothing`},
			{Name: param + "*", Help: "a parameter of the program, such as param.plug=7; its manual page lists them"},
		},
		Open: func(t fence.Target) (fence.Driver, error) { return open(t) },
	}
}

type driver struct {
	end      fence.Endpoint
	program  string
	password fence.Secret
	settings fence.Secret // the stdin lines all actions share, password included
	identity string       // empty unless checked by hand
}

func open(t fence.Target) (*driver, error) {
	program := t.Option("agent", "")
	if base := filepath.Base(program); !strings.HasPrefix(base, "fence_") || (program != base && !filepath.IsAbs(program)) {
		return nil, fmt.Errorf("option agent is %q; it must name a fence_* program, such as fence_apc_snmp, or give its absolute path", program)
	}
	d := &driver{end: t.Endpoint(), program: program, password: t.Password}
	switch checked := t.Option("identity_checked", ""); checked {
	case byHand:
		if !fence.UsableIdentity(t.Option("identity", "")) {
			return nil, errors.New("identity_checked is set but option identity does not name a machine; give its system UUID or serial")
		}
		d.identity = t.Option("identity", "")
	case "":
	default:
		return nil, fmt.Errorf("option identity_checked is %q; the only value is %q", checked, byHand)
	}

	lines := map[string]string{"ip": t.Address, "username": t.User, "password": t.Password.Reveal()}
	for name, value := range t.Options {
		key, ok := strings.CutPrefix(name, param)
		if !ok {
			continue
		}
		if _, ours := lines[key]; ours || key == "action" || key == "option" {
			return nil, fmt.Errorf("option %s is set by lifeboat itself; use address, user and password of the level instead", name)
		}
		lines[key] = value
	}
	var settings strings.Builder
	for _, key := range slices.Sorted(maps.Keys(lines)) {
		if strings.ContainsAny(key, "\r\n\x00= #") || strings.ContainsAny(lines[key], "\r\n\x00") {
			return nil, fmt.Errorf("parameter %q or its value contains a line break or another character that the key=value convention cannot carry", key)
		}
		if lines[key] != "" {
			fmt.Fprintf(&settings, "%s=%s\n", key, lines[key])
		}
	}
	d.settings = fence.NewSecret(settings.String())
	return d, nil
}

func (d *driver) Endpoint() fence.Endpoint { return d.end }

// Identity returns what the operator verified by hand, after the device has
// answered: a dead device must not look matched.
func (d *driver) Identity(ctx context.Context) (string, error) {
	if err := d.monitor(ctx); err != nil {
		return "", err
	}
	if d.identity == "" {
		return "", fence.Because(fence.IdentityUnknown,
			"fence agents cannot be asked for it; verify which machine it feeds, then set options identity and identity_checked=%s", byHand)
	}
	return d.identity, nil
}

func (d *driver) Power(ctx context.Context) (fence.PowerState, error) {
	if err := d.monitor(ctx); err != nil {
		return fence.Unknown, err
	}
	r, err := d.run(ctx, "status")
	if err != nil {
		return fence.Unknown, err
	}
	return readStatus(r)
}

func (d *driver) Off(ctx context.Context) error { return d.must(ctx, "off") }
func (d *driver) On(ctx context.Context) error  { return d.must(ctx, "on") }

func (d *driver) monitor(ctx context.Context) error { return d.must(ctx, "monitor") }

func (d *driver) must(ctx context.Context, action string) error {
	r, err := d.run(ctx, action)
	if err != nil {
		return err
	}
	if r.Code != 0 {
		return classify(action, r)
	}
	return nil
}

func (d *driver) run(ctx context.Context, action string) (child.Result, error) {
	r, err := child.Run(ctx, child.Command{Path: d.program, Stdin: d.settings.Reveal() + "action=" + action + "\n"})
	switch {
	case err != nil && ctx.Err() != nil:
		return r, ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return r, fence.Because(fence.NoProgram, "%s is not installed", d.program)
	case err != nil:
		return r, fence.Because(fence.NoProgram, "%v", err)
	}
	r.Stdout, r.Stderr = d.password.Redact(r.Stdout), d.password.Redact(r.Stderr)
	return r, nil
}
