package fsm

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// chooser draws a number in [0, n): rapid, a seeded generator or a fuzzer.
type chooser func(n int) int

func pick[T any](c chooser, from ...T) T { return from[c(len(from))] }

// odds is true once in n.
func (c chooser) odds(n int) bool { return c(n) == 0 }

const (
	randomHosts = 3
	randomVMs   = 4
)

func (c chooser) hostID() HostID {
	if c.odds(30) {
		return "h9" // unknown
	}
	return HostID(fmt.Sprintf("h%d", 1+c(randomHosts)))
}

// epochOf is mostly the current epoch.
func (c chooser) epochOf(s *State, id HostID) uint64 {
	var e uint64
	if h := s.Host(id); h != nil {
		e = h.Epoch
	}
	switch c(12) {
	case 0:
		return e - 1
	case 1:
		return e + 1
	}
	return e
}

func (c chooser) incarnation(v *VM) Incarnation {
	var i Incarnation
	if v != nil {
		i = v.Incarnation
	}
	switch c(10) {
	case 0:
		return 0
	case 1:
		return max(i, 1) - 1
	case 2:
		return i + 1
	case 3:
		if c.odds(10) {
			return ^Incarnation(0)
		}
	}
	return i
}

func (c chooser) said(s *State, host HostID) said {
	n := 1 + c(randomVMs)
	v, owner := s.VM(testVM(n))
	x := said{vm: n, power: Power(c(5)), reason: Reason(c(14))}
	if h := s.Host(host); h != nil && v != nil && c.odds(3) {
		if o := h.order(OrderMigrate, v.ID); o != nil {
			x.order, x.power, x.reason, x.inc = o.ID, PowerOn, ReasonBooted, o.Incarnation
			return x
		}
	}
	if c.odds(3) {
		x.power, x.reason = PowerOn, ReasonBooted
	}
	x.answers = x.power == PowerOn && c.odds(2)
	if c.odds(100) {
		x.power, x.reason = Power(200), Reason(200)
	}
	x.inc = c.incarnation(v)
	if owner != nil && owner.ID != host && !c.odds(3) {
		x.inc = 0
		if !c.odds(4) {
			x.power = PowerOff
		}
	}
	if c.odds(8) {
		x.refused = c.incarnation(v)
		x.power = pick(c, PowerOff, PowerReportMissing, PowerUnknown)
	}
	if h := s.Host(host); h != nil && v != nil && c.odds(2) {
		if o := h.order(OrderDestroy, v.ID); o != nil {
			x.refused, x.power, x.inc = o.Incarnation, PowerOff, 0
		}
	}
	if c.odds(8) {
		x.failed = c.incarnation(v)
		x.power = PowerOff
	}
	return x
}

func (c chooser) entries(s *State, host HostID) []said {
	var out []said
	used := map[int]bool{}
	for range c(4) {
		if x := c.said(s, host); !used[x.vm] {
			used[x.vm] = true
			out = append(out, x)
		}
	}
	return out
}

func (c chooser) hostReport(s *State) *logpb.HostReport {
	id := c.hostID()
	r := &logpb.HostReport{Host: string(id), Epoch: c.epochOf(s, id), Vms: columns(c.entries(s, id)...)}
	if h := s.Host(id); h != nil {
		r.Seq = h.Seq + uint64(c(8))
		if c.odds(8) {
			r.Seq = h.Seq
		}
	}
	if c.odds(6) {
		r.Missing = append(r.Missing, idBytes(1+c(randomVMs))...)
	}
	if c.odds(10) {
		r.Inventory = c.inventory()
	}
	if c.odds(60) { // out of order, truncated
		r.Vms.Ids = append(r.Vms.Ids, idBytes(1)...)
		r.Vms.Power, r.Vms.Reason = append(r.Vms.Power, 1), append(r.Vms.Reason, 1)
		if c.odds(2) {
			r.Vms.Incarnations = append(r.Vms.Incarnations, 1)
		}
	}
	return r
}

func (c chooser) inventory() *logpb.Inventory {
	inv := &logpb.Inventory{Cpus: 8, MemoryBytes: 1 << 30, MigrateUri: pick(c, "", "x", "x")}
	if c.odds(3) {
		inv.Problems = []*logpb.Problem{{Part: pick(c, "storage pool a", "down"), Message: pick(c, "is gone", "is slow")}}
	}
	return inv
}

func (c chooser) registration(s *State) *logpb.HostRegister {
	id := c.hostID()
	boot := "b1"
	if h := s.Host(id); h != nil {
		boot = h.BootID
	}
	if c.odds(4) {
		boot = fmt.Sprintf("b%d", 1+c(4))
	}
	r := registration(id, boot, c.entries(s, id)...)
	r.Session = pick(c, "s1", "s2")
	r.Watchdog = uint32(c(5))
	r.Inventory = c.inventory()
	r.FeatureLevel = uint32(c(LevelMigrates + 1))
	if c.odds(30) {
		r.MachineId = pick(c, "", "another machine")
	}
	return r
}

