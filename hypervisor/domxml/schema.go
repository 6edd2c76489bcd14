package domxml

import "encoding/xml"

// The part of libvirt's domain schema that is read.

type domain struct {
	XMLName  xml.Name `xml:"domain"`
	Type     string   `xml:"type,attr"`
	Name     string   `xml:"name"`
	UUID     string   `xml:"uuid"`
	Metadata struct {
		Protect []Protect `xml:"https://lifeboat.dev/xmlns/1 protect"`
	} `xml:"metadata"`
	Memory  scaled  `xml:"memory"`
	VCPU    vcpu    `xml:"vcpu"`
	OS      osboot  `xml:"os"`
	CPU     cpu     `xml:"cpu"`
	Devices devices `xml:"devices"`
}

type scaled struct {
	Unit  string `xml:"unit,attr"`
	Value string `xml:",chardata"`
}

type vcpu struct {
	Current string `xml:"current,attr"`
	Value   string `xml:",chardata"`
}

type osboot struct {
	Firmware string `xml:"firmware,attr"`
	Type     struct {
		Arch    string `xml:"arch,attr"`
		Machine string `xml:"machine,attr"`
	} `xml:"type"`
	Loader *struct {
		Type      string `xml:"type,attr"`
		Stateless string `xml:"stateless,attr"`
	} `xml:"loader"`
	NVRAM *struct {
		Type   string  `xml:"type,attr"`
		Source *source `xml:"source"`
		Path   string  `xml:",chardata"`
	} `xml:"nvram"`
	Kernel string `xml:"kernel"`
	Initrd string `xml:"initrd"`
	DTB    string `xml:"dtb"`
}

type cpu struct {
	Mode  string `xml:"mode,attr"`
	Model string `xml:"model"`
}

type devices struct {
	Emulator    string       `xml:"emulator"`
	Disks       []disk       `xml:"disk"`
	Filesystems []filesystem `xml:"filesystem"`
	Interfaces  []iface      `xml:"interface"`
	Hostdevs    []struct {
		Type string `xml:"type,attr"`
		Mode string `xml:"mode,attr"`
	} `xml:"hostdev"`
	TPMs []struct {
		Backend struct {
			Type string `xml:"type,attr"`
		} `xml:"backend"`
	} `xml:"tpm"`
	Inputs []struct {
		Type string `xml:"type,attr"`
	} `xml:"input"`
	Smartcards []struct {
		Mode string `xml:"mode,attr"`
	} `xml:"smartcard"`
	Shmems []struct {
		Name string `xml:"name,attr"`
	} `xml:"shmem"`
	Memories []struct {
		Source struct {
			Path string `xml:"path"`
		} `xml:"source"`
	} `xml:"memory"`
	Serials   []chardev `xml:"serial"`
	Parallels []chardev `xml:"parallel"`
	Consoles  []chardev `xml:"console"`
	Channels  []chardev `xml:"channel"`
}

type chardev struct {
	Type   string `xml:"type,attr"`
	Source struct {
		Path string `xml:"path,attr"`
	} `xml:"source"`
}

type disk struct {
	Type         string    `xml:"type,attr"`
	Device       string    `xml:"device,attr"`
	Source       *source   `xml:"source"`
	BackingStore *backing  `xml:"backingStore"`
	Mirror       *backing  `xml:"mirror"` // what a running copy job writes as well
	ReadOnly     *struct{} `xml:"readonly"`
	Shareable    *struct{} `xml:"shareable"`
	Target       struct {
		Dev string `xml:"dev,attr"`
	} `xml:"target"`
}

type backing struct {
	Type         string   `xml:"type,attr"`
	Source       *source  `xml:"source"`
	BackingStore *backing `xml:"backingStore"`
}

type source struct {
	File          string `xml:"file,attr"`
	Dev           string `xml:"dev,attr"`
	Dir           string `xml:"dir,attr"`
	Pool          string `xml:"pool,attr"`
	Volume        string `xml:"volume,attr"`
	Protocol      string `xml:"protocol,attr"`
	Name          string `xml:"name,attr"`
	StartupPolicy string `xml:"startupPolicy,attr"`
	Hosts         []struct {
		Name      string `xml:"name,attr"`
		Port      string `xml:"port,attr"`
		Transport string `xml:"transport,attr"`
	} `xml:"host"`
}

type filesystem struct {
	Type     string    `xml:"type,attr"`
	ReadOnly *struct{} `xml:"readonly"`
	Source   struct {
		Dir    string `xml:"dir,attr"`
		File   string `xml:"file,attr"`
		Dev    string `xml:"dev,attr"`
		Name   string `xml:"name,attr"`
		Pool   string `xml:"pool,attr"`
		Volume string `xml:"volume,attr"`
	} `xml:"source"`
	Target struct {
		Dir string `xml:"dir,attr"`
	} `xml:"target"`
}

type iface struct {
	Type   string `xml:"type,attr"`
	Source struct {
		Network string `xml:"network,attr"`
		Bridge  string `xml:"bridge,attr"`
		Dev     string `xml:"dev,attr"`
	} `xml:"source"`
}
