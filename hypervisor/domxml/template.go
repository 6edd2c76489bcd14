package domxml

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
	"text/template"

	"lifeboat/hypervisor"
)

// Template describes a plausible domain for tests and for "lifeboat dev".
type Template struct {
	Type        string // "qemu" (the default: runs anywhere), "kvm", "test"
	Name        string
	UUID        hypervisor.UUID
	VCPUs       int    // 0: 1
	MemoryBytes uint64 // 0: 1 MiB, enough for SeaBIOS to run
	Disk        string // path of a raw disk; empty: none
	Network     string // libvirt network; empty: none
	Protect     string // ha value of lifeboat's element; empty: no element
}

const templateText = `<domain type='{{.Type | x}}'>
  <name>{{.Name | x}}</name>
  <uuid>{{.UUID}}</uuid>
{{- if .Protect}}
  <metadata>
    <lifeboat:protect xmlns:lifeboat="{{ns}}" ha="{{.Protect | x}}"/>
  </metadata>
{{- end}}
  <memory unit='b'>{{.MemoryBytes}}</memory>
  <vcpu>{{.VCPUs}}</vcpu>
  <os><type arch='x86_64'{{if ne .Type "test"}} machine='pc'{{end}}>hvm</type></os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
{{- if .Disk}}
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <source file='{{.Disk | x}}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
{{- end}}
{{- if .Network}}
    <interface type='network'>
      <source network='{{.Network | x}}'/>
      <model type='virtio'/>
    </interface>
{{- end}}
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>
`

// Render returns the definition.
func (t Template) Render() ([]byte, error) {
	if t.Type == "" {
		t.Type = "qemu"
	}
	if t.VCPUs == 0 {
		t.VCPUs = 1
	}
	if t.MemoryBytes == 0 {
		t.MemoryBytes = 1 << 20
	}
	tmpl, err := template.New("domain").Funcs(template.FuncMap{
		"x": escape, "ns": func() string { return Namespace },
	}).Parse(templateText)
	if err != nil {
		return nil, fmt.Errorf("parse domain template: %w", err)
	}
	var b bytes.Buffer
	if err := tmpl.Execute(&b, t); err != nil {
		return nil, fmt.Errorf("render domain %s: %w", t.Name, err)
	}
	return b.Bytes(), nil
}

func escape(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}
