package ipmi

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"lifeboat/fence"
	"lifeboat/fence/internal/child"
)

// Name is the driver's name in a fence.Target.
const Name = "ipmi"

// maxPassword is what IPMI 2.0 can carry.
const maxPassword = 20

// Kind offers the driver to a fence.Registry.
func Kind() fence.Kind {
	return fence.Kind{
		Name: Name,
		Options: []fence.Option{
			{Name: "cipher", Help: `RMCP+ cipher suite: 3 (default; every BMC has it), 17 (SHA-256), or "auto" to let ipmitool ask the BMC, which can cost 10 s`},
			{Name: "privilege", Help: "session privilege: administrator (default) or operator (enough to switch power)"},
			{Name: "identity", Help: `what identifies the machine: guid (default; system GUID) or serial (product serial in the FRU, else the chassis serial)`},
			{Name: "program", Help: "path of ipmitool, default: ipmitool in the PATH"},
		},
		Open: func(t fence.Target) (fence.Driver, error) { return open(t) },
	}
}

type driver struct {
	end      fence.Endpoint
	program  string
	args     []string
	password fence.Secret
	serial   bool // identity by FRU serial instead of GUID
}

func open(t fence.Target) (*driver, error) {
	host, port, err := fence.SplitAddress(t.Address, "623")
	if err != nil {
		return nil, err
	}
	if t.User == "" {
		return nil, errors.New("no user is set; IPMI needs a user name")
	}
	if n := len(t.Password.Reveal()); n == 0 || n > maxPassword {
		return nil, fmt.Errorf("the password has %d bytes; IPMI 2.0 takes 1 to %d", n, maxPassword)
	}
	if strings.ContainsRune(t.User+t.Password.Reveal(), 0) {
		return nil, errors.New("user and password must not contain NUL bytes")
	}
	d := &driver{end: t.Endpoint(), program: t.Option("program", "ipmitool"), password: t.Password}
	// -N/-R: 1 s per try and 3 tries, so that a dead BMC is known after 6 s and
	// not after the 20 s of the defaults. -v: without it a wrong password and a
	// dead BMC give the same message.
	d.args = []string{"-I", "lanplus", "-H", host, "-p", port, "-U", t.User, "-E", "-N", "1", "-R", "2", "-v"}

	switch cipher := t.Option("cipher", "3"); cipher {
	case "auto":
	default:
		n, err := strconv.ParseUint(cipher, 10, 8)
		if err != nil || n < 1 || n > 17 {
			// Suite 0 logs in without a password, so nothing it says is the BMC's word.
			return nil, fmt.Errorf(`option cipher is %q; it must be 1 to 17 or "auto" (suite 0 has no authentication and is refused)`, cipher)
		}
		d.args = append(d.args, "-C", strconv.FormatUint(n, 10))
	}
	switch p := t.Option("privilege", "administrator"); p {
	case "administrator", "operator":
		d.args = append(d.args, "-L", strings.ToUpper(p))
	default:
		return nil, fmt.Errorf("option privilege is %q; it must be administrator or operator", p)
	}
	switch id := t.Option("identity", "guid"); id {
	case "guid":
	case "serial":
		d.serial = true
	default:
		return nil, fmt.Errorf("option identity is %q; it must be guid or serial", id)
	}
	return d, nil
}

func (d *driver) Endpoint() fence.Endpoint { return d.end }

func (d *driver) Identity(ctx context.Context) (string, error) {
	if d.serial {
		out, err := d.run(ctx, "fru", "print", "0")
		if err != nil {
			return "", err
		}
		serial, ok := parseSerial(out)
		if !ok {
			return "", fence.Because(fence.IdentityUnknown, "its FRU holds no serial number")
		}
		return serial, nil
	}
	out, err := d.run(ctx, "mc", "guid")
	if errors.Is(err, fence.Refused) && strings.Contains(err.Error(), "Invalid command") {
		return "", fence.Because(fence.IdentityUnknown, "it has no system GUID; try option identity=serial")
	}
	if err != nil {
		return "", err
	}
	guid, ok := parseGUID(out)
	if !ok {
		return "", fence.Because(fence.IdentityUnknown, "ipmitool shows no system GUID: %s", lastLine(out))
	}
	return guid, nil
}

func (d *driver) Power(ctx context.Context) (fence.PowerState, error) {
	out, err := d.run(ctx, "chassis", "power", "status")
	if err != nil {
		return fence.Unknown, err
	}
	return parsePower(out), nil
}

func (d *driver) Off(ctx context.Context) error {
	_, err := d.run(ctx, "chassis", "power", "off")
	return err
}

func (d *driver) On(ctx context.Context) error {
	_, err := d.run(ctx, "chassis", "power", "on")
	return err
}

func (d *driver) run(ctx context.Context, command ...string) (stdout string, err error) {
	r, err := child.Run(ctx, child.Command{
		Path: d.program,
		Args: append(append([]string(nil), d.args...), command...),
		Env:  []string{"IPMI_PASSWORD=" + d.password.Reveal()},
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return "", fence.Because(fence.NoProgram, "%s is not installed", d.program)
	case err != nil:
		return "", fence.Because(fence.NoProgram, "%v", err)
	case r.Code != 0:
		return "", classify(d.password.Redact(r.Stdout), d.password.Redact(r.Stderr))
	}
	return r.Stdout, nil
}
