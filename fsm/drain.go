package fsm

// Drain is the emptying of a host, for its maintenance or because its operating
// system goes down.
type Drain struct {
	Since int64  // unix ns
	Total uint32 // VMs that were to be moved
	// Force: what cannot be migrated live is stopped, and started elsewhere.
	Force bool
	By    string
	Begun EventID // the event that began it; 0 = one of before level 4
}

// GoingDown is what a host's operating system is about.
type GoingDown uint8

const (
	StaysUp   GoingDown = iota
	ShutsDown           // for good
	Reboots             // and comes back
)

func (g GoingDown) String() string { return name(int(g), "", "shutting down", "rebooting") }

// Holding is what becomes of the VMs of a host that goes down.
type Holding uint8

const (
	HeldNot     Holding = iota
	HeldFreeze          // they wait for it
	HeldRecover         // they start elsewhere once they are off
	HeldMigrate         // they are moved away first
)

func (h Holding) String() string { return name(int(h), "", "freeze", "failover", "migrate") }

// Words of the policy shutdown_policy.
const (
	ShutdownConditional = "conditional"
	ShutdownFreeze      = "freeze"
	ShutdownFailover    = "failover"
	ShutdownMigrate     = "migrate"
)

// holding is what the policy says about a host that goes down.
func (p *Policy) holding(g GoingDown) Holding {
	switch p.ShutdownPolicy {
	case ShutdownFreeze:
		return HeldFreeze
	case ShutdownFailover:
		return HeldRecover
	case ShutdownMigrate:
		return HeldMigrate
	}
	if g == Reboots {
		return HeldFreeze
	}
	return HeldRecover
}

// Frozen reports whether the host's VMs wait until it is back.
func (h *Host) Frozen() bool { return h.Held == HeldFreeze }

// Emptying reports whether VMs are to be moved away from the host.
func (h *Host) Emptying() bool { return h.Drain != nil }

// ToMove counts the protected VMs that are on, or may be.
func (h *Host) ToMove() (n uint32) {
	for i := range h.VMs {
		if h.VMs[i].KeepsFromEmpty() {
			n++
		}
	}
	return n
}

// KeepsFromEmpty reports whether a VM keeps a host that is being emptied from being
// empty.
func (v *VM) KeepsFromEmpty() bool {
	return v.Protected() && (v.Power != PowerOff || v.Work != 0 && v.Wanted)
}

// Staying are the VMs that run on the host and are not protected: nobody moves them away
// when it is emptied.
func (h *Host) Staying() (vms []*VM) {
	for i := range h.VMs {
		if v := &h.VMs[i]; v.Power == PowerOn && !v.Protected() {
			vms = append(vms, v)
		}
	}
	return vms
}

// Unheeding counts the hosts whose agents have not yet acted on HA having been
// disarmed: their leases may still be held. 0 while HA is armed.
func (s *State) Unheeding() (hosts []HostID) {
	if s.Armed {
		return nil
	}
	for id, h := range s.Hosts() {
		if h.owesHeed(s) {
			hosts = append(hosts, id)
		}
	}
	return hosts
}

// owesHeed: a host that cannot act on anything owes nothing.
func (h *Host) owesHeed(s *State) bool {
	return (h.Status == Up || h.Status == Alert || h.Status == Connecting) && h.Heeds < s.ArmedIndex
}

// NewlyHeeds reports whether it is news that a host's agent acts on what it was told
// up to an index: that HA is disarmed and its lease given up (idle), or that a VM comes.
func (s *State) NewlyHeeds(h *Host, have uint64, idle bool) bool {
	return s.Level >= LevelPolicy && (idle && !s.Armed && h.Heeds < s.ArmedIndex && have >= s.ArmedIndex ||
		h.Heeds < h.Expects && have >= h.Expects && (idle || s.Armed))
}