// setup is how a random story begins: hosts that are up and VMs that are
// protected, so that most commands mean something.
func (c chooser) setup() []proto.Message {
	out := []proto.Message{&logpb.ClusterInit{ClusterId: "c1", FeatureLevel: pick(c, uint32(1), FeatureLevel)}}
	for i := range randomHosts {
		id := HostID(fmt.Sprintf("h%d", i+1))
		var on []said
		for n := 1; n <= randomVMs && i == 0; n++ {
			on = append(on, said{vm: n, power: PowerOn})
		}
		r := registration(id, "b1", on...)
		r.FeatureLevel, r.Inventory.MigrateUri = LevelMigrates, "x"
		out = append(out, r, levels(id))
	}
	specs := &logpb.VMSpecs{Host: "h1", Epoch: 1}
	for n := 1; n <= randomVMs; n++ {
		specs.Specs = append(specs.Specs, spec(n))
	}
	return append(out, specs)
}

// moving draws a command about moves.
func (c chooser) moving(s *State, id HostID, epoch uint64, n int) proto.Message {
	switch c(8) {
	case 0:
		return &logpb.HostDrained{Host: string(id), State: uint32(c(5)), Reason: pick(c, "vm1 is bound", "")}
	case 1:
		return &logpb.HostStopping{Host: string(id), Epoch: epoch, Session: pick(c, "", "s1"), Reboot: c.odds(2)}
	case 2:
		return &logpb.HostHeeds{Host: string(id), Epoch: epoch, Index: s.ArmedIndex + uint64(c(3)) - 1}
	case 3:
		switch c(4) {
		case 0:
			return &logpb.Arm{Ignore: true}
		case 1:
			return &logpb.Arm{Armed: true}
		case 2:
			return &logpb.PolicySet{Settings: []*logpb.Setting{{Key: "shutdown_policy", Value: pick(c, "conditional", "freeze", "failover", "migrate", "x")}}}
		}
		return &logpb.HostControl{Host: string(id), Action: uint32(3 + c(2)), Force: c.odds(2)}
	}
	m := &logpb.VMMove{Vm: idBytes(n), Kind: uint32(1 + c(2)), Target: string(c.hostID()), Cause: uint32(c(17)), Why: "fits"}
	if v, _ := s.VM(testVM(n)); v != nil && !c.odds(4) {
		m.Incarnation = uint64(c.incarnation(v))
	}
	return m
}

