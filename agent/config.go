package agent

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"

	"lifeboat/agent/session"
	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fence"
	"lifeboat/hypervisor"
)

// FeatureLevel is what this build understands of orders.
const FeatureLevel = 2

// Where Linux and the packages keep things.
const (
	DefaultStateDir      = "/var/lib/lifeboat/agent"
	DefaultRunDir        = "/run/lifeboat/agent"
	DefaultBootIDFile    = "/proc/sys/kernel/random/boot_id"
	DefaultMachineIDFile = "/etc/machine-id"
	// DefaultHardwareIDFile is read only where the machine id is the real one too:
	// hosts that share a kernel share what its firmware says.
	DefaultHardwareIDFile = "/sys/class/dmi/id/product_uuid"
)

// Config is what [Run] needs. Fields that say so may be left out.
type Config struct {
	HostID     string
	Version    string
	NodeID     string   // the management node that shares this machine, if any
	Managers   []string // host:port; the managers name the others
	ProbeAddrs []string // where peers see that this host lives
	Labels     []*lifeboatv1.Label
	// HeartbeatDirs are shared directories, at the same path on every host, into
	// which the agent writes signs of life.
	HeartbeatDirs []string

	// Hypervisor is not closed by Run.
	Hypervisor hypervisor.Hypervisor
	// Connect gives the client for the manager at an address. It is called
	// once for an address and must not block.
	Connect func(addr string) lifeboatv1connect.AgentServiceClient

	// Renew keeps this host's certificate from expiring until ctx ends. It asks the
	// manager at the address that manager returns, empty when none answers. Nil:
	// somebody else does.
	Renew func(ctx context.Context, manager func() string)

	StateDir      string // empty: DefaultStateDir
	RunDir        string // empty: DefaultRunDir
	BootIDFile    string // empty: DefaultBootIDFile
	MachineIDFile string // empty: DefaultMachineIDFile
	// HardwareIDFile holds the machine's system UUID. Empty: DefaultHardwareIDFile
	// where MachineIDFile is the default, else none.
	HardwareIDFile string
	// Fences are the power controllers this agent can use for other hosts; empty:
	// none.
	Fences fence.Registry

	Watchdog Watchdog      // nil: none
	Bound    time.Duration // the watchdog bites this long after the last pet; 0: 5 s, the default of the policy watchdog_bound

	// Supervisor is told how the agent fares. Nil: nobody wants to know.
	Supervisor Supervisor

	Logger hclog.Logger // nil: silent

	PollEvery      time.Duration // 0: 1 s
	InventoryEvery time.Duration // 0: 60 s
	StopTimeout    time.Duration // how long a clean stop may take; 0: 30 s

	// Clock is the time since the machine booted, in suspend too. Nil:
	// CLOCK_BOOTTIME. Tests in virtual time give one that follows time.Now.
	Clock func() session.Instant
	// Guests reports whether libvirt-guests is enabled (S8). Nil: systemd's
	// links say.
	Guests func() bool
	// MachineStopping is asked once, when the agent is told to stop: does the
	// whole machine? Nil: systemd is asked.
	MachineStopping func(context.Context) bool
	// Rebooting is asked after that: does it come back?
	Rebooting func(context.Context) bool
	Seed      uint64 // of the jitter; 0: random

	die <-chan struct{} // tests: ends the process as a SIGKILL would
}

const defaultBound = 5 * time.Second

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.HostID == "":
		return c, errors.New("the agent has no host id: set host_id")
	case len(c.Managers) == 0:
		return c, errors.New("the agent knows no management node: name at least one in managers")
	case c.Hypervisor == nil || c.Connect == nil:
		return c, errors.New("start agent: it needs a hypervisor and a way to reach managers")
	}
	or := func(s *string, def string) {
		if *s == "" {
			*s = def
		}
	}
	or(&c.StateDir, DefaultStateDir)
	or(&c.RunDir, DefaultRunDir)
	or(&c.BootIDFile, DefaultBootIDFile)
	or(&c.MachineIDFile, DefaultMachineIDFile)
	if c.MachineIDFile == DefaultMachineIDFile {
		or(&c.HardwareIDFile, DefaultHardwareIDFile)
	}
	if c.Bound <= 0 {
		c.Bound = defaultBound
	}
	if c.Watchdog == nil {
		c.Watchdog = noWatchdog{}
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Clock == nil {
		c.Clock = Boottime
	}
	if c.Guests == nil {
		c.Guests = func() bool { return guestsEnabled("/") }
	}
	if c.MachineStopping == nil {
		c.MachineStopping, c.Rebooting = machineStopping, rebooting
	}
	return c, nil
}
