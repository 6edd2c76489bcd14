package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/internal/cli"
	"lifeboat/internal/durable"
	"lifeboat/node"
	"lifeboat/transport"
	"lifeboat/transport/pki"
)

// serviceUser is who the package's unit runs a management node as.
const serviceUser = "lifeboat"

// newServer is what a new management node is told, whether it founds or joins.
type newServer struct {
	ID         string `placeholder:"NAME" help:"Name of this node; left out, the name of this machine."`
	Advertise  string `placeholder:"HOST:PORT" help:"Where the other nodes and the agents reach it; left out, the address of this machine and port 7400."`
	Listen     string `placeholder:"HOST:PORT" help:"Where it listens; left out, as --advertise."`
	HTTPListen string `name:"http-listen" default:"127.0.0.1:7480" placeholder:"HOST:PORT" help:"Health and metrics, plain HTTP; empty, none."`
	Config     string `short:"c" default:"/etc/lifeboat/server.yaml" placeholder:"FILE" help:"The configuration to write."`
	DataDir    string `default:"/var/lib/lifeboat/node" placeholder:"DIR" help:"Where its log, its key and its certificates are kept."`
	Host       string `placeholder:"HOST" help:"The libvirt host that runs on this machine, if any."`
}

// complete fills in what was left out. towards is where the cluster is.
func (c *newServer) complete(towards string) error {
	if c.ID == "" {
		name, err := os.Hostname()
		if err != nil {
			return cli.Usage("name this node with --id", "the name of this machine could not be found: %w", err)
		}
		c.ID, _, _ = strings.Cut(strings.ToLower(name), ".")
	}
	if err := (transport.Identity{Kind: transport.KindNode, Name: c.ID}).Validate(); err != nil {
		return cli.Usage("name this node with --id", "%w", err)
	}
	if c.Advertise == "" {
		host, err := ownAddress(towards)
		if err != nil {
			return err
		}
		c.Advertise = net.JoinHostPort(host, "7400")
	}
	if _, _, err := net.SplitHostPort(c.Advertise); err != nil {
		return cli.Usage("write it as host:port, for example 10.0.0.1:7400", "wrong --advertise %q", c.Advertise)
	}
	for _, p := range []*string{&c.Config, &c.DataDir} {
		*p = absolute(*p)
	}
	if err := notThere(c.Config, "this machine is set up already; to begin anew, stop the server and remove its configuration and its data directory"); err != nil {
		return err
	}
	return notThere(filepath.Join(c.DataDir, "raft.db"), "it holds the log of a node; name another with --data-dir, or remove it if that node is gone for good")
}

func (c *newServer) enrolment() enrolment {
	return enrolment{dir: filepath.Join(c.DataDir, "pki"), name: "node"}
}

func (c *newServer) secretKey() string { return filepath.Join(c.DataDir, "pki", "secret.key") }

// serverFile is the configuration that is written: the keys that somebody would
// look for, in the order of the examples.
type serverFile struct {
	ID             string            `yaml:"id"`
	Listen         string            `yaml:"listen"`
	Advertise      string            `yaml:"advertise,omitempty"`
	HTTPListen     string            `yaml:"http_listen,omitempty"`
	DataDir        string            `yaml:"data_dir"`
	Cert           string            `yaml:"cert"`
	Key            string            `yaml:"key"`
	CA             string            `yaml:"ca"`
	SecretKey      string            `yaml:"secret_key"`
	CAKey          string            `yaml:"ca_key,omitempty"`
	InitialCluster map[string]string `yaml:"initial_cluster,omitempty"`
	Join           map[string]string `yaml:"join,omitempty"`
	Host           string            `yaml:"host,omitempty"`
}

// write writes the configuration last: what it names is there by then. It is read
// back, as the server will.
func (c *newServer) write(f serverFile, by string) error {
	files := c.enrolment().files()
	f.ID, f.Listen, f.HTTPListen, f.DataDir, f.Host = c.ID, c.Advertise, c.HTTPListen, c.DataDir, c.Host
	if c.Listen != "" && c.Listen != c.Advertise {
		f.Listen, f.Advertise = c.Listen, c.Advertise
	}
	f.Cert, f.Key, f.CA, f.SecretKey = files.Cert, files.Key, files.CA, c.secretKey()
	body, err := yaml.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode the configuration: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(c.Config), 0o755); err != nil {
		return fmt.Errorf("make %s: %w", filepath.Dir(c.Config), err)
	}
	head := fmt.Sprintf("# A management node of Lifeboat, written by '%s'.\n", by)
	if err := durable.WriteNew(c.Config, append([]byte(head), body...), 0o644); err != nil {
		return err
	}
	if err := giveTo(serviceUser, c.DataDir); err != nil {
		return err
	}
	_, err = node.LoadConfig(c.Config)
	return err
}

// ServerInitCmd is 'lifeboat server init'.
type ServerInitCmd struct {
	newServer
	Admin string `default:"admin" placeholder:"NAME" help:"Name of the first operator, whose certificate is made for you."`
}