// command draws any command, mostly one that means something in s.
func (c chooser) command(s *State) proto.Message {
	id := c.hostID()
	epoch := c.epochOf(s, id)
	h := s.Host(id)
	n := 1 + c(randomVMs)
	v, _ := s.VM(testVM(n))
	work := uint64(c(40))
	if v != nil && v.Work != 0 && !c.odds(5) {
		work = uint64(v.Work)
	}
	if s.Level >= LevelPolicy && c.odds(6) {
		return c.moving(s, id, epoch, n)
	}
	if s.Level >= LevelPolicy && c.odds(12) {
		return randomUsage(c, s)
	}
	switch c(40) {
	case 0, 1, 2, 3, 4, 5, 6, 7:
		out := &logpb.HostReports{}
		for range 1 + c(2) {
			out.Reports = append(out.Reports, c.hostReport(s))
		}
		return out
	case 8, 9, 10:
		return c.registration(s)
	case 11, 12:
		return &logpb.HostSuspect{Host: string(id), Epoch: epoch, Reason: "silent", SilentNs: int64(c(10)-1) * int64(time.Second)}
	case 13:
		return &logpb.HostEvidence{Host: string(id), Epoch: epoch, Evidence: []*logpb.Evidence{{Source: pick(c, "bmc", "peer h2"), Verdict: uint32(c(5)), Detail: "d"}}}
	case 14, 15:
		return &logpb.HostSeen{Host: string(id), Epoch: epoch}
	case 16:
		return &logpb.HostUnproven{Host: string(id), Epoch: epoch, Reason: pick(c, "alive", "nothing can prove it")}
	case 17, 18, 19:
		return &logpb.HostDown{Host: string(id), Epoch: epoch, Reason: "silent"}
	case 20:
		number := uint32(1)
		if h != nil && h.Attempt != nil {
			number = h.Attempt.Number + uint32(c(2))
		}
		return &logpb.FenceAttempt{Host: string(id), Epoch: epoch, Level: uint32(c(3)), Attempt: number, DeadlineNs: int64(c(40)-2) * int64(time.Second), Executor: pick(c, "n1 in term 1", "n2 in term 2")}
	case 21:
		if c.odds(2) {
			x := &logpb.LevelCheck{Level: uint32(c(3)), Failure: pick(c, "", "", "no answer", "no answer"), By: pick(c, "leader", "node n2")}
			if h != nil && int(x.Level) < len(h.Fence) {
				l := h.Fence[x.Level]
				x.Driver, x.Address, x.Identity, x.LastUnixNs = l.Driver, l.Address, l.Identity, l.Check.Checked
			}
			return &logpb.FenceChecked{Host: string(id), Levels: []*logpb.LevelCheck{x}}
		}
		return &logpb.FenceResult{Host: string(id), Epoch: epoch, Level: uint32(c(3)), Attempt: uint32(1 + c(2)), Failure: "timeout"}
	case 22, 23, 24:
		f := &logpb.HostFenced{Host: string(id), Epoch: epoch, Proof: &logpb.Proof{Kind: uint32(c(6)), By: "x"}, Force: c.odds(3)}
		for range c(4) {
			f.Placements = append(f.Placements, &logpb.Placement{Vm: idBytes(1 + c(randomVMs)), Target: string(c.hostID()), Why: "fits"})
		}
		if c.odds(20) {
			f.Proof = nil
		}
		return f
	case 25:
		return &logpb.HostLeave{Host: string(id), Epoch: epoch, Session: pick(c, "", "s1", "s2"), Reason: "stopped"}
	case 26:
		l := &logpb.HostLease{Host: string(id), Epoch: epoch, Armed: !c.odds(4), BootId: "b1", DurationNs: int64(c(20)-1) * int64(time.Second), Watchdog: uint32(c(5)), BoundNs: int64(c(7)-1) * int64(time.Second)}
		if h != nil && !c.odds(5) {
			l.BootId = h.BootID
		}
		return l
	case 27:
		return &logpb.HostControl{Host: string(id), Action: uint32(c(7))}
	case 28:
		switch c(5) {
		case 0:
			return &logpb.Brake{Domain: pick(c, "cluster", "rack a"), On: c.odds(2), Reason: pick(c, "", "many are silent")}
		case 1:
			return &logpb.Arm{Armed: !c.odds(3)}
		case 2:
			return &logpb.PolicySet{Settings: []*logpb.Setting{{Key: pick(c, "lease", "max_restart", "protect_default", "nonsense", "events_keep", "work_keep", "alerts_keep"), Value: pick(c, "100", "10s", "1", "true", "false")}}}
		case 3:
			f := levels(id)
			f.Levels = f.Levels[:c(3)]
			return f
		default:
			return &logpb.AcceptTime{}
		}
	case 29:
		x := spec(n)
		switch c(4) {
		case 0:
			x.Protect = nil
		case 1:
			x.Problem = "broken XML"
			x.Definition = nil
		case 2:
			x.Protect = &logpb.Protection{On: true, Ha: pick(c, "none", "always", "restart", "nonsense"), Priority: "high"}
			x.Local = []string{"disk /a"}
		}
		return &logpb.VMSpecs{Host: string(id), Epoch: epoch, Specs: []*logpb.Spec{x}}
	case 30:
		return &logpb.VMProtect{Vm: idBytes(n), Protect: &logpb.Protection{On: !c.odds(4), Ha: pick(c, "", "none", "always", "nonsense")}}
	case 31:
		return &logpb.VMControl{Vm: idBytes(n), Action: uint32(c(5))}
	case 32:
		if c.odds(2) {
			x := &logpb.VMStorage{Vm: idBytes(n), Incarnation: uint64(inc(1)), Action: uint32(1 + c(3)), Reason: "an I/O error"}
			if v, _ := s.VM(testVM(n)); v != nil && !c.odds(5) {
				x.Incarnation = uint64(v.Incarnation)
			}
			return x
		}
		return &logpb.VMReleased{Vm: idBytes(n), Work: work, Reason: "nobody has it"}
	case 33, 34:
		p := &logpb.Place{}
		for range 1 + c(2) {
			x := 1 + c(randomVMs)
			w := work
			if v, _ := s.VM(testVM(x)); v != nil && !c.odds(6) {
				w = uint64(v.Work)
			}
			p.Placements = append(p.Placements, &logpb.WorkPlacement{Work: w, Vm: idBytes(x), Target: string(c.hostID()), Why: "fits"})
		}
		return p
	case 35:
		return &logpb.WorkUpdate{Work: work, Action: uint32(c(6)), Reason: pick(c, "no host", "too slow"), DelayNs: int64(c(20)-2) * int64(time.Second)}
	case 36:
		if c.odds(2) {
			return randomNotify(c, s)
		}
		return &logpb.AlertUpdate{Id: uint64(c(60)), Action: uint32(c(4))}
	case 37:
		return c.rule(s)
	case 38:
		if c.odds(2) {
			return c.vmGuest(s)
		}
		return c.vmSet()
	default:
		switch c(8) {
		case 4:
			return &logpb.NodeControl{Id: pick(c, "n1", "n2", "n9"), Action: uint32(c(4))}
		case 5, 6, 7:
			x := &logpb.NodeSteer{Id: pick(c, "n1", "n2", "n9"), RunId: pick(c, "r1", "r2"), Step: uint32(c(9)), WithinNs: int64(c(4)) * int64(10*time.Second), ForNs: int64(max(c(4)-2, 0)) * int64(time.Minute), Force: c.odds(3), Reason: pick(c, "", "it is time")}
			if n := s.Node(NodeID(x.Id)); n != nil && !c.odds(6) {
				x.RunId = n.RunID
			}
			return x
		case 0:
			return &logpb.NodeHello{Id: pick(c, "n1", "n2", ""), RunId: pick(c, "r1", "r2"), Version: "1"}
		case 1:
			return &logpb.NodeDown{Id: pick(c, "n1", "n2", "n9"), RunId: pick(c, "r1", "r2"), Reason: "silent", Left: c.odds(2)}
		case 2:
			if c.odds(2) {
				return &logpb.FeatureRaise{Level: uint32(c(FeatureLevel + 1)), Version: pick(c, "", "0.3")}
			}
			return &logpb.ClusterInit{ClusterId: "another"}
		}
		return &logpb.Canary{Node: "n1", Term: 1}
	}
}

