package sim

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"lifeboat/fsm"
	"lifeboat/sim/scenario"
)

var update = flag.Bool("update", false, "write docs/failure-matrix.md anew")

// what becomes of the VM v1, which ran on n1 when n1 was hit.
type fate string

const (
	untouched fate = "untouched"       // it never stopped, and nobody did anything
	elsewhere fate = "elsewhere"       // started on another host
	inPlace   fate = "in place"        // started again on n1
	back      fate = "started again"   // on any host
	waiting   fate = "waits"           // for somebody, and says for whom
	off       fate = "stays off"       // as was wanted
	held      fate = "runs, uncertain" // it runs where it ran; nobody can say so, and nothing is done
)

// cell is what is expected of one fault under one configuration.
type cell struct {
	fate   fate
	within time.Duration // from the last fault to the start order
	say    string        // what lifeboat does, beyond the fate
}

// row is one fault. Every row is a world of four hosts (n1 to n4) and three
// managers, with two VMs on each host, unless world says otherwise.
type row struct {
	fault            string
	steps            string
	world            string // more keys of the scenario
	bmc, lease, none cell
	lab              string // tests on real libvirt hosts
}

const (
	bmcBar   = 12 * time.Second // of the design: with a BMC, by lease, one more leader
	leaseBar = 30 * time.Second
	election = 3 * time.Second
)

