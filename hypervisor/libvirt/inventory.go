package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirtxml"

	"lifeboat/hypervisor"
	"lifeboat/hypervisor/domxml"
)

// survey collects an inventory. Each part has its own deadline, and loses at
// most its own connection: a pool on a dead server must not hide the rest.
type survey struct {
	lane
	inv hypervisor.Inventory
}

// Inventory implements hypervisor.Hypervisor.
func (d *Driver) Inventory(ctx context.Context) (hypervisor.Inventory, error) {
	limit := d.opts.InventoryTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the inventory took longer than %v", limit))
	defer cancel()
	s := &survey{lane: lane{d: d}}
	defer s.close()
	if err := s.node(ctx); err != nil {
		return hypervisor.Inventory{}, failed("read inventory", "", err)
	}
	s.capabilities(ctx)
	s.pools(ctx)
	for _, dir := range d.opts.SharedDirs {
		s.sharedDir(ctx, dir)
	}
	s.networks(ctx)
	s.bridges(ctx)
	s.definitions(ctx)
	return s.inv, nil
}

func (s *survey) problem(part, name string, err error) {
	s.inv.Problems = append(s.inv.Problems, hypervisor.Problem{Part: part, Name: name, Message: err.Error()})
}

func (s *survey) node(ctx context.Context) error {
	type node struct {
		memory  uint64
		cpus    int32
		version uint64
		host    string
	}
	n, err := read(ctx, &s.lane, func(lv *golibvirt.Libvirt) (n node, err error) {
		if _, n.memory, n.cpus, _, _, _, _, _, err = lv.NodeGetInfo(); err != nil {
			return n, err
		}
		if n.version, err = lv.ConnectGetLibVersion(); err != nil {
			return n, err
		}
		n.host, err = lv.ConnectGetHostname()
		return n, err
	})
	s.inv.CPUs, s.inv.MemoryBytes, s.inv.Hostname = int(n.cpus), n.memory<<10, n.host
	s.inv.MigrateURI = s.lane.d.opts.MigrateURI
	if s.inv.MigrateURI == "" && n.host != "" {
		s.inv.MigrateURI = "qemu+tls://" + n.host + "/system"
	}
	s.inv.Version = fmt.Sprintf("libvirt %d.%d.%d", n.version/1000000, n.version/1000%1000, n.version%1000)
	return err
}

func (s *survey) capabilities(ctx context.Context) {
	var caps libvirtxml.Caps
	text, err := probe(ctx, &s.lane, (*golibvirt.Libvirt).ConnectGetCapabilities)
	if err == nil {
		err = caps.Unmarshal(text)
	}
	if err != nil {
		s.problem("capabilities", "", err)
		return
	}
	if caps.Host.CPU != nil {
		s.inv.Arch = caps.Host.CPU.Arch
	}
	for _, g := range caps.Guests {
		if s.inv.Arch != "" && g.Arch.Name != s.inv.Arch {
			continue
		}
		machines := g.Arch.Machines
		for _, d := range g.Arch.Domains {
			s.inv.DomainTypes = append(s.inv.DomainTypes, d.Type)
			machines = append(machines, d.Machines...)
		}
		for _, m := range machines {
			s.inv.Machines = append(s.inv.Machines, m.Name)
		}
	}
	s.cpuModels(ctx)
	s.inv.DomainTypes, s.inv.Machines, s.inv.CPUModels = tidy(s.inv.DomainTypes), tidy(s.inv.Machines), tidy(s.inv.CPUModels)
}

func (s *survey) cpuModels(ctx context.Context) {
	var caps libvirtxml.DomainCaps
	text, err := probe(ctx, &s.lane, func(lv *golibvirt.Libvirt) (string, error) {
		return lv.ConnectGetDomainCapabilities(nil, nil, nil, nil, 0)
	})
	if err == nil {
		err = caps.Unmarshal(text)
	}
	if unsupported(err) {
		return
	}
	if err != nil {
		s.problem("capabilities", "cpu models", err)
		return
	}
	if caps.CPU == nil {
		return
	}
	for _, mode := range caps.CPU.Modes {
		for _, m := range mode.Models {
			if mode.Name == "custom" && m.Usable != "no" {
				s.inv.CPUModels = append(s.inv.CPUModels, m.Name)
			}
		}
	}
}

