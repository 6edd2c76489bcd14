package labcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/lab"
	"lifeboat/transport"
	"lifeboat/transport/pki"
)

// Options of a cluster.
type Options struct {
	Lab    lab.Options
	Binary string // the lifeboat program
	Guests int    // in all; they start on the hosts in turn
	// Levels are the fence levels of every host, in order: ipmi, lease.
	Levels []string
}

// Cluster is a running one.
type Cluster struct {
	Lab    *lab.Lab
	Guests []string // names; guest i was first started on host i % hosts + 1

	opts Options
	pki  string // directory with certificates
	ca   *pki.CA

	mu        sync.Mutex
	servers   map[int]*lab.Program
	agents    map[int]*lab.Program
	held      map[int]bool    // hosts that boot without their agent
	accepted  map[string]bool // split brains that were meant to be
	watchdogs map[int]string  // kinds, where not external
	closed    bool
	clients   map[int]lifeboatv1connect.AdminServiceClient
	idle      []func()
}

const (
	apiPort  = 7400
	httpPort = 7480
)

// Up makes a lab and starts everything in it. It returns when every VM is
// protected, runs, and could be started elsewhere. On error nothing is left.
func Up(ctx context.Context, o Options) (*Cluster, error) {
	l, err := lab.New(ctx, o.Lab)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Lab: l, opts: o, pki: filepath.Join(l.Dir(), "pki"),
		servers: map[int]*lab.Program{}, agents: map[int]*lab.Program{}, clients: map[int]lifeboatv1connect.AdminServiceClient{},
		held: map[int]bool{}, accepted: map[string]bool{}, watchdogs: map[int]string{}}
	if err := c.up(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cluster) up(ctx context.Context) error {
	if err := c.certificates(); err != nil {
		return err
	}
	if err := c.guests(ctx); err != nil {
		return err
	}
	for m := 1; m <= c.opts.Lab.Managers; m++ {
		if err := c.configureServer(m); err != nil {
			return err
		}
		if err := c.StartServer(m); err != nil {
			return err
		}
	}
	for n := 1; n <= c.opts.Lab.Hosts; n++ {
		if err := c.configureAgent(n); err != nil {
			return err
		}
		if err := c.installHook(ctx, n); err != nil {
			return err
		}
	}
	c.Lab.OnBoot(func(n int) { c.boot(n) })
	return c.prepare(ctx)
}

// boot starts what a machine starts by itself: its agent, and its management
// node.
func (c *Cluster) boot(n int) {
	c.mu.Lock()
	closed, held := c.closed, c.held[n]
	c.mu.Unlock()
	if closed {
		return
	}
	// Errors show as hosts and nodes that do not come up.
	if !held {
		_ = c.StartAgent(n)
	}
	for m, host := range c.opts.Lab.ManagerOn {
		if host == n {
			c.mu.Lock()
			old := c.servers[m]
			c.mu.Unlock()
			if old == nil || old.State() != nil {
				_ = c.StartServer(m)
			}
		}
	}
}