func matrix() []row {
	cut := cell{elsewhere, bmcBar, "the BMC reads off"}
	lease := cell{elsewhere, leaseBar, "the lease runs out"}
	operator := cell{waiting, 0, "an alert asks for `host confirm-dead`"}
	same := func(c cell) (cell, cell, cell) { return c, c, c }
	rows := []row{
		{fault: "a host loses its power", steps: "10s: [power n1 off]", bmc: cut, lease: lease, none: operator, lab: "TestDrillWithBMC, TestDrillWithLease"},
		{fault: "… and its BMC with it", steps: "10s: [power n1 off, bmc n1 off]", bmc: cell{waiting, 0, "the BMC is asked again and again; an alert says that it does not answer"}, lease: lease, none: operator, lab: "TestDeadBMC"},
		{fault: "a host loses its network", steps: "10s: [network n1 off]", bmc: cell{elsewhere, bmcBar, "the BMC switches it off"}, lease: cell{elsewhere, leaseBar, "its agent stops its VMs, its watchdog resets it"}, none: cell{held, 0, "an alert asks for `host confirm-dead`"}, lab: "TestIsolatedHost"},
		{fault: "… and gets it back after 20 s", steps: "10s: [network n1 off]\n  - 20s: [network n1 on]", bmc: cell{elsewhere, bmcBar, "it was off by then"}, lease: cell{back, leaseBar, "its VMs were stopped by then"}, none: cell{untouched, 0, "work ends “not needed”"}, lab: "TestIsolatedHost"},
		{fault: "the network blinks for 2 s", steps: "10s: [network n1 off]\n  - 2s: [network n1 on]"},
		{fault: "packets of a host do not reach the managers", steps: "10s: [partition n1 m1 one-way, partition n1 m2 one-way, partition n1 m3 one-way]", bmc: cell{untouched, 0, "its peers reach it: hands off, an alert"}, lease: cell{elsewhere, leaseBar, "its agent hears no answer and stops its VMs"}, none: cell{untouched, 0, "its peers reach it: hands off, an alert"}},
		{fault: "a host freezes and thaws after a minute", steps: "10s: [freeze n1]\n  - 60s: [thaw n1]", bmc: cell{elsewhere, bmcBar, "the BMC switches it off"}, lease: cell{elsewhere, leaseBar, "the watchdog resets it"}, none: cell{untouched, 0, "work ends “not needed”"}, lab: "TestFrozenHost, TestShortFreezes"},
		{fault: "an isolated host's BMC says “off” and does nothing", steps: "10s: [network n1 off, bmc n1 lies]", bmc: cell{held, 0, "the power reads on: no proof; an alert"}, lease: cell{elsewhere, leaseBar, "the lease runs out"}, none: cell{held, 0, ""}, lab: "TestLyingBMC"},
		{fault: "a dead host's BMC answers with errors", steps: "10s: [power n1 off, bmc n1 errors]", bmc: cell{waiting, 0, "an alert gives the BMC's error"}, lease: lease, none: operator},
		{fault: "a dead host's BMC takes 2 s for every answer", steps: "10s: [power n1 off, bmc n1 slow 2s]", bmc: cell{elsewhere, 20 * time.Second, "the readings are awaited"}, lease: lease, none: operator},
		{fault: "a host crashes and boots at once", steps: "10s: [power n1 off]\n  - 1s: [power n1 on]", world: "world: {boot: 4s}", bmc: cell{back, leaseBar, "the new boot id, or the BMC before it"}, lease: cell{back, leaseBar, "the new boot id is proof"}, none: cell{back, leaseBar, "the new boot id is proof"}},
		{fault: "a host is rebooted by its operating system", steps: "10s: [reboot n1]", bmc: cell{back, 2 * time.Minute, ""}, lease: cell{back, 2 * time.Minute, ""}, none: cell{back, 2 * time.Minute, ""}},
		{fault: "the agent crashes", steps: "10s: [agent n1 kill]", lab: "TestAgentCrashWithLease, TestAgentCrashWithoutLease"},
		{fault: "the agent is stopped for half a minute", steps: "10s: [agent n1 stop]\n  - 30s: [agent n1 start]", lab: "TestAgentStops"},
		{fault: "the agent is stopped, then the host loses its power", steps: "10s: [agent n1 stop]\n  - 10s: [power n1 off]", bmc: cell{elsewhere, leaseBar, "the machine is looked at although its agent said goodbye"}, lease: cell{waiting, 0, "the goodbye withdrew the lease: nothing is proof; an alert"}, none: operator},
		{fault: "libvirtd dies for a minute", steps: "10s: [libvirt n1 stop]\n  - 60s: [libvirt n1 start]", lab: "TestLibvirtdStops, TestLibvirtdHangs"},
		{fault: "libvirtd is dead and the host loses its power", steps: "10s: [libvirt n1 stop]\n  - 30s: [power n1 off]", bmc: cut, lease: lease, none: operator},
		{fault: "a host loses its power while a VM leaves it by live migration", steps: "10s: [vm v1 migrate n2]\n  - 2s: [power n1 off]", bmc: cell{elsewhere, bmcBar, "the BMC reads off, and libvirt on the target has given the VM up, for which it may take half a minute more"}, lease: cell{elsewhere, leaseBar, "the lease runs out, and libvirt on the target has given the VM up"}, none: operator, lab: "TestSourceDiesDuringMigration"},
		{fault: "a host loses its power while a VM comes to it by live migration", steps: "10s: [vm v1 migrate n2]\n  - 2s: [power n2 off]", lab: "TestTargetDiesDuringMigration"},
		{fault: "a guest's qemu dies", steps: "10s: [vm v1 kill]", lab: "TestGuestCrash, TestGuestDiesAgainAndAgain"},
		{fault: "a guest shuts itself down", steps: "10s: [vm v1 guest-shutdown]", lab: "TestStoppedByHandStaysOff"},
		{fault: "a host loses its storage for good", steps: "10s: [storage n1 off]"},
		{fault: "a host loses its storage for 20 s", steps: "10s: [storage n1 off]\n  - 20s: [storage n1 on]"},
		{fault: "the leader dies", steps: "10s: [leader kill]", lab: "TestLeaderCrashesDuringFailover"},
		{fault: "the machine of the leader is the host that dies", steps: "10s: [power n1 off]", world: "managers_on: {m1: n1}", bmc: cell{elsewhere, bmcBar + election, "another leader goes on"}, lease: cell{elsewhere, leaseBar + election, "another leader goes on, and waits a whole lease"}, none: operator, lab: "TestDrillWithBMC, TestDrillWithLease"},
		{fault: "the leader is cut off, then a host loses its power", steps: "10s: [manager m1 isolate]\n  - 5s: [power n1 off]", bmc: cut, lease: lease, none: operator, lab: "TestIsolatedLeader"},
		{fault: "the leader's disk stalls, then a host loses its power", steps: "10s: [manager m1 disk stall]\n  - 1s: [power n1 off]", bmc: cell{elsewhere, bmcBar + election, "the leader deposes itself"}, lease: cell{elsewhere, leaseBar + election, ""}, none: operator},
		{fault: "the leader dies while a host is being recovered", steps: "10s: [power n1 off]\n  - 4s: [leader kill]", bmc: cell{elsewhere, bmcBar + election, "everything begun is in the state"}, lease: cell{elsewhere, leaseBar + election, ""}, none: operator, lab: "TestLeaderCrashesDuringFailover"},
		{fault: "all managers restart while a host is being recovered", steps: "10s: [power n1 off]\n  - 4s: [manager m1 kill, manager m2 kill, manager m3 kill]\n  - 3s: [manager m1 start, manager m2 start, manager m3 start]", bmc: cell{elsewhere, leaseBar, ""}, lease: cell{elsewhere, 45 * time.Second, ""}, none: operator, lab: "TestAllServersCrash"},
		{fault: "all managers are away for half a minute", steps: "10s: [manager m1 kill, manager m2 kill, manager m3 kill]\n  - 30s: [manager m1 start, manager m2 start, manager m3 start]", bmc: cell{untouched, 0, ""}, lease: cell{back, 45 * time.Second, "**the price of a lease**: every host stops its protected VMs; they start again 2 s after the managers are back"}, none: cell{untouched, 0, ""}, lab: "TestAllServersCrash"},
		{fault: "a switch cuts off 5 of 15 hosts for two minutes", steps: "10s: [network n1 off, network n2 off, network n3 off, network n4 off, network n5 off]\n  - 2m: [network n1 on, network n2 on, network n3 on, network n4 on, network n5 on]", world: "15", bmc: cell{untouched, 0, "the brake holds, one alert, nobody is fenced"}, lease: cell{elsewhere, leaseBar, "the cut-off hosts stop their VMs, each is started once elsewhere"}, none: cell{untouched, 0, "the brake holds"}},
		{fault: "a rack of 5 of 15 hosts loses its power", steps: "10s: [power n1 off, power n2 off, power n3 off, power n4 off, power n5 off]", world: "15", bmc: cell{elsewhere, bmcBar, "power that reads off harms nobody: the brake lets it pass"}, lease: lease, none: cell{waiting, 0, "the brake and an alert"}},
	}
	for i := range rows {
		r := &rows[i]
		all := func(c cell) { r.bmc, r.lease, r.none = same(c) }
		switch r.fault {
		case "the network blinks for 2 s", "the agent is stopped for half a minute":
			all(cell{untouched, 0, ""})
		case "the agent crashes":
			all(cell{untouched, 0, "it is back after 2 s; a host with a lease whose agent stays away is reset"})
		case "libvirtd dies for a minute":
			all(cell{untouched, 0, "the host stays Up, its VMs are PowerUnknown"})
		case "a host loses its power while a VM comes to it by live migration":
			all(cell{untouched, 0, "it runs on where it was; an alert says why it was not moved"})
		case "a guest's qemu dies":
			all(cell{inPlace, 5 * time.Second, ""})
		case "a guest shuts itself down":
			all(cell{off, 0, "started again with `--ha always`"})
		case "a host loses its storage for good":
			all(cell{elsewhere, 2 * time.Minute, "paused by qemu; after `storage_loss_after` destroyed there; the host is not fenced"})
		case "a host loses its storage for 20 s":
			all(cell{untouched, 0, "paused by qemu, resumed when it is back"})
		case "the leader dies":
			all(cell{untouched, 0, "another leads within 2 s"})
		}
	}
	return rows
}

