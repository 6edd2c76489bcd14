package fence

import (
	"context"
	"fmt"
)

// PowerState is what a power controller reads of its machine.
type PowerState string

const (
	// Unknown is every answer that is neither plainly on nor plainly off, such
	// as "powering off". It is never taken for off.
	Unknown PowerState = "unknown"
	On      PowerState = "on"
	Off     PowerState = "off"
)

// Driver is one power controller. Every method blocks until the controller has
// answered or ctx has ended, in which case it leaves no child process and no
// connection behind. Errors wrap a Reason. A Driver may be used by several
// goroutines, but most controllers dislike that.
type Driver interface {
	// Endpoint names the driver and the controller; it does not block.
	Endpoint() Endpoint
	// Identity tells which machine the controller controls: its system UUID
	// (GUID) or serial number, see SameIdentity.
	Identity(ctx context.Context) (string, error)
	// Power reads the power state of the machine.
	Power(ctx context.Context) (PowerState, error)
	// Off asks for power off at once, without the guest's consent. Neither nil
	// nor an error says anything about the power state afterwards.
	Off(ctx context.Context) error
	// On asks for power on, with the same reservation.
	On(ctx context.Context) error
}

// Endpoint says who is talked to, for proofs, errors and logs.
type Endpoint struct {
	Driver  string `json:"driver"`  // "ipmi", "redfish", "fence-agent"
	Address string `json:"address"` // as configured
}

func (e Endpoint) String() string {
	if e.Address == "" {
		return fmt.Sprintf("the power controller (%s)", e.Driver)
	}
	return fmt.Sprintf("the power controller at %s (%s)", e.Address, e.Driver)
}

// Target is the configuration of one power controller.
type Target struct {
	Driver   string            `json:"driver"`
	Address  string            `json:"address,omitempty"` // host, host:port or what the driver documents
	User     string            `json:"user,omitempty"`
	Password Secret            `json:"password,omitzero"`
	Options  map[string]string `json:"options,omitempty"` // the driver's Kind lists what it knows
}

// Endpoint names the target without its secrets.
func (t Target) Endpoint() Endpoint { return Endpoint{Driver: t.Driver, Address: t.Address} }

// Option returns an option's value, or fallback when it is not set.
func (t Target) Option(name, fallback string) string {
	if v, ok := t.Options[name]; ok && v != "" {
		return v
	}
	return fallback
}
