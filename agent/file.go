package agent

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"lifeboat/transport"
)

// Values of File.Watchdog.Kind.
const (
	WatchdogNone     = "none"
	WatchdogHardware = "hardware"
	WatchdogExternal = "external"
	WatchdogSoft     = "soft"
)

// File is the configuration file of "lifeboat agent".
type File struct {
	HostID     string   `yaml:"host_id"`
	Managers   []string `yaml:"managers"` // host:port
	Cert       string   `yaml:"cert"`
	Key        string   `yaml:"key"`
	CA         string   `yaml:"ca"`
	Hypervisor string   `yaml:"hypervisor"`  // qemu:///system, test:///default, mem:
	SharedDirs []string `yaml:"shared_dirs"` // hold the same files on every host that declares them
	// MigrateURI is where other hosts' libvirt reaches this one for live migration;
	// empty: qemu+tls to the machine's own name. MigrateUnsafe lets VMs migrate
	// although libvirt does not see that their disks are shared.
	MigrateURI    string `yaml:"migrate_uri"`
	MigrateUnsafe bool   `yaml:"migrate_unsafe"`
	// HeartbeatDirs are shared directories, at the same path on every host, in
	// which this agent shows that its host lives when no network reaches it.
	HeartbeatDirs []string          `yaml:"heartbeat_dirs"`
	StateDir      string            `yaml:"state_dir"`
	RunDir        string            `yaml:"run_dir"`
	BootIDFile    string            `yaml:"boot_id_file"`
	Labels        map[string]string `yaml:"labels"`
	ProbeAddrs    []string          `yaml:"probe_addrs"`
	Node          string            `yaml:"node"` // the management node on this machine

	MachineIDFile  string `yaml:"machine_id_file"`
	HardwareIDFile string `yaml:"hardware_id_file"` // the system UUID; empty: DMI's, where machine_id_file is the default

	Watchdog WatchdogFile `yaml:"watchdog"`
	Log      LogFile      `yaml:"log"`
}

// WatchdogFile is the section watchdog.
type WatchdogFile struct {
	Kind string `yaml:"kind"`
	// Device is the device of a hardware watchdog, or the socket of an external
	// one that somebody else runs.
	Device  string   `yaml:"device"`
	Bound   Duration `yaml:"bound"`
	Command []string `yaml:"command"` // resets the machine, for kind external; empty: sysrq
}

// Duration is a time.Duration, written as 10s.
type Duration time.Duration

func (d Duration) String() string { return time.Duration(d).String() }

// UnmarshalYAML takes a duration with its unit.
func (d *Duration) UnmarshalYAML(n ast.Node) error {
	v, err := time.ParseDuration(n.GetToken().Value)
	if err != nil {
		return &yaml.SyntaxError{Message: fmt.Sprintf("%.60q is no duration: write one with its unit, such as 10s", n.GetToken().Value), Token: n.GetToken()}
	}
	*d = Duration(v)
	return nil
}

// LogFile is the section log.
type LogFile struct {
	Level  string `yaml:"level"`  // trace, debug, info, warn, error
	Format string `yaml:"format"` // text, json
}

// Files are the paths of the credentials.
func (f File) Files() transport.Files { return transport.Files{Cert: f.Cert, Key: f.Key, CA: f.CA} }

// maxFileSize bounds the configuration file, in bytes.
const maxFileSize = 1 << 20

// LoadConfig reads and checks the file. An error is one line that names the
// file, the line, what is wrong and what to do. Relative paths are relative to
// the file.
func LoadConfig(name string) (File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return File{}, fmt.Errorf("read agent configuration: %w", err)
	}
	if info.Size() > maxFileSize {
		return File{}, fmt.Errorf("read agent configuration: %s has %d bytes; is it the right file?", name, info.Size())
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return File{}, fmt.Errorf("read agent configuration: %w", err)
	}
	f, err := parseFile(name, b)
	if err != nil {
		return File{}, err
	}
	f.locate(filepath.Dir(name))
	return f, nil
}

func parseFile(name string, b []byte) (File, error) {
	f, err := decodeFile(name, b, yaml.Strict())
	if err != nil {
		return File{}, err
	}
	if list := f.Problems(); len(list) > 0 {
		return File{}, fmt.Errorf("%s: %s %s", position(name, b, list[0].Key), list[0].Key, list[0].Text)
	}
	return f, nil
}

// ParseConfig decodes what a configuration file holds and fills in the defaults;
// [File.Problems] checks it. Relative paths become relative to the file's
// directory.
func ParseConfig(name string, b []byte, opts ...yaml.DecodeOption) (File, error) {
	f, err := decodeFile(name, b, opts...)
	if err != nil {
		return File{}, err
	}
	f.locate(filepath.Dir(name))
	return f, nil
}

func decodeFile(name string, b []byte, opts ...yaml.DecodeOption) (File, error) {
	f := File{
		Hypervisor: "qemu:///system", StateDir: DefaultStateDir, RunDir: DefaultRunDir,
		BootIDFile: DefaultBootIDFile, MachineIDFile: DefaultMachineIDFile,
		Watchdog: WatchdogFile{Kind: WatchdogNone, Bound: Duration(defaultBound)},
		Log:      LogFile{Level: "info", Format: "text"},
	}
	if err := yaml.NewDecoder(bytes.NewReader(b), opts...).Decode(&f); err != nil {
		return File{}, explainYAML(name, err)
	}
	return f, nil
}

// explainYAML makes one line of an error of the parser.
func explainYAML(name string, err error) error {
	var ye yaml.Error
	if !errors.As(err, &ye) || ye.GetToken() == nil {
		return fmt.Errorf("%s: it is not a configuration of the agent: %w", name, err)
	}
	token := ye.GetToken()
	at := fmt.Sprintf("%s:%d", name, token.Position.Line)
	var unknown *yaml.UnknownFieldError
	var duplicate *yaml.DuplicateKeyError
	var kind *yaml.TypeError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%s: %.60q is no key here: remove it, or correct its spelling or indentation", at, token.Value)
	case errors.As(err, &duplicate):
		return fmt.Errorf("%s: %.60q is there twice: remove one", at, token.Value)
	case errors.As(err, &kind):
		return fmt.Errorf("%s: %.60q is not the kind of value that belongs here: write %s", at, token.Value, wanted(kind))
	}
	return fmt.Errorf("%s: %s", at, strings.ReplaceAll(ye.GetMessage(), "\n", " "))
}

func wanted(e *yaml.TypeError) string {
	switch {
	case e.DstType == nil:
		return "another one"
	}
	switch e.DstType.Kind().String() {
	case "slice":
		return "a list"
	case "string":
		return "a text"
	case "struct", "map":
		return "keys and values, indented"
	}
	return "a " + e.DstType.String()
}

// position names the line of a key, or just the file when it is not there.
func position(name string, b []byte, key string) string {
	path, err := yaml.PathString("$." + key)
	if err != nil {
		return name
	}
	node, err := path.ReadNode(bytes.NewReader(b))
	if err != nil || node == nil || node.GetToken() == nil {
		return name
	}
	return fmt.Sprintf("%s:%d", name, node.GetToken().Position.Line)
}

func hostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	return err == nil && host != "" && port != ""
}

// locate makes relative paths relative to the file's directory.
func (f *File) locate(dir string) {
	for _, p := range []*string{&f.Cert, &f.Key, &f.CA, &f.StateDir, &f.RunDir, &f.BootIDFile, &f.MachineIDFile, &f.HardwareIDFile, &f.Watchdog.Device} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}
