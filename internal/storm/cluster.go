package storm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/spawn"
	"lifeboat/transport"
	"lifeboat/transport/pki"
)

// Options of a cluster.
type Options struct {
	Program string // the lifeboat binary
	Dir     string // for everything; it must exist and is left as it is
	// RaftTimeout of the nodes; 0 = the default of the product.
	RaftTimeout time.Duration
	// DataDir is where a node keeps its log; nil = in Dir.
	DataDir func(node string) string
	Env     []string // for the nodes, beside that of this process
}

// Cluster is three management nodes, each a process.
type Cluster struct {
	Names []string
	Addrs map[string]string

	opts   Options
	ca     *pki.CA
	starts *spawn.Starter
	nodes  map[string]*Process
	http   *http.Client
	user   transport.Files
	apis   map[string]lifeboatv1connect.AdminServiceClient
}

// New writes certificates and configurations; no process is started. Close ends all
// that run later.
func New(o Options) (*Cluster, error) {
	c := &Cluster{Names: []string{"n1", "n2", "n3"}, Addrs: map[string]string{}, opts: o, starts: spawn.New(),
		nodes: map[string]*Process{}, apis: map[string]lifeboatv1connect.AdminServiceClient{}}
	if err := c.prepare(); err != nil {
		c.Close()
		return nil, fmt.Errorf("prepare cluster: %w", err)
	}
	return c, nil
}