func tidy(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

func (s *survey) pools(ctx context.Context) {
	pools, err := read(ctx, &s.lane, func(lv *golibvirt.Libvirt) ([]golibvirt.StoragePool, error) {
		pools, _, err := lv.ConnectListAllStoragePools(1, 0)
		return pools, err
	})
	if unsupported(err) {
		return
	}
	if err != nil {
		s.problem("storage", "", err)
		return
	}
	slices.SortFunc(pools, func(a, b golibvirt.StoragePool) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range pools {
		st, err := s.pool(ctx, p)
		if err != nil {
			s.problem("storage", p.Name, err)
			continue
		}
		s.inv.Storages = append(s.inv.Storages, st)
	}
}

func (s *survey) pool(ctx context.Context, p golibvirt.StoragePool) (hypervisor.Storage, error) {
	st := hypervisor.Storage{Name: p.Name}
	state, err := read(ctx, &s.lane, func(lv *golibvirt.Libvirt) (state uint8, err error) {
		state, st.CapacityBytes, _, st.AvailableBytes, err = lv.StoragePoolGetInfo(p)
		return state, err
	})
	if err != nil {
		return st, err
	}
	if golibvirt.StoragePoolState(state) != golibvirt.StoragePoolRunning {
		return st, errors.New("the storage pool is not running; start it with virsh pool-start")
	}
	text, err := read(ctx, &s.lane, func(lv *golibvirt.Libvirt) (string, error) { return lv.StoragePoolGetXMLDesc(p, 0) })
	if err != nil {
		return st, err
	}
	var x libvirtxml.StoragePool
	if err := x.Unmarshal(text); err != nil {
		return st, fmt.Errorf("read its definition: %w", err)
	}
	st.Kind = x.Type
	if x.Target != nil {
		st.Path = x.Target.Path
	}
	st.Source = poolSource(x)
	switch st.Kind {
	case "netfs", "rbd", "gluster", "iscsi", "iscsi-direct", "sheepdog":
		st.Shared = true
	default:
		st.Shared = slices.ContainsFunc(s.d.opts.SharedDirs, func(dir string) bool { return within(st.Path, dir) })
	}
	return st, nil
}

// poolSource names the server and what is on it, the same on every host.
func poolSource(x libvirtxml.StoragePool) string {
	if x.Source == nil {
		return ""
	}
	var hosts []string
	for _, h := range x.Source.Host {
		hosts = append(hosts, h.Name)
	}
	where := x.Source.Name
	switch {
	case x.Source.Dir != nil:
		where = x.Source.Dir.Path
	case len(x.Source.Device) > 0 && where == "":
		where = x.Source.Device[0].Path
	}
	if len(hosts) == 0 {
		return where
	}
	return strings.Join(hosts, ",") + ":" + where
}

// within reports whether path is dir or below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(filepath.Clean(dir), path)
	return err == nil && path != "" && rel != ".." && !strings.HasPrefix(rel, "../")
}

// sharedDir looks at a declared directory on this machine, which is the
// hypervisor's (S11). Looking may hang forever when its server is gone.
func (s *survey) sharedDir(ctx context.Context, dir string) {
	type found struct {
		fs  unix.Statfs_t
		err error
	}
	if _, busy := s.d.looking.LoadOrStore(dir, true); busy { // one stuck goroutine is enough
		s.problem("storage", dir, errors.New("the shared directory still does not answer"))
		return
	}
	got := make(chan found, 1)
	go func() {
		defer s.d.looking.Delete(dir)
		var f found
		info, err := os.Stat(dir)
		switch {
		case err != nil:
			f.err = err
		case !info.IsDir():
			f.err = errors.New("it is not a directory")
		default:
			f.err = unix.Statfs(dir, &f.fs)
		}
		got <- f
	}()
	late := time.NewTimer(s.d.opts.CallTimeout)
	defer late.Stop()
	var f found
	select {
	case f = <-got:
	case <-late.C:
		f.err = fmt.Errorf("the shared directory does not answer within %v", s.d.opts.CallTimeout)
	case <-ctx.Done():
		f.err = context.Cause(ctx)
	}
	if f.err != nil {
		s.problem("storage", dir, f.err)
		return
	}
	s.inv.Storages = append(s.inv.Storages, hypervisor.Storage{
		Name: dir, Kind: "shared-dir", Path: filepath.Clean(dir), Shared: true,
		CapacityBytes: f.fs.Blocks * uint64(f.fs.Bsize), AvailableBytes: f.fs.Bavail * uint64(f.fs.Bsize),
	})
}

func (s *survey) networks(ctx context.Context) {
	list := func(filter golibvirt.ConnectListAllNetworksFlags) ([]golibvirt.Network, error) {
		return read(ctx, &s.lane, func(lv *golibvirt.Libvirt) ([]golibvirt.Network, error) {
			nets, _, err := lv.ConnectListAllNetworks(1, filter)
			return nets, err
		})
	}
	active, err := list(golibvirt.ConnectListNetworksActive)
	if unsupported(err) {
		return
	}
	if err != nil {
		s.problem("network", "", err)
		return
	}
	for _, n := range active {
		s.inv.Networks = append(s.inv.Networks, hypervisor.Network{Name: n.Name, Kind: hypervisor.NetworkVirtual})
	}
	// One that nobody wants to run is no problem; one with autostart is.
	down, err := list(golibvirt.ConnectListNetworksInactive | golibvirt.ConnectListNetworksAutostart)
	if err != nil {
		s.problem("network", "", err)
	}
	for _, n := range down {
		s.problem("network", n.Name, errors.New("the network is not active though it has autostart; start it with virsh net-start"))
	}
}

// bridges asks libvirt, whose interface driver is often not installed, and
// then the kernel of this machine, which is the hypervisor's (S11).
func (s *survey) bridges(ctx context.Context) {
	names, err := s.libvirtBridges(ctx)
	if unsupported(err) {
		names, err = kernelBridges("/sys/class/net")
	}
	if err != nil {
		s.problem("network", "bridges", err)
	}
	for _, n := range names {
		s.inv.Networks = append(s.inv.Networks, hypervisor.Network{Name: n, Kind: hypervisor.NetworkBridge})
	}
}

func (s *survey) libvirtBridges(ctx context.Context) ([]string, error) {
	ifaces, err := read(ctx, &s.lane, func(lv *golibvirt.Libvirt) ([]golibvirt.Interface, error) {
		ifaces, _, err := lv.ConnectListAllInterfaces(1, golibvirt.ConnectListInterfacesActive)
		return ifaces, err
	})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, i := range ifaces {
		text, err := read(ctx, &s.lane, func(lv *golibvirt.Libvirt) (string, error) { return lv.InterfaceGetXMLDesc(i, 0) })
		var x libvirtxml.Interface
		if err == nil {
			err = x.Unmarshal(text)
		}
		if err != nil {
			s.problem("network", i.Name, err)
		} else if x.Bridge != nil {
			names = append(names, i.Name)
		}
	}
	return tidy(names), nil
}

func kernelBridges(dir string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*", "bridge"))
	var names []string
	for _, p := range paths {
		names = append(names, filepath.Base(filepath.Dir(p)))
	}
	return tidy(names), err
}

// definitions reads every definition, only to say which one cannot be read.
func (s *survey) definitions(ctx context.Context) {
	doms, err := read(ctx, &s.lane, func(lv *golibvirt.Libvirt) ([]golibvirt.Domain, error) {
		doms, _, err := lv.ConnectListAllDomains(1, 0)
		return doms, err
	})
	if err != nil {
		s.problem("domain", "", err)
		return
	}
	for _, dom := range doms {
		if ctx.Err() != nil {
			s.problem("domain", "", fmt.Errorf("not all definitions were read: %w", context.Cause(ctx)))
			return
		}
		text, err := read(ctx, &s.lane, func(lv *golibvirt.Libvirt) (string, error) {
			return lv.DomainGetXMLDesc(dom, golibvirt.DomainXMLInactive)
		})
		if err == nil {
			_, err = domxml.Parse([]byte(text))
		}
		if err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
			s.problem("domain", dom.Name, err)
		}
	}
}
