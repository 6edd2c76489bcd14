package dev

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lifeboat/hypervisor"
	"lifeboat/hypervisor/domxml"
	"lifeboat/node"
	"lifeboat/transport"
	"lifeboat/transport/pki"
)

// raftTimeout is patient: everything shares a laptop, and its disk.
const raftTimeout = time.Second

// operator is who the room is to the cluster.
const operator = "dev"

// guest is a VM of the room.
type guest struct {
	name  string
	id    hypervisor.UUID
	host  string // where it begins
	xml   string
	asked bool // its definition asks to be protected; the others are by us
}

// guests are three VMs for every host, the databases among them with lifeboat's
// element in their definitions.
func guests(hosts []string) []*guest {
	names := [][]string{{"web-1", "db-1", "mail-1"}, {"web-2", "db-2", "queue-1"}, {"web-3", "db-3", "build-1"}, {"web-4", "db-4", "cache-1"}}
	var out []*guest
	for i, host := range hosts {
		for k, name := range names[i] {
			g := &guest{name: name, host: host, asked: strings.HasPrefix(name, "db")}
			g.id = hypervisor.UUID{0x1f, 0xeb, 0x0a, 0x70, 6: 0x40, 8: 0x80, 14: byte(i + 1), 15: byte(k + 1)}
			g.xml = g.definition()
			out = append(out, g)
		}
	}
	return out
}

func (g *guest) definition() string {
	meta := ""
	if g.asked {
		meta = fmt.Sprintf("\n  <metadata>\n    <lifeboat:protect xmlns:lifeboat=%q ha=\"restart\" priority=\"high\"/>\n  </metadata>", domxml.Namespace)
	}
	return fmt.Sprintf(`<domain type='qemu'>
  <name>%s</name>
  <uuid>%s</uuid>%s
  <memory unit='MiB'>1024</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'><source file='/srv/vms/%s.qcow2'/><target dev='vda'/></disk>
  </devices>
</domain>
`, g.name, g.id, meta, g.name)
}

// issue makes the CA of the room and a certificate for everybody in it.
func (r *Room) issue() error {
	ca, err := pki.CreateCA(r.path("ca"), "lifeboat dev")
	if err != nil {
		return err
	}
	ids := []transport.Identity{{Kind: transport.KindOperator, Name: operator}}
	for _, m := range r.machines {
		ids = append(ids, transport.Identity{Kind: transport.KindHost, Name: m.name})
		if m.node != "" {
			ids = append(ids, transport.Identity{Kind: transport.KindNode, Name: m.node})
		}
	}
	for _, id := range ids {
		leaf, err := ca.Issue(id, pki.IssueOptions{})
		if err != nil {
			return err
		}
		if _, err := leaf.Write(r.path("ca")); err != nil {
			return err
		}
	}
	key := make([]byte, node.SecretKeySize)
	_, _ = rand.Read(key) // never fails
	return write(r.path("secret.key"), fmt.Sprintf("%x\n", key))
}

func (r *Room) files(kind transport.Kind, name string) transport.Files {
	base := r.path("ca", string(kind)+"-"+name)
	return transport.Files{Cert: base + ".crt", Key: base + ".key", CA: r.path("ca", pki.CACertFile)}
}

// configureNode writes the configuration of a machine's management node.
func (r *Room) configureNode(m *Machine) error {
	f := r.files(transport.KindNode, m.node)
	return write(r.config(m.node), fmt.Sprintf(`# management node %s
id: %s
listen: %q
http_listen: %q
drain_time: 0s
data_dir: %q
cert: %q
key: %q
ca: %q
secret_key: %q
ca_key: %q
initial_cluster: {%s}
host: %s
raft_timeout: %s
log: {level: debug}
`, m.node, m.node, r.nodes[m.node], m.http, r.path(m.node), f.Cert, f.Key, f.CA, r.path("secret.key"), r.path("ca", pki.CAKeyFile), r.members(), m.name, raftTimeout))
}

func (r *Room) members() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(r.nodes)) {
		list = append(list, fmt.Sprintf("%s: %q", name, r.nodes[name]))
	}
	return strings.Join(list, ", ")
}

// configureAgent writes the configuration of a machine's agent, with what is on
// its disk and whether that runs from the start.
func (r *Room) configureAgent(m *Machine, domains []*guest, running bool) error {
	disk := r.path(m.name, "domains")
	if err := os.RemoveAll(disk); err != nil {
		return fmt.Errorf("clear disk of %s: %w", m.name, err)
	}
	if err := os.MkdirAll(disk, 0o700); err != nil {
		return fmt.Errorf("make disk of %s: %w", m.name, err)
	}
	for _, g := range domains {
		if err := write(filepath.Join(disk, g.name+".xml"), g.xml); err != nil {
			return err
		}
	}
	if err := write(r.path(m.name, "machine-id"), m.uuid+"\n"); err != nil {
		return err
	}
	if err := write(r.path(m.name, "boot-id"), m.boot+"\n"); err != nil {
		return err
	}
	query := url.Values{"journal": {r.journal}, "guests": {"stdin"}}
	if running {
		query.Set("start", "1")
	}
	f := r.files(transport.KindHost, m.name)
	text := fmt.Sprintf(`# agent of host %s
host_id: %s
managers: ["%s"]
cert: %q
key: %q
ca: %q
hypervisor: %q
state_dir: %q
run_dir: %q
boot_id_file: %q
machine_id_file: %q
probe_addrs: [%q]
watchdog: %s
log: {level: debug}
`, m.name, m.name, strings.Join(r.addrs(), `", "`), f.Cert, f.Key, f.CA, (&url.URL{Scheme: "mem", Path: r.path(m.name), RawQuery: query.Encode()}).String(),
		r.path(m.name, "state"), r.path(m.name, "run"), r.path(m.name, "boot-id"), r.path(m.name, "machine-id"), m.door.addr(), r.watchdog())
	if m.node != "" {
		text += "node: " + m.node + "\n"
	}
	return write(r.config(m.name), text)
}

func (r *Room) watchdog() string {
	if r.opts.Lease {
		return "{kind: soft, bound: 2s}"
	}
	return "{kind: none}"
}

func write(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return nil
}

// newBootID is what the kernel of a machine makes up at every boot.
func newBootID() string {
	var id hypervisor.UUID
	_, _ = rand.Read(id[:]) // never fails
	return id.String()
}
