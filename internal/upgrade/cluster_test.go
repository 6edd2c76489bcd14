package upgrade

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/transport"
	"lifeboat/transport/pki"
)

// cluster is three management nodes and an agent with a hypervisor in memory, each a
// process of some build.
type cluster struct {
	*testing.T
	dir   string
	addrs map[string]string // of the nodes
	procs map[string]*process
	apis  map[string]lifeboatv1connect.AdminServiceClient
}

type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	log  string
}

var names = []string{"n1", "n2", "n3"}

const uuid = "1feb0a70-0000-4000-8000-000000000101"

func newCluster(t *testing.T) *cluster {
	c := &cluster{T: t, dir: t.TempDir(), addrs: map[string]string{}, procs: map[string]*process{}, apis: map[string]lifeboatv1connect.AdminServiceClient{}}
	ca, err := pki.CreateCA(filepath.Join(c.dir, "ca"), "upgrade")
	c.ok(err)
	issue := func(kind transport.Kind, name string) transport.Files {
		leaf, err := ca.Issue(transport.Identity{Kind: kind, Name: name}, pki.IssueOptions{})
		c.ok(err)
		files, err := leaf.Write(filepath.Join(c.dir, "ca"))
		c.ok(err)
		return files
	}
	creds, err := transport.LoadCredentials(issue(transport.KindOperator, "alice"), nil)
	c.ok(err)
	web := transport.NewHTTPClient(creds, transport.ClientOptions{})
	t.Cleanup(func() { transport.HangUp(web) })
	c.write("secret.key", strings.Repeat("5a", 32)+"\n")
	var members, managers []string
	for _, n := range names {
		c.addrs[n] = freeAddr(t)
		c.apis[n] = lifeboatv1connect.NewAdminServiceClient(web, "https://"+c.addrs[n])
		members = append(members, fmt.Sprintf("%s: %q", n, c.addrs[n]))
		managers = append(managers, fmt.Sprintf("%q", c.addrs[n]))
	}
	for _, n := range names {
		f := issue(transport.KindNode, n)
		c.write(n+".yaml", fmt.Sprintf("id: %s\nlisten: %q\ndrain_time: 0s\ndata_dir: %q\ncert: %q\nkey: %q\nca: %q\nsecret_key: %q\ninitial_cluster: {%s}\nraft_timeout: 1s\n",
			n, c.addrs[n], c.data(n), f.Cert, f.Key, f.CA, c.path("secret.key"), strings.Join(members, ", ")))
	}
	f := issue(transport.KindHost, "h1")
	c.ok(os.MkdirAll(c.path("h1", "domains"), 0o700))
	c.write("h1/domains/web.xml", "<domain type='qemu'><name>web</name><uuid>"+uuid+"</uuid><memory unit='MiB'>512</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os>"+
		"<devices><disk type='file' device='disk'><source file='/srv/vms/web.qcow2'/><target dev='vda'/></disk></devices></domain>")
	c.write("machine-id", "1feb0a70000040008000000000000001\n")
	c.write("boot-id", "5d0a2b6e-8d5c-4f0e-9b60-6f3a0c1d2e3f\n")
	c.write("h1.yaml", fmt.Sprintf("host_id: h1\nmanagers: [%s]\ncert: %q\nkey: %q\nca: %q\nhypervisor: \"mem://%s?start=1\"\nstate_dir: %q\nrun_dir: %q\nboot_id_file: %q\nmachine_id_file: %q\nwatchdog: {kind: none}\n",
		strings.Join(managers, ", "), f.Cert, f.Key, f.CA, c.path("h1"), c.path("h1", "state"), c.path("h1", "run"), c.path("boot-id"), c.path("machine-id")))
	t.Cleanup(func() {
		for _, p := range c.procs {
			_ = p.cmd.Process.Kill()
			<-p.done
		}
		if t.Failed() {
			for name, p := range c.procs {
				raw, _ := os.ReadFile(p.log)
				t.Logf("%s said at last:\n%s", name, raw[max(0, len(raw)-3000):])
			}
		}
	})
	return c
}

func (c *cluster) ok(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}
func (c *cluster) data(node string) string { return c.path("data-" + node) }

func (c *cluster) write(name, text string) {
	c.Helper()
	c.ok(os.WriteFile(c.path(name), []byte(text), 0o600))
}

