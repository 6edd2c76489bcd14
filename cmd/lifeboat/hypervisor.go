package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"lifeboat/hypervisor"
	"lifeboat/hypervisor/libvirt"
	"lifeboat/hypervisor/mem"
)

// openHypervisor opens what an agent's hypervisor URI names: libvirt, or for
// "mem:" a hypervisor in memory.
func openHypervisor(host, uri string, o libvirt.Options) (hypervisor.Hypervisor, error) {
	if !strings.HasPrefix(uri, "mem:") {
		return libvirt.Open(uri, o)
	}
	return openMem(host, uri)
}

// openMem is a hypervisor that lives and dies with this process:
//
//	mem:[///DIR[?journal=FILE][&start=1][&guests=stdin]]
//
// Domains defined in DIR/domains/*.xml are there from the start, and run with
// start=1. Every start and stop is appended to the journal. With guests=stdin
// the guests do what lines on stdin say, see [obey].
func openMem(host, uri string) (hypervisor.Hypervisor, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("hypervisor %q is not a valid URI: %w", uri, err)
	}
	opts := mem.Options{Name: host, Storages: []*mem.Storage{
		mem.NewStorage(mem.StorageOptions{Name: "shared", Dir: "/srv/vms", Shared: true}),
		mem.NewStorage(mem.StorageOptions{Name: "local-" + host, Dir: "/var/lib/libvirt/images"}),
	}}
	if path := u.Query().Get("journal"); path != "" {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open journal: %w", err)
		}
		// One write a line, appended: processes share the file. It stays open
		// as long as the process.
		opts.OnEvent = func(e mem.JournalEntry) {
			if line, err := json.Marshal(e); err == nil {
				_, _ = f.Write(append(line, '\n'))
			}
		}
	}
	h := mem.NewHost(opts)
	if u.Path == "" {
		return h, nil
	}
	files, err := filepath.Glob(filepath.Join(u.Path, "domains", "*.xml"))
	if err != nil {
		return nil, fmt.Errorf("read domains: %w", err)
	}
	running := u.Query().Get("start") == "1"
	for _, name := range files {
		xml, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read domain: %w", err)
		}
		if err := h.Define(xml, running); err != nil {
			return nil, fmt.Errorf("define %s: %w", name, err)
		}
	}
	if running { // autostart starts them when the power comes on, as at a boot
		h.PowerOff()
		h.PowerOn()
	}
	if u.Query().Get("guests") == "stdin" {
		go obey(h, os.Stdin)
	}
	return h, nil
}

// obey lets guests do by themselves what each line says: "crash UUID" or
// "shutdown UUID". What cannot be read or done is passed over. It ends with in.
func obey(h *mem.Host, in io.Reader) {
	for lines := bufio.NewScanner(in); lines.Scan(); {
		verb, name, _ := strings.Cut(lines.Text(), " ")
		id, err := hypervisor.ParseUUID(name)
		if err != nil {
			continue
		}
		switch verb {
		case "crash":
			_ = h.Crash(id)
		case "shutdown":
			_ = h.GuestShutdown(id)
		}
	}
}
