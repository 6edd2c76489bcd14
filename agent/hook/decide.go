package hook

import (
	"fmt"
	"slices"

	"lifeboat/agent/session"
	"lifeboat/hypervisor"
)

// State is what the files of the agent say, and where and when they are read.
type State struct {
	Ledger    session.Ledger
	LedgerErr error // missing or damaged
	Held      session.Held
	HeldErr   error // missing or damaged
	Boot      string
	Now       session.Instant
	// Incoming: libvirt has announced the domain as an incoming migration.
	Incoming bool
}

// Decide returns nil when libvirt may go on with the operation, and else why
// not, as a sentence.
func Decide(op string, id hypervisor.UUID, s State) error {
	if !guarded(op) {
		return nil
	}
	if s.LedgerErr != nil {
		return fmt.Errorf("the agent's ledger cannot be read, so nobody knows whether this VM runs elsewhere: %w", s.LedgerErr)
	}
	e, held := s.Ledger.VMs[id]
	protected := slices.ContainsFunc(s.Ledger.Protected, func(p session.Protected) bool { return p.ID == id })
	if !held && !protected {
		return nil
	}
	if s.Ledger.Boot != s.Boot || !s.Ledger.Synced {
		return fmt.Errorf("the agent has not heard from the managers since this machine booted, so this protected VM may run elsewhere: wait for it, or look with lifeboat vm list")
	}
	if err := s.lease(); err != nil {
		return err
	}
	barred := max(e.Refusing, e.Refused, e.Failed)
	if held && barred > 0 && e.Incarnation <= barred && !s.incoming(op) {
		return fmt.Errorf("this host has given the VM up (incarnation %d), it is started elsewhere: look with lifeboat vm list", barred)
	}
	return nil
}

// guarded: after these operations a guest can run here.
func guarded(op string) bool {
	return slices.Contains([]string{"prepare", "start", "restore", "migrate"}, op)
}

// incoming: a migration brings a copy that stops where it was; the managers
// adopt it (S6).
func (s State) incoming(op string) bool { return op == "migrate" || s.Incoming && op != "restore" }

// lease: where a lease is armed in this boot, it must be valid.
func (s State) lease() error {
	mark := s.Ledger.Lease.Armed && s.Ledger.Lease.Boot == s.Boot
	switch {
	case s.HeldErr != nil && mark:
		return fmt.Errorf("a lease is armed on this host and its file cannot be read, so this protected VM may be started elsewhere: start the agent: %w", s.HeldErr)
	case s.HeldErr != nil:
		return nil
	case s.Held.Boot == s.Boot && !s.Held.Valid(s.Boot, s.Now):
		return fmt.Errorf("the lease of this host has run out, so this protected VM may be started elsewhere: look why the agent does not reach the managers")
	case s.Held.Boot != s.Boot && mark:
		return fmt.Errorf("a lease is armed on this host and is not held, so this protected VM may be started elsewhere: start the agent")
	}
	return nil
}