// TestFailureMatrix plays every fault under every configuration and holds
// docs/failure-matrix.md to what comes of it.
func TestFailureMatrix(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# The failure matrix

What lifeboat does about each fault, and after how long: the time from the fault to the order to start, with the default settings, in a
world of four hosts and three managers. Three configurations: hosts with a BMC (` + "`fence: [bmc]`" + `), hosts without one that run under a
self-fence lease with a hardware watchdog (` + "`fence: [lease]`" + `), and hosts with nothing that could prove them dead. A host with both levels
does what is better of the two. Without a proof nothing is started twice and nothing is given up: the VM waits, and says for what.

Every cell is played by ` + "`TestFailureMatrix`" + ` in the simulator, which writes this page; the last column names the tests that do the same to real
libvirt hosts. The files in ` + "`testdata/scenarios`" + ` tell many of these stories at length.

| fault | with a BMC | with a lease | with neither | on real hosts |
|---|---|---|---|---|
`)
	for _, r := range matrix() {
		fmt.Fprintf(&b, "| %s |", r.fault)
		for _, c := range []struct {
			fence string
			cell
		}{{"[bmc]", r.bmc}, {"[lease]", r.lease}, {"[]", r.none}} {
			t.Run(r.fault+" "+c.fence, func(t *testing.T) {
				fmt.Fprintf(&b, " %s |", c.check(t, r, c.fence))
			})
		}
		fmt.Fprintf(&b, " %s |\n", r.lab)
	}
	const page = "../docs/failure-matrix.md"
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(page); err != nil || string(got) != b.String() {
		t.Errorf("%s is not what the simulator shows (%v); look at what has changed and write it anew with -update", page, err)
	}
}

// check plays a row under one configuration and returns what the page says.
func (c cell) check(t *testing.T, r row, fence string) string {
	hosts, world := "4", r.world
	if world == "15" {
		hosts, world = "15", ""
	}
	text := fmt.Sprintf("name: %s\nsettings: {place_unfenced: true}\nhosts: {count: %s, prefix: n, fence: %s}\n%s\nvms: [{count: %s, prefix: v, host: \"*\"}]\nsteps:\n  - %s\n",
		"matrix", hosts, fence, world, map[string]string{"4": "8", "15": "30"}[hosts], r.steps)
	f, err := scenario.Parse("matrix.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	w := newWorld(f, 1)
	w.ended = context.Background().Done()
	g := w.byVM["v1"]
	w.live()
	for _, v := range w.broken {
		t.Errorf("%s: %s", v.Rule, v.Text)
	}
	s := w.truth.State()
	v, _ := s.VM(fsm.VMID(g.id))
	if v == nil {
		t.Fatal("the VM is gone")
	}
	at, state := w.whereabouts(s, g)
	order, ordered := w.book.orderAt["v1"]
	fault, hit := w.book.faultAt["v1"]
	if !hit {
		fault = w.zero + 10*time.Second // the first step; nothing broke on its host
	}
	took := order - fault
	var got fate
	switch {
	case state == "running" && w.book.starts["v1"] == 1 && at[0] == "n1":
		got = inPlace
	case state == "running" && w.book.starts["v1"] == 1:
		got = elsewhere
	case state == "running" && v.Work == 0:
		got = untouched
	case state == "running":
		got = held
	case v.Work != 0:
		got = waiting
	default:
		got = off
	}
	if got != c.fate && (c.fate != back || got != inPlace && got != elsewhere) {
		t.Errorf("the VM is %q instead of %q (%s on %s, %d starts, power %s, work %d)", got, c.fate, state, at, w.book.starts["v1"], v.Power, v.Work)
	}
	says := string(c.fate)
	if c.within > 0 {
		if !ordered || took > c.within {
			t.Errorf("started after %s (ordered: %v), at most %s is allowed", took, ordered, c.within)
		}
		says += fmt.Sprintf(", %d s", int(math.Ceil(took.Seconds())))
	}
	if c.say != "" {
		says += ": " + c.say
	}
	return says
}
