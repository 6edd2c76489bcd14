package lab

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
)

// The two switches of the lab, both in the namespace "<prefix>-net".
const (
	dataBridge = "data0" // hosts and managers
	bmcBridge  = "bmc0"  // BMCs and managers
)

// nowhere is a MAC address nobody has: frames sent to it vanish.
const nowhere = "02:00:00:00:de:ad"

// network is the lab's cabling. Every port is a cable between a switch and a
// machine; whether it carries anything follows from its flags alone.
type network struct {
	prefix string
	subnet int // second octet of all addresses

	mu         sync.Mutex
	ports      map[string]*port
	partitions map[[2]string]bool // pairs of port names, sorted
}

type port struct {
	name   string // of the switch's end, and of the machine: h1, m2, b3; m2x is manager 2's BMC cable
	bridge string
	netns  string
	dev    string // of the machine's end
	ip     string
	mac    string // stable, so that nobody's ARP cache goes stale over a reboot

	plugged    bool // the cable exists (the machine has power)
	isolated   bool // cable cut: the machine sees no carrier
	blackholed bool // everything vanishes, the machine sees a carrier
}

func newNetwork(prefix string) *network {
	h := fnv.New32a()
	h.Write([]byte(prefix))
	return &network{
		prefix:     prefix,
		subnet:     64 + int(h.Sum32()%128),
		ports:      make(map[string]*port),
		partitions: make(map[[2]string]bool),
	}
}

func (w *network) netns(machine string) string { return w.prefix + "-" + machine }

// addPort declares a cable without making it. net is 0 (data) or 1 (BMC).
func (w *network) addPort(name, machine, dev string, net, last int) *port {
	bridge := dataBridge
	if net == 1 {
		bridge = bmcBridge
	}
	p := &port{
		name: name, bridge: bridge, netns: w.netns(machine), dev: dev,
		ip:  fmt.Sprintf("10.%d.%d.%d", w.subnet, net, last),
		mac: fmt.Sprintf("02:4c:42:%02x:%02x:%02x", w.subnet, net, last),
	}
	w.ports[name] = p
	return p
}

func (w *network) up(ctx context.Context) error {
	if err := ip(ctx, "", "netns add "+w.netns("net")); err != nil {
		return err
	}
	return ip(ctx, w.netns("net"),
		"link set lo up",
		"link add "+dataBridge+" up type bridge stp_state 0 forward_delay 0",
		"link add "+bmcBridge+" up type bridge stp_state 0 forward_delay 0",
	)
}

// plug gives machines a fresh network namespace and their cables. Fresh,
// because a machine that lost power remembers no connection: its kernel must
// not go on retransmitting the FINs of its former life.
func (w *network) plug(ctx context.Context, ports ...*port) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	made := make(map[string]bool)
	for _, p := range ports {
		if !made[p.netns] {
			if err := ip(ctx, "", "netns add "+p.netns); err != nil {
				return err
			}
			made[p.netns] = true
		}
		if err := ip(ctx, w.netns("net"),
			fmt.Sprintf("link add %s type veth peer name %s address %s netns %s", p.name, p.dev, p.mac, p.netns)); err != nil {
			return err
		}
		if err := ip(ctx, p.netns,
			"link set lo up",
			fmt.Sprintf("addr add %s/24 dev %s", p.ip, p.dev),
			"link set "+p.dev+" up"); err != nil {
			return err
		}
		p.plugged = true
		if err := w.settle(ctx, p); err != nil {
			return err
		}
	}
	for pair := range w.partitions {
		if err := w.divide(ctx, pair); err != nil {
			return err
		}
	}
	return nil
}

// cut takes the carrier away at once; the cables stay until unplug.
func (w *network) cut(ctx context.Context, ports ...*port) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	for _, p := range ports {
		if p.plugged {
			lines = append(lines, "link set "+p.name+" down")
		}
	}
	return ip(ctx, w.netns("net"), lines...)
}