// Run makes a cluster of one node.
func (c *ServerInitCmd) Run(env *cli.Env, g *cli.Globals) error {
	if err := c.complete(""); err != nil {
		return err
	}
	admin := transport.Identity{Kind: transport.KindOperator, Name: c.Admin}
	if err := admin.Validate(); err != nil {
		return cli.Usage("", "%w", err)
	}
	home, err := cli.UserContextPath(env)
	if err != nil {
		return err
	}
	e := c.enrolment()
	ca, err := c.authority(e.dir)
	if err != nil {
		return err
	}
	leaf, err := ca.Issue(transport.Identity{Kind: transport.KindNode, Name: c.ID}, pki.IssueOptions{Validity: initialValidity})
	if err != nil {
		return err
	}
	files := e.files()
	for _, f := range []struct {
		path string
		data []byte
		mode fs.FileMode
	}{{files.Key, leaf.KeyPEM, 0o600}, {files.Cert, leaf.CertPEM, 0o644}} {
		if err := durable.Write(f.path, f.data, f.mode); err != nil {
			return err
		}
	}
	secret := make([]byte, node.SecretKeySize)
	_, _ = rand.Read(secret) // never fails
	if err := durable.WriteNew(c.secretKey(), fmt.Appendf(nil, "%x\n", secret), 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	context, err := c.firstOperator(ca, admin, home)
	if err != nil {
		return err
	}
	if err := c.write(serverFile{CAKey: filepath.Join(e.dir, pki.CAKeyFile), InitialCluster: map[string]string{c.ID: c.Advertise}}, "lifeboat server init"); err != nil {
		return err
	}
	result := struct {
		Config      string `json:"config"`
		Node        string `json:"node"`
		Address     string `json:"address"`
		Context     string `json:"context"`
		Fingerprint string `json:"fingerprint"`
	}{c.Config, c.ID, c.Advertise, context, pki.Fingerprint(ca.Cert)}
	return cli.PrintValue(env, g, result, fmt.Sprintf(`Wrote %s: node %s at %s, a cluster of one with a CA of its own.
You are operator %s, by the certificate that %s names.
Start it:            systemctl enable --now lifeboat-server   (or: lifeboat server -c %s)
Two more nodes:      lifeboat token create server --uses 2   (name them as addrs in that file when they are there)
The hosts:           lifeboat token create agent --uses 100`, c.Config, c.ID, c.Advertise, c.Admin, context, c.Config))
}

// initialValidity is how long the certificates last that are made before the cluster
// can make any; they are renewed like others.
const initialValidity = 90 * 24 * time.Hour

// authority makes the CA, or takes the one that an earlier try has left.
func (c *ServerInitCmd) authority(dir string) (*pki.CA, error) {
	ca, err := pki.CreateCA(dir, "lifeboat "+c.ID)
	if errors.Is(err, fs.ErrExist) {
		return pki.LoadCA(dir)
	}
	return ca, err
}

// firstOperator writes the certificate of the first operator and the context that
// finds the cluster by it. A context that is there already is kept: it is another
// cluster's, and the new one goes beside it.
func (c *ServerInitCmd) firstOperator(ca *pki.CA, id transport.Identity, home string) (string, error) {
	leaf, err := ca.Issue(id, pki.IssueOptions{})
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(home)
	files, err := leaf.Write(filepath.Join(dir, "lifeboat-"+c.ID))
	if err != nil {
		return "", err
	}
	if err := durable.Write(files.CA, pki.EncodeCert(ca.Cert), 0o644); err != nil {
		return "", err
	}
	if _, err := os.Lstat(home); err == nil {
		home = filepath.Join(dir, "lifeboat-"+c.ID, "context.yaml")
	}
	return home, cli.WriteContext(home, cli.Context{Addrs: []string{c.Advertise}, Cert: files.Cert, Key: files.Key, CA: files.CA})
}

// ServerJoinCmd is 'lifeboat server join'.
type ServerJoinCmd struct {
	joinFlags
	newServer
	OwnCert string `name:"own-cert" placeholder:"FILE" help:"Certificate of your own PKI, for lifeboat://node/NAME; left out, the cluster makes one."`
	OwnKey  string `name:"own-key" placeholder:"FILE" help:"The key of --own-cert."`
	OwnCA   string `name:"own-ca" placeholder:"FILE" help:"The CA of your own PKI."`
}

// Run makes this machine a node of a cluster.
func (c *ServerJoinCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	token, err := c.token(env, "server")
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(c.Addr, ",")
	if err := c.complete(first); err != nil {
		return err
	}
	e := c.enrolment()
	q := &pb.JoinRequest{Name: c.ID, Addr: c.Advertise, OwnCertificate: c.OwnCert != ""}
	if q.OwnCertificate {
		if err := e.bring(transport.Files{Cert: c.OwnCert, Key: c.OwnKey, CA: c.OwnCA}, transport.Identity{Kind: transport.KindNode, Name: c.ID}); err != nil {
			return err
		}
	}
	r, creds, err := e.join(ctx, &c.joinFlags, g, token, q)
	if err != nil {
		return err
	}
	if err := durable.Write(c.secretKey(), []byte(hex.EncodeToString(r.SecretKey)+"\n"), 0o600); err != nil {
		return err
	}
	peers := map[string]string{}
	for _, m := range r.Members {
		peers[m.Id] = m.Addr
	}
	if err := c.write(serverFile{Join: peers}, "lifeboat server join"); err != nil {
		return err
	}
	result := struct {
		Config  string   `json:"config"`
		Node    string   `json:"node"`
		Address string   `json:"address"`
		Members []string `json:"members"`
		Expires string   `json:"certificate_expires"`
	}{c.Config, c.ID, c.Advertise, sortedNames(peers), rfc3339(creds.Expires())}
	return cli.PrintValue(env, g, result, fmt.Sprintf(`Wrote %s: node %s at %s may join the cluster of %s.
Start it:   systemctl enable --now lifeboat-server   (or: lifeboat server -c %s)
It gets the log first, and a vote when it has caught up; 'lifeboat node list' shows it.`,
		c.Config, c.ID, c.Advertise, strings.Join(result.Members, ", "), c.Config))
}

func sortedNames(m map[string]string) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
