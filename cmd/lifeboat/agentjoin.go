package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"lifeboat/agent"
	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/internal/cli"
	"lifeboat/internal/durable"
	"lifeboat/transport"
)

// AgentJoinCmd is 'lifeboat agent join'.
type AgentJoinCmd struct {
	joinFlags
	ID         string   `placeholder:"NAME" help:"Name of this host; left out, the name of this machine."`
	Config     string   `short:"c" default:"/etc/lifeboat/agent.yaml" placeholder:"FILE" help:"The configuration to write."`
	StateDir   string   `default:"/var/lib/lifeboat/agent" placeholder:"DIR" help:"Where the agent keeps what survives a reboot, and its key."`
	RunDir     string   `default:"/run/lifeboat/agent" placeholder:"DIR" help:"Where it keeps what does not."`
	Hypervisor string   `default:"qemu:///system" placeholder:"URI" help:"How libvirt is reached."`
	SharedDirs []string `placeholder:"DIR" help:"Directories that hold the same files on every host that names them, such as an NFS mount."`
	Node       string   `placeholder:"NODE" help:"The management node that runs on this machine, if any."`
}

// agentFile is the configuration that is written.
type agentFile struct {
	HostID     string   `yaml:"host_id"`
	Managers   []string `yaml:"managers"`
	Cert       string   `yaml:"cert"`
	Key        string   `yaml:"key"`
	CA         string   `yaml:"ca"`
	Hypervisor string   `yaml:"hypervisor"`
	SharedDirs []string `yaml:"shared_dirs,omitempty"`
	StateDir   string   `yaml:"state_dir"`
	RunDir     string   `yaml:"run_dir"`
	Node       string   `yaml:"node,omitempty"`
}

// Run makes this machine a host of a cluster.
func (c *AgentJoinCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	token, err := c.token(env, "agent")
	if err != nil {
		return err
	}
	if c.ID == "" {
		name, err := os.Hostname()
		if err != nil {
			return cli.Usage("name this host with --id", "the name of this machine could not be found: %w", err)
		}
		c.ID, _, _ = strings.Cut(strings.ToLower(name), ".")
	}
	if err := (transport.Identity{Kind: transport.KindHost, Name: c.ID}).Validate(); err != nil {
		return cli.Usage("name this host with --id", "%w", err)
	}
	for _, p := range []*string{&c.Config, &c.StateDir, &c.RunDir} {
		*p = absolute(*p)
	}
	if err := notThere(c.Config, "this machine is set up already; to begin anew, stop the agent and remove its configuration"); err != nil {
		return err
	}
	e := enrolment{dir: filepath.Join(c.StateDir, "pki"), name: "host"}
	q := &pb.JoinRequest{Name: c.ID}
	r, creds, err := e.join(ctx, &c.joinFlags, g, token, q)
	if err != nil {
		return err
	}
	files := e.files()
	f := agentFile{HostID: c.ID, Cert: files.Cert, Key: files.Key, CA: files.CA, Hypervisor: c.Hypervisor, SharedDirs: c.SharedDirs, StateDir: c.StateDir, RunDir: c.RunDir, Node: c.Node}
	for _, m := range r.Members {
		f.Managers = append(f.Managers, m.Addr)
	}
	slices.Sort(f.Managers)
	body, err := yaml.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode the configuration: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(c.Config), 0o755); err != nil {
		return fmt.Errorf("make %s: %w", filepath.Dir(c.Config), err)
	}
	if err := durable.WriteNew(c.Config, append([]byte("# The agent of a host of Lifeboat, written by 'lifeboat agent join'.\n"), body...), 0o644); err != nil {
		return err
	}
	if _, err := agent.LoadConfig(c.Config); err != nil {
		return err
	}
	result := struct {
		Config   string   `json:"config"`
		Host     string   `json:"host"`
		Managers []string `json:"managers"`
		Expires  string   `json:"certificate_expires"`
	}{c.Config, c.ID, f.Managers, rfc3339(creds.Expires())}
	return cli.PrintValue(env, g, result, fmt.Sprintf(`Wrote %s: host %s may join the cluster at %s.
Guard libvirt:  lifeboat hook install -c %s && systemctl restart libvirtd && systemctl disable --now libvirt-guests
Start it:       systemctl enable --now lifeboat-agent   (or: lifeboat agent -c %s)
Then tell the cluster how to prove it dead: lifeboat host fence set %s --help`, c.Config, c.ID, strings.Join(f.Managers, ", "), c.Config, c.Config, c.ID))
}