// freeAddr is a loopback address below the ports that outgoing connections get: it
// must still be free when its node comes back.
func freeAddr(t *testing.T) string {
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

// start runs a build: as a management node, or as the agent of h1.
func (c *cluster) start(program, name string) {
	c.Helper()
	role := "server"
	if name == "h1" {
		role = "agent"
	}
	log, err := os.OpenFile(c.path(name+".log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	c.ok(err)
	defer log.Close()
	cmd := exec.Command(program, role, "-c", c.path(name+".yaml"))
	cmd.Stdout, cmd.Stderr = log, log
	c.ok(cmd.Start())
	p := &process{cmd: cmd, done: make(chan struct{}), log: c.path(name + ".log")}
	go func() { _ = cmd.Wait(); close(p.done) }()
	c.procs[name] = p
}

// stop ends a process in order.
func (c *cluster) stop(name string) {
	c.Helper()
	p := c.procs[name]
	c.ok(p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-p.done:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			c.Errorf("%s ended with exit code %d", name, code)
		}
	case <-time.After(30 * time.Second):
		c.Fatalf("%s has not stopped", name)
	}
}

// ended waits for a process that is to end by itself, and is what it said.
func (c *cluster) ended(name string) string {
	c.Helper()
	p := c.procs[name]
	select {
	case <-p.done:
	case <-time.After(60 * time.Second):
		c.Fatalf("%s goes on", name)
	}
	if p.cmd.ProcessState.ExitCode() == 0 {
		c.Errorf("%s ended as if all were well", name)
	}
	raw, err := os.ReadFile(p.log)
	c.ok(err)
	for _, line := range strings.Split(string(raw), "\n") {
		if strings.Contains(line, "install ") {
			c.Logf("%s ended: %s", name, line)
		}
	}
	return string(raw)
}

// within waits until ok holds.
func (c *cluster) within(most time.Duration, what string, ok func() bool) {
	c.Helper()
	for end := time.Now().Add(most); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			c.Fatalf("after %s still not: %s", most, what)
		}
	}
}

func (c *cluster) runs(name string) bool {
	p := c.procs[name]
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// status is what a node says: of itself when stale, else of the leader.
func (c *cluster) status(node string, stale bool) *pb.StatusResponse {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	r, err := c.apis[node].Status(ctx, connect.NewRequest(&pb.StatusRequest{Stale: stale}))
	if err != nil {
		return &pb.StatusResponse{}
	}
	return r.Msg
}

// leader is who leads and answers as such, as every running node knows it; "" = they
// do not agree on one.
func (c *cluster) leader() (who string) {
	for _, n := range names {
		if !c.runs(n) {
			continue
		}
		s := c.status(n, false)
		if s.LeaderId == "" || who != "" && s.LeaderId != who {
			return ""
		}
		who = s.LeaderId
	}
	return who
}

// agree waits until all three nodes have shown the digest of one log index, and
// compares those that it saw.
func (c *cluster) agree() {
	c.Helper()
	seen := map[uint64]map[string]string{}
	shared := 0
	for end := time.Now().Add(30 * time.Second); shared < 3; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			c.Fatalf("the nodes show no digest of one index: %v", seen)
		}
		for _, n := range names {
			for _, d := range c.status(n, true).Digests {
				if seen[d.Index] == nil {
					seen[d.Index] = map[string]string{}
				}
				seen[d.Index][n] = d.Digest
			}
		}
		shared = 0
		for index, by := range seen {
			for _, digest := range by {
				if digest != by["n1"] && by["n1"] != "" {
					c.Fatalf("the nodes have different states at index %d: %v", index, by)
				}
			}
			if len(by) == len(names) {
				shared++
			}
		}
	}
}

// try asks the running nodes in turn until one answers with something other than that
// it cannot.
func (c *cluster) try(do func(context.Context, lifeboatv1connect.AdminServiceClient) error) error {
	err := errors.New("no node runs")
	for _, n := range names {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err = do(ctx, c.apis[n])
		cancel()
		if err == nil || connect.CodeOf(err) != connect.CodeUnavailable {
			return err
		}
	}
	return err
}

// msg is what an answer holds; nil when there is none.
func msg[T any](r *connect.Response[T]) *T {
	if r == nil {
		return nil
	}
	return r.Msg
}
