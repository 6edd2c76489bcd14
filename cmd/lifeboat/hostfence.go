package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// HostFenceCmd is 'lifeboat host fence'.
type HostFenceCmd struct {
	Set   HostFenceSetCmd   `cmd:"" help:"Replace the fence levels of a host."`
	Test  FenceTestCmd      `cmd:"" help:"Try the fence levels without any order to the host."`
	Clear HostFenceClearCmd `cmd:"" help:"Remove all fence levels: if the host dies, its VMs wait for an operator."`
}

// HostFenceSetCmd is 'lifeboat host fence set'.
type HostFenceSetCmd struct {
	Host         string   `arg:"" help:"Name of the host."`
	Level        []string `arg:"" help:"Levels in the order they are tried: DRIVER[,key=value...]."`
	Executor     string   `placeholder:"WHO" help:"Who uses the power controllers of the levels without an executor of their own: leader, any (the managers in turn), peers (agents of other hosts in turn) or host:ID."`
	PasswordFile string   `placeholder:"FILE" help:"File with the password of the levels that have a user and no password-file of their own; - reads stdin. Without it the password is asked for."`
}

// Help is the long part of --help.
func (c *HostFenceSetCmd) Help() string {
	return `Drivers: ipmi, redfish, fence-agent, lease, manual. Keys: address, user, identity (system GUID or serial; read from the BMC and pinned when left out), timeout (10s), executor (leader, any, peers or host:ID), password-file; any other key is an option of the driver.

Example:

    lifeboat host fence set h1 ipmi,address=10.0.9.1,user=admin lease`
}

// Run sets the levels. Passwords come from files or the terminal: a flag would
// show them in the process list and the history of the shell.
func (c *HostFenceSetCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	req := &pb.SetFenceRequest{Host: c.Host}
	secrets := secretSource{env: env, fallback: c.PasswordFile, read: map[string]string{}}
	for _, text := range c.Level {
		level, passwordFile, err := parseLevel(text)
		if err != nil {
			return err
		}
		if level.User != "" || passwordFile != "" {
			if level.Password, err = secrets.get(ctx, level, passwordFile); err != nil {
				return err
			}
		}
		if level.Executor == "" && level.Driver != "lease" && level.Driver != "manual" {
			level.Executor = c.Executor
		}
		req.Levels = append(req.Levels, level)
	}
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.SetFence, req,
		fmt.Sprintf("host %s has %s", c.Host, cli.Count(len(req.Levels), "fence level")), seeHosts)
}

// HostFenceClearCmd is 'lifeboat host fence clear'.
type HostFenceClearCmd struct {
	Host string `arg:"" help:"Name of the host."`
}

// Run removes the levels.
func (c *HostFenceClearCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.SetFence, &pb.SetFenceRequest{Host: c.Host},
		fmt.Sprintf("host %s has no fence level: if it dies, its VMs wait for an operator", c.Host), seeHosts)
}

func fenceDriverNames() []string {
	return []string{"ipmi", "redfish", "fence-agent", "lease", "manual"}
}

// parseLevel reads DRIVER[,key=value...].
func parseLevel(text string) (level *pb.FenceSpec, passwordFile string, err error) {
	parts := strings.Split(text, ",")
	level = &pb.FenceSpec{Driver: parts[0], Options: map[string]string{}}
	if !slices.Contains(fenceDriverNames(), level.Driver) {
		return nil, "", cli.Usage("use one of "+cli.Joined(fenceDriverNames()), "wrong fence level %q: there is no driver %q", text, level.Driver)
	}
	seen := map[string]bool{}
	for _, part := range parts[1:] {
		key, value, ok := strings.Cut(part, "=")
		if !ok || key == "" || value == "" {
			return nil, "", cli.Usage("write it as key=value", "wrong fence level of driver %s: cannot read %q", level.Driver, part)
		}
		if seen[key] {
			return nil, "", cli.Usage("give each key once", "wrong fence level of driver %s: %s is there twice", level.Driver, key)
		}
		seen[key] = true
		switch key {
		case "address":
			level.Address = value
		case "user":
			level.User = value
		case "identity":
			level.Identity = value
		case "executor":
			level.Executor = value
		case "password-file":
			passwordFile = value
		case "timeout":
			d, err := time.ParseDuration(value)
			if err != nil || d <= 0 {
				return nil, "", cli.Usage("write it like 10s", "wrong fence level of driver %s: timeout %q is not a length of time", level.Driver, value)
			}
			level.TimeoutMs = d.Milliseconds()
		case "password", "passwd", "pass", "secret", "token":
			// The value is not repeated: it may be in a log by now as it is.
			return nil, "", cli.Usage("use password-file=FILE, or leave it out to be asked", "wrong fence level of driver %s: a %s on the command line can be read by every user of this machine", level.Driver, key)
		default:
			level.Options[key] = value
		}
	}
	return level, passwordFile, checkLevel(level)
}

// checkLevel refuses what no driver can work with. The rest is the cluster's.
func checkLevel(level *pb.FenceSpec) error {
	if (level.Driver == "ipmi" || level.Driver == "redfish") && level.Address == "" {
		return cli.Usage("add address=HOST or address=HOST:PORT", "wrong fence level of driver %s: it has no address", level.Driver)
	}
	if _, _, err := net.SplitHostPort(level.Address); err != nil && strings.Count(level.Address, ":") == 1 {
		return cli.Usage("write it as host or host:port", "wrong fence level of driver %s: address %q", level.Driver, level.Address)
	}
	return nil
}

// secretSource finds the password of a level: its own file, the common file,
// the terminal. Each file is read once, since stdin can be read only once.
type secretSource struct {
	env      *cli.Env
	fallback string
	read     map[string]string
}

func (s *secretSource) get(ctx context.Context, level *pb.FenceSpec, file string) (string, error) {
	if file == "" {
		file = s.fallback
	}
	if file != "" {
		if secret, ok := s.read[file]; ok {
			return secret, nil
		}
		secret, err := cli.ReadSecret(s.env, file)
		if err == nil {
			s.read[file] = secret
		}
		return secret, err
	}
	if s.env.ReadPassword == nil {
		return "", cli.Usage("give it with --password-file (- reads stdin)", "no password for %s %s@%s: there is no terminal to ask on", level.Driver, level.User, level.Address)
	}
	secret, err := s.env.ReadPassword(ctx, fmt.Sprintf("Password of %s at %s (%s): ", level.User, level.Address, level.Driver))
	if err == nil && secret == "" {
		err = cli.Usage("", "no password was given; nothing was changed")
	}
	return secret, err
}