// StartAgent starts the agent of a host.
func (c *Cluster) StartAgent(n int) error {
	p, err := c.Lab.Start(n, "agent", exec.Command(c.opts.Binary, "agent", "-c", c.agentConfig(n)))
	if err != nil {
		return fmt.Errorf("start the agent of h%d: %w", n, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.agents[n] = p
	return nil
}

// HoldAgent makes a host boot without its agent from now on, or with it again.
func (c *Cluster) HoldAgent(n int, held bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held[n] = held
}

// SetWatchdog gives the agent of a host another kind of watchdog, from its next
// start on.
func (c *Cluster) SetWatchdog(n int, kind string) error {
	c.mu.Lock()
	c.watchdogs[n] = kind
	c.mu.Unlock()
	return c.configureAgent(n)
}

// installHook lets libvirt ask before it starts a guest. The first guests run
// already: before there is an agent, the hook would refuse them.
func (c *Cluster) installHook(ctx context.Context, n int) error {
	if _, err := c.Lab.Exec(ctx, n, c.opts.Binary, "hook", "install", "-c", c.agentConfig(n)); err != nil {
		return err
	}
	if err := c.Lab.StopLibvirtd(n); err != nil {
		return err
	}
	if err := c.Lab.StartLibvirtd(n); err != nil {
		return err
	}
	return c.Lab.WaitLibvirtd(ctx, n)
}

// Agent is the agent process of a host.
func (c *Cluster) Agent(n int) *lab.Program {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.agents[n]
}

// StartServer starts a management node.
func (c *Cluster) StartServer(m int) error {
	p, err := c.Lab.StartInManager(m, "server", exec.Command(c.opts.Binary, "server", "-c", c.serverConfig(m)))
	if err != nil {
		return fmt.Errorf("start management node n%d: %w", m, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers[m] = p
	return nil
}

// Server is the process of a management node.
func (c *Cluster) Server(m int) *lab.Program {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.servers[m]
}

// Close ends everything. The logs stay when the lab's directory was named.
func (c *Cluster) Close() error {
	c.mu.Lock()
	c.closed = true
	for _, f := range c.idle {
		f()
	}
	c.mu.Unlock()
	return c.Lab.Close()
}

func (c *Cluster) certificates() error {
	ca, err := pki.CreateCA(c.pki, "lab")
	if err != nil {
		return err
	}
	c.ca = ca
	ids := []transport.Identity{{Kind: transport.KindOperator, Name: "lab"}}
	for m := 1; m <= c.opts.Lab.Managers; m++ {
		ids = append(ids, transport.Identity{Kind: transport.KindNode, Name: node(m)})
	}
	for n := 1; n <= c.opts.Lab.Hosts; n++ {
		ids = append(ids, transport.Identity{Kind: transport.KindHost, Name: host(n)})
	}
	for _, id := range ids {
		leaf, err := ca.Issue(id, pki.IssueOptions{Validity: 24 * time.Hour})
		if err != nil {
			return err
		}
		if _, err := leaf.Write(c.pki); err != nil {
			return err
		}
	}
	out, err := exec.Command(c.opts.Binary, "ca", "secret-key", filepath.Join(c.pki, "secret.key")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make the secret key: %w: %s", err, out)
	}
	return nil
}

func node(m int) string { return fmt.Sprintf("n%d", m) }
func host(n int) string { return fmt.Sprintf("h%d", n) }

func (c *Cluster) serverConfig(m int) string {
	return filepath.Join(c.Lab.ManagerDir(m), "server.yaml")
}

func (c *Cluster) agentConfig(n int) string { return filepath.Join(c.Lab.HostDir(n), "agent.yaml") }

// ServerAddr is where a management node answers, in the lab's network.
func (c *Cluster) ServerAddr(m int) string {
	return fmt.Sprintf("%s:%d", c.Lab.ManagerAddr(m), apiPort)
}

func (c *Cluster) configureServer(m int) error {
	text := fmt.Sprintf(`id: %[1]s
listen: %[2]s
http_listen: %[3]s:%[4]d
data_dir: %[5]s/data
cert: %[6]s/node-%[1]s.crt
key: %[6]s/node-%[1]s.key
ca: %[6]s/ca.crt
secret_key: %[6]s/secret.key
raft_timeout: 1s # the guests are emulated on the same few cores
initial_cluster:
`, node(m), c.ServerAddr(m), c.Lab.ManagerAddr(m), httpPort, c.Lab.ManagerDir(m), c.pki)
	for i := 1; i <= c.opts.Lab.Managers; i++ {
		text += fmt.Sprintf("  %s: %s\n", node(i), c.ServerAddr(i))
	}
	if on, ok := c.opts.Lab.ManagerOn[m]; ok {
		text += "host: " + host(on) + "\n"
	}
	return os.WriteFile(c.serverConfig(m), []byte(text), 0o600)
}

func (c *Cluster) configureAgent(n int) error {
	c.mu.Lock()
	kind := c.watchdogs[n]
	c.mu.Unlock()
	watchdog := fmt.Sprintf("{kind: external, device: %s, bound: 5s}", lab.WatchdogSocket)
	if kind != "" && kind != "external" {
		watchdog = fmt.Sprintf("{kind: %s, bound: 5s}", kind)
	}
	text := fmt.Sprintf(`host_id: %[1]s
cert: %[2]s/host-%[1]s.crt
key: %[2]s/host-%[1]s.key
ca: %[2]s/ca.crt
hypervisor: qemu:///system
shared_dirs: [%[3]s]
migrate_uri: qemu+tcp://%[7]s/system
migrate_unsafe: true # the shared directory stands for a file system that libvirt knows to be shared
state_dir: /var/lib/lifeboat/agent
boot_id_file: %[4]s
probe_addrs: ["%[5]s:22"]
labels: {rack: r1}
watchdog: %[6]s
managers:
`, host(n), c.pki, c.Lab.SharedDir(), lab.BootIDFile, c.Lab.HostAddr(n), watchdog, c.Lab.LibvirtTCP(n))
	for m := 1; m <= c.opts.Lab.Managers; m++ {
		text += "  - " + c.ServerAddr(m) + "\n"
	}
	for m, on := range c.opts.Lab.ManagerOn {
		if on == n {
			text += "node: " + node(m) + "\n"
		}
	}
	return os.WriteFile(c.agentConfig(n), []byte(text), 0o600)
}