// unplug removes the cables, and then the namespaces at their ends: with a
// namespace the kernel removes the cables in it, sooner or later.
func (w *network) unplug(ctx context.Context, ports ...*port) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	gone := make(map[string]bool)
	for _, p := range ports {
		if !p.plugged {
			continue
		}
		p.plugged = false
		gone[p.netns] = true
		if err := ip(ctx, w.netns("net"), "link del "+p.name); err != nil {
			return err
		}
	}
	for netns := range gone {
		if err := ip(ctx, "", "netns del "+netns); err != nil {
			return err
		}
	}
	return nil
}

// change edits the flags of ports and brings the cables in line with them.
func (w *network) change(ctx context.Context, edit func(*port), ports ...*port) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range ports {
		edit(p)
		if err := w.settle(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// settle makes one cable what its flags say. Callers hold w.mu.
func (w *network) settle(ctx context.Context, p *port) error {
	if !p.plugged {
		return nil // the flags hold for the next power on
	}
	master, state := "master "+p.bridge, "up"
	if p.blackholed {
		// Pulled at the switch, not at the machine: its carrier stays and its frames vanish.
		master = "nomaster"
	}
	if p.isolated {
		state = "down"
	}
	return ip(ctx, w.netns("net"), fmt.Sprintf("link set %s %s %s", p.name, master, state))
}

// partition drops everything between two machines of the data network, silently.
func (w *network) partition(ctx context.Context, a, b string, on bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range []string{a, b} {
		if p := w.ports[name]; p == nil || p.bridge != dataBridge || a == b {
			return fmt.Errorf("partition %s from %s: want two different machines of the data network, such as h1 and m2", a, b)
		}
	}
	pair := [2]string{min(a, b), max(a, b)}
	if on {
		w.partitions[pair] = true
		return w.divide(ctx, pair)
	}
	if !w.partitions[pair] {
		return nil
	}
	delete(w.partitions, pair)
	return w.neighbours(ctx, pair, func(peer *port, dev string) string {
		return fmt.Sprintf("neigh del %s dev %s", peer.ip, dev)
	})
}

// divide tells both machines a wrong MAC address of each other. The network
// namespace of a machine is new after every power on, so plug does it again.
func (w *network) divide(ctx context.Context, pair [2]string) error {
	return w.neighbours(ctx, pair, func(peer *port, dev string) string {
		return fmt.Sprintf("neigh replace %s lladdr %s dev %s nud permanent", peer.ip, nowhere, dev)
	})
}

func (w *network) neighbours(ctx context.Context, pair [2]string, line func(peer *port, dev string) string) error {
	a, b := w.ports[pair[0]], w.ports[pair[1]]
	for _, side := range [][2]*port{{a, b}, {b, a}} {
		if at, peer := side[0], side[1]; at.plugged {
			if err := ip(ctx, at.netns, line(peer, at.dev)); err != nil {
				return err
			}
		}
	}
	return nil
}

// ip runs lines of iproute2 commands in one batch, in a named namespace unless
// netns is empty. No lines, no process.
func ip(ctx context.Context, netns string, lines ...string) error {
	if len(lines) == 0 {
		return nil
	}
	args := []string{"-batch", "-"}
	if netns != "" {
		args = append([]string{"-n", netns}, args...)
	}
	cmd := exec.CommandContext(ctx, tool("ip"), args...)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("configure network %s (%s): %w: %s", netns, strings.Join(lines, "; "), err, strings.TrimSpace(out.String()))
	}
	return nil
}

// labNetns lists the network namespaces of a lab, in this or an earlier process.
func labNetns(prefix string) ([]string, error) {
	entries, err := os.ReadDir("/run/netns")
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	ours := regexp.MustCompile("^" + regexp.QuoteMeta(prefix) + "-(net|[hmb][0-9]+)$")
	var names []string
	for _, e := range entries {
		if ours.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
