package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"lifeboat/fence/redfishsim"
	"lifeboat/internal/spawn"
	"lifeboat/transport"
)

// Options of a room.
type Options struct {
	Program string // this program; the children are started from it
	Dir     string // of the cluster: configuration, logs, data. Made, or emptied
	Runtime string // of the user: the lock and the socket by which the room is told things
	Keep    bool   // leave Dir as it is at the end
	Lease   bool   // hosts have no BMC: their self-fence leases prove their death
}

// Access is how an operator reaches the cluster.
type Access struct {
	Addrs         []string
	Cert, Key, CA string
}

// Room is a cluster of child processes, and the machines they run on.
type Room struct {
	opts     Options
	starter  *spawn.Starter
	locks    []*os.File
	machines []*Machine
	nodes    map[string]string // name → address
	guests   []*guest
	journal  string // what really happened to the VMs
	cluster  *cluster
	failed   chan error // capacity 1: a process ended that nobody ended

	mu     sync.Mutex
	deaths []Death
	closed bool
	keep   bool
}

const (
	bmcUser     = "admin"
	bmcPassword = "pulls-the-plug" //nolint:gosec // of simulators that live as long as this process
)

// Open takes the directories, makes certificates and configurations, and starts
// everything. The cluster is not ready yet: see Settle.
func Open(o Options) (_ *Room, err error) {
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, fmt.Errorf("find directory: %w", err)
	}
	r := &Room{opts: o, starter: spawn.New(), failed: make(chan error, 1), keep: o.Keep}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if err := ownDir(o.Runtime); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(o.Runtime, "lock"))
	if errors.Is(err, errBusy) {
		return nil, fmt.Errorf("another 'lifeboat dev' of yours runs already (%w); stop it with Ctrl-C there, or use it", err)
	}
	if err != nil {
		return nil, err
	}
	r.locks = append(r.locks, lock)
	if lock, err = takeDir(o.Dir); err != nil {
		return nil, err
	}
	r.locks = append(r.locks, lock)
	if err := r.furnish(); err != nil {
		return nil, err
	}
	for _, m := range r.machines {
		if err := r.setPower(m, true); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// furnish makes everything that is there before the power is switched on.
func (r *Room) furnish() error {
	for _, d := range []string{"log", "pids", "bmc"} {
		if err := os.Mkdir(r.path(d), 0o700); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	r.journal = r.path("journal.jsonl")
	addrs, err := freeAddrs(6)
	if err != nil {
		return err
	}
	r.nodes = map[string]string{"n1": addrs[0], "n2": addrs[1], "n3": addrs[2]}
	for i, name := range []string{"h1", "h2", "h3", "h4"} {
		m := &Machine{name: name, uuid: newBootID()}
		if i < len(r.nodes) {
			m.node, m.http = fmt.Sprintf("n%d", i+1), addrs[3+i]
		}
		r.machines = append(r.machines, m)
		if m.door, err = newDoor(); err != nil {
			return err
		}
		m.bmc, err = redfishsim.Start(redfishsim.Config{
			User: bmcUser, Password: bmcPassword, UUID: m.uuid, Serial: "DEV-" + name,
			Power: m.isOn, SetPower: func(on bool) error { return r.setPower(m, on) },
		})
		if err != nil {
			return err
		}
		if err := write(r.path("bmc", name+".crt"), string(m.bmc.CertPEM())); err != nil {
			return err
		}
	}
	r.guests = guests(r.hosts())
	if err := r.issue(); err != nil {
		return err
	}
	for _, m := range r.machines {
		if m.node != "" {
			if err := r.configureNode(m); err != nil {
				return err
			}
		}
		if err := os.Mkdir(r.path(m.name), 0o700); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	r.cluster, err = r.connect()
	return err
}

// stopWithin bounds each half of Close: agents, then nodes.
const stopWithin = 2 * time.Second

// Close ends everything and, unless it is to be kept, removes the directory.
func (r *Room) Close() error {
	r.mu.Lock()
	r.closed = true
	keep := r.keep
	r.mu.Unlock()
	var managers, agents []*process
	for _, m := range r.machines {
		manager, agent := m.processes()
		managers, agents = append(managers, manager), append(agents, agent)
	}
	stopAll(agents, stopWithin)
	stopAll(managers, stopWithin)
	var err error
	for _, m := range r.machines {
		if m.bmc != nil {
			err = errors.Join(err, m.bmc.Close())
		}
		if m.door != nil {
			m.door.close()
		}
	}
	r.starter.Close()
	if r.cluster != nil {
		r.cluster.close()
	}
	if !keep && len(r.locks) == 2 {
		err = errors.Join(err, os.RemoveAll(r.opts.Dir))
	}
	for _, l := range r.locks {
		err = errors.Join(err, l.Close())
	}
	return err
}

// Keep leaves the directory behind at the end.
func (r *Room) Keep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep = true
}

// Failed delivers the first process that ended without having been told to.
func (r *Room) Failed() <-chan error { return r.failed }

func (r *Room) surprised(p *process, err error) {
	r.mu.Lock()
	closed := r.closed
	r.mu.Unlock()
	if closed {
		return
	}
	how := "with success"
	if err != nil {
		how = err.Error()
	}
	select {
	case r.failed <- fmt.Errorf("%s has ended by itself (%s); its log is %s", p.name, how, r.path("log", p.name+".log")):
	default:
	}
}

func (r *Room) died(d Death) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaths = append(r.deaths, d)
}

// Deaths are all so far, oldest first.
func (r *Room) Deaths() []Death {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.deaths)
}

// Access is how to reach the cluster as its operator.
func (r *Room) Access() Access {
	f := r.files(transport.KindOperator, operator)
	return Access{Addrs: r.addrs(), Cert: f.Cert, Key: f.Key, CA: f.CA}
}

// Dir is where everything of the cluster lies.
func (r *Room) Dir() string { return r.opts.Dir }

func (r *Room) path(elem ...string) string {
	return filepath.Join(append([]string{r.opts.Dir}, elem...)...)
}

func (r *Room) config(name string) string { return r.path(name + ".yaml") }

func (r *Room) hosts() []string {
	var names []string
	for _, m := range r.machines {
		names = append(names, m.name)
	}
	return names
}

func (r *Room) addrs() []string {
	var addrs []string
	for _, m := range r.machines {
		if m.node != "" {
			addrs = append(addrs, r.nodes[m.node])
		}
	}
	return addrs
}

// machine finds one by the name of its host, or of its management node.
func (r *Room) machine(name string) *Machine {
	for _, m := range r.machines {
		if m.name == name || m.node == name && name != "" {
			return m
		}
	}
	return nil
}

func (r *Room) guest(name string) *guest {
	for _, g := range r.guests {
		if g.name == name || g.id.String() == strings.ToLower(name) {
			return g
		}
	}
	return nil
}

// leaderMachine is the machine of the management node that leads.
func (r *Room) leaderMachine(ctx context.Context) (*Machine, error) {
	s, err := r.cluster.status(ctx)
	if err != nil {
		return nil, err
	}
	if m := r.machine(s.LeaderId); m != nil {
		return m, nil
	}
	return nil, errors.New("no node leads at the moment")
}