// randomNotify is a command about alerts, receivers, silences or events.
func randomNotify(c chooser, s *State) proto.Message {
	match := func() *logpb.AlertMatch {
		return &logpb.AlertMatch{Types: pick(c, nil, nil, []string{"HOST", "8"}, []string{"NONE"}), Severity: uint32(c(5)), Subjects: pick(c, nil, []string{"h*"}, []string{"h1"}),
			Labels: pick(c, nil, nil, []*logpb.Label{{Key: "rack"}})}
	}
	who := pick(c, "mail", "hook", "pager")
	switch c(9) {
	case 0, 1:
		x := &logpb.AlertControl{Action: uint32(c(6)), Match: match(), State: uint32(c(6)), OlderNs: int64(c(3)-1) * int64(time.Second)}
		if c.odds(2) {
			for _, a := range s.Alerts() {
				x.Ids = append(x.Ids, uint64(a.ID))
				if c.odds(2) {
					break
				}
			}
		}
		return x
	case 2, 3:
		x := &logpb.AlertRaise{}
		for range c(4) {
			x.Alerts = append(x.Alerts, &logpb.Raised{Type: pick(c, "HOST", "OTHER", "ALERT.USERVM", "NOTIFY"), Subject: pick(c, "h1", "h2", "x"), Cause: pick(c, "hot", "loud", ""),
				Severity: uint32(c(5)), Text: pick(c, "It is hot.", ""), Resolved: c.odds(3)})
		}
		return x
	case 4:
		return &logpb.NotifySet{Name: who, Kind: "webhook", Address: pick(c, "http://a", "http://b"), Match: match(), Off: c.odds(6), KeepSecret: c.odds(6),
			RepeatNs: int64(pick(c, 0, 0, 1, 10, 20)) * int64(time.Second)}
	case 5:
		if c.odds(3) {
			return &logpb.NotifyRemove{Name: who}
		}
		return &logpb.EventPurge{BeforeId: uint64(c(40)), BeforeUnixNs: int64(c(2)) * s.Time}
	case 6:
		x := &logpb.SilenceSet{Match: match(), Reason: pick(c, "works", ""), ForNs: int64(c(10)-1) * int64(time.Second)}
		if c.odds(2) {
			x.FromUnixNs = s.Time + int64(c(10)-1)*int64(time.Second)
		}
		if c.odds(4) {
			x.ForNs, x.UntilUnixNs = 0, s.Time+int64(c(20)-1)*int64(time.Second)
		}
		for id := range s.Silences() {
			if c.odds(2) {
				x.Id = uint64(id)
			}
		}
		return x
	}
	x := &logpb.NotifyStep{Receiver: who, Action: uint32(c(5)), Failure: "no answer"}
	if r := s.Receiver(who); r != nil {
		x.After = uint64(r.Done)
		for n := range s.Pending(r) {
			x.Upto = uint64(n.ID)
			if c.odds(3) {
				break
			}
		}
		if b := r.Batch; b != nil {
			x.Delivery, x.Attempt = b.ID, b.Attempts+uint32(c(3))
		}
	}
	return x
}
