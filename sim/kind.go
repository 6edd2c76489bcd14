package sim

import (
	"bytes"
	"fmt"
	"strings"

	"lifeboat/agent/session"
	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/hypervisor"
	"lifeboat/hypervisor/domxml"
)

// kind is what the definitions of many VMs have in common: all but name, UUID
// and disk. To write or to read a million of them one by one takes minutes.
type kind struct {
	parts [][]byte // of the text, around what differs
	spec  map[bool]*lifeboatv1.VMSpec
}

type kindKey struct {
	cpus    int
	memory  uint64
	local   bool
	version int
}

// What stands in a kind for what differs.
const (
	anyName = "any-name-at-all"
	anyUUID = "00000000-1111-4222-8333-444444444444"
)

func (w *World) kindOf(g *guest) *kind {
	key := kindKey{g.spec.CPUs, g.spec.Memory, g.spec.Local, g.version}
	k := w.kinds[key]
	if k == nil {
		k = &kind{spec: map[bool]*lifeboatv1.VMSpec{}}
		w.kinds[key] = k
		of := *g
		of.name = anyName
		id, _ := hypervisor.ParseUUID(anyUUID)
		xml, err := domxml.Template{Type: "kvm", Name: anyName, UUID: id, VCPUs: g.spec.CPUs, MemoryBytes: g.spec.Memory,
			Disk: of.disk(), Network: "default"}.Render()
		if err != nil {
			return k // read as a definition that is broken
		}
		if g.version > 0 {
			xml = fmt.Appendf(xml, "<!-- version %d -->\n", g.version)
		}
		for len(xml) > 0 {
			n, u := bytes.Index(xml, []byte(anyName)), bytes.Index(xml, []byte(anyUUID))
			switch {
			case n < 0 && u < 0:
				k.parts = append(k.parts, xml)
				xml = nil
			case u < 0 || n >= 0 && n < u:
				k.parts = append(k.parts, xml[:n], nil)
				xml = xml[n+len(anyName):]
			default:
				k.parts = append(k.parts, xml[:u], []byte{})
				xml = xml[u+len(anyUUID):]
			}
		}
	}
	return k
}

// fill writes the definition of one VM.
func (k *kind) fill(g *guest) []byte {
	if k.parts == nil {
		return nil
	}
	size, id := 0, g.id.String()
	for _, p := range k.parts {
		size += max(len(p), len(g.name), len(id))
	}
	out := make([]byte, 0, size)
	for i, p := range k.parts {
		switch {
		case i%2 == 0:
			out = append(out, p...)
		case p == nil:
			out = append(out, g.name...)
		default:
			out = append(out, id...)
		}
	}
	return out
}

// specOf is what an agent says of a VM: in a large world read out of the
// definition of its kind.
func (h *host) specOf(d *domain) *lifeboatv1.VMSpec {
	def := hypervisor.NewDefinition(d.g.id, d.definition(), true)
	storages := h.agent.sess.Storages()
	if d.xml != nil || h.w.small() {
		return session.Spec(def, storages)
	}
	k := d.kind
	base := k.spec[len(storages) > 0]
	if base == nil {
		of := *d.g
		of.name = anyName
		base = session.Spec(hypervisor.NewDefinition(d.g.id, k.fill(&of), true), storages)
		k.spec[len(storages) > 0] = base
	}
	s := &lifeboatv1.VMSpec{Id: def.UUID[:], Name: d.g.name, Hash: def.Hash[:], Definition: def.XML, Cpus: base.Cpus, MemoryBytes: base.MemoryBytes,
		Machine: base.Machine, Arch: base.Arch, CpuModel: base.CpuModel, Networks: base.Networks, Problem: base.Problem, Protect: base.Protect}
	for _, x := range base.Local {
		s.Local = append(s.Local, strings.ReplaceAll(x, anyName, d.g.name))
	}
	for _, x := range base.Disks {
		s.Disks = append(s.Disks, &lifeboatv1.Disk{Path: strings.ReplaceAll(x.Path, anyName, d.g.name), Storage: x.Storage, Readonly: x.Readonly,
			Shareable: x.Shareable, Network: x.Network})
	}
	return s
}