func (c *Cluster) prepare() (err error) {
	if c.ca, err = pki.CreateCA(c.Path("ca"), "storm"); err != nil {
		return err
	}
	if c.user, err = c.Issue(transport.KindOperator, "alice"); err != nil {
		return err
	}
	creds, err := transport.LoadCredentials(c.user, nil)
	if err != nil {
		return err
	}
	c.http = transport.NewHTTPClient(creds, transport.ClientOptions{})
	if err := os.WriteFile(c.Path("secret.key"), []byte(strings.Repeat("5a", 32)+"\n"), 0o600); err != nil {
		return err
	}
	var members []string
	for _, n := range c.Names {
		if c.Addrs[n], err = freeAddr(); err != nil {
			return err
		}
		c.apis[n] = lifeboatv1connect.NewAdminServiceClient(c.http, "https://"+c.Addrs[n])
		members = append(members, fmt.Sprintf("%s: %q", n, c.Addrs[n]))
	}
	for _, n := range c.Names {
		f, err := c.Issue(transport.KindNode, n)
		if err != nil {
			return err
		}
		text := fmt.Sprintf("id: %s\nlisten: %q\ndata_dir: %q\ncert: %q\nkey: %q\nca: %q\nsecret_key: %q\ninitial_cluster: {%s}\n",
			n, c.Addrs[n], c.DataDir(n), f.Cert, f.Key, f.CA, c.Path("secret.key"), strings.Join(members, ", "))
		if c.opts.RaftTimeout > 0 {
			text += fmt.Sprintf("raft_timeout: %s\n", c.opts.RaftTimeout)
		}
		if err := os.WriteFile(c.Path(n+".yaml"), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Close kills what runs.
func (c *Cluster) Close() {
	for _, p := range c.nodes {
		p.kill()
	}
	if c.http != nil {
		transport.HangUp(c.http)
	}
	c.starts.Close()
}

// Path is a file of the cluster.
func (c *Cluster) Path(parts ...string) string {
	return filepath.Join(append([]string{c.opts.Dir}, parts...)...)
}

// DataDir is where a node keeps its log.
func (c *Cluster) DataDir(node string) string {
	if c.opts.DataDir != nil {
		return c.opts.DataDir(node)
	}
	return c.Path("data-" + node)
}

// Issue makes a certificate of the cluster's CA.
func (c *Cluster) Issue(kind transport.Kind, name string) (transport.Files, error) {
	leaf, err := c.ca.Issue(transport.Identity{Kind: kind, Name: name}, pki.IssueOptions{})
	if err != nil {
		return transport.Files{}, err
	}
	return leaf.Write(c.Path("ca"))
}

// freeAddr is a loopback address below the ports that outgoing connections get: it
// must still be free when its node comes back.
func freeAddr() (string, error) {
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", errors.New("find a port: none is free")
}

// Start starts nodes, all of them when none is named.
func (c *Cluster) Start(nodes ...string) error {
	if len(nodes) == 0 {
		nodes = c.Names
	}
	for _, n := range nodes {
		cmd := exec.Command(c.opts.Program, "server", "-c", c.Path(n+".yaml"))
		cmd.Env = append(os.Environ(), c.opts.Env...)
		p, err := start(c.starts, c.Path(n+".log"), cmd)
		if err != nil {
			return err
		}
		c.nodes[n] = p
	}
	return nil
}

// Kill is kill -9 of nodes at once; it returns when they are gone.
func (c *Cluster) Kill(nodes ...string) {
	for _, n := range nodes {
		if p := c.nodes[n]; p != nil {
			_ = p.cmd.Process.Kill() // it may be gone already
		}
	}
	for _, n := range nodes {
		c.nodes[n].kill()
	}
}

// Stop stops a node in order.
func (c *Cluster) Stop(ctx context.Context, node string) error {
	if err := c.nodes[node].stop(ctx, 30*time.Second); err != nil {
		return fmt.Errorf("stop %s: %w", node, err)
	}
	return nil
}

// Node is the process of a node; nil = it was never started.
func (c *Cluster) Node(name string) *Process { return c.nodes[name] }

// Running are the nodes whose process runs.
func (c *Cluster) Running() (names []string) {
	for _, n := range c.Names {
		if c.nodes[n].Runs() {
			names = append(names, n)
		}
	}
	return names
}

// API is the admin service of a node.
func (c *Cluster) API(node string) lifeboatv1connect.AdminServiceClient { return c.apis[node] }

// Status is what a node says, of itself when stale, else of the leader. An empty
// one when it gives no answer.
func (c *Cluster) Status(ctx context.Context, node string, stale bool) *pb.StatusResponse {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	r, err := c.apis[node].Status(ctx, connect.NewRequest(&pb.StatusRequest{Stale: stale}))
	if err != nil {
		return &pb.StatusResponse{}
	}
	return r.Msg
}

// Leader is who leads and answers as such, as every running node knows it; "" = they
// do not agree on one.
func (c *Cluster) Leader(ctx context.Context) (who string) {
	for _, n := range c.Running() {
		s := c.Status(ctx, n, false)
		if s.LeaderId == "" || who != "" && s.LeaderId != who {
			return ""
		}
		who = s.LeaderId
	}
	return who
}

// Within waits until ok holds.
func (c *Cluster) Within(ctx context.Context, most time.Duration, what string, ok func() bool) error {
	end := time.Now().Add(most)
	for !ok() {
		if time.Now().After(end) {
			return fmt.Errorf("after %s still not: %s\n%s", most, what, c.Said(1000))
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// Ready waits until all nodes run, are Up, and the leader's entries are applied on
// each of them but for those of the last moment.
func (c *Cluster) Ready(ctx context.Context, within time.Duration) (leader string, err error) {
	err = c.Within(ctx, within, "all nodes are Up and agree on a leader", func() bool {
		leader = c.Leader(ctx)
		return leader != "" && c.allUp(ctx, leader) && c.level(ctx, leader)
	})
	return leader, err
}

// maxBehind is how many entries a node that is written to may be behind.
const maxBehind = 100

func (c *Cluster) allUp(ctx context.Context, leader string) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	r, err := c.apis[leader].ListNodes(ctx, connect.NewRequest(&pb.ListNodesRequest{}))
	if err != nil {
		return false
	}
	up := 0
	for _, n := range r.Msg.Nodes {
		if n.State == "Up" && slices.Contains(c.Names, n.Id) {
			up++
		}
	}
	return up == len(c.Names)
}

func (c *Cluster) level(ctx context.Context, leader string) bool {
	want := c.Status(ctx, leader, true).AppliedIndex
	for _, n := range c.Names {
		if c.Status(ctx, n, true).AppliedIndex+maxBehind < want {
			return false
		}
	}
	return true
}

// Said is the end of what each node said.
func (c *Cluster) Said(n int) string {
	var b strings.Builder
	for _, name := range c.Names {
		if p := c.nodes[name]; p != nil {
			fmt.Fprintf(&b, "%s said at last:\n%s\n", name, p.Said(n))
		}
	}
	return b.String()
}

// sleep waits; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
