package hvtest

import (
	"crypto/rand"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat/hypervisor"
)

// Fixture is a hypervisor under test and what can be done to it from outside.
// A nil function means that this hypervisor cannot do it; the tests that need
// it are skipped and say so.
type Fixture struct {
	Hypervisor hypervisor.Hypervisor
	// Render returns a definition that the hypervisor can start.
	Render func(name string, id hypervisor.UUID) []byte
	// Equipped is Render for a guest with a watchdog and a way to its agent, which does
	// not run.
	Equipped func(name string, id hypervisor.UUID) []byte
	// Limit is what every single call must stay below, a frozen daemon or not.
	Limit time.Duration

	ObeysShutdown bool                        // the guests react to the power button
	Kill          func(hypervisor.UUID) error // kill -9 of the domain's process
	Pause         func(hypervisor.UUID) error // as a user does it
	Define        func(xml []byte) error      // by hand, with autostart
	StopDaemon    func()                      // kills it
	StartDaemon   func()
	KeepsGuests   bool                        // domains survive StopDaemon and StartDaemon
	Freeze        func(frozen bool)           // the daemon, not the guests
	Reboot        func(hypervisor.UUID) error // the guest, from inside
	// FireWatchdog lets a guest's watchdog fire, and the hypervisor do none, pause or reset.
	FireWatchdog func(id hypervisor.UUID, action string) error
	// Other is a second hypervisor to which domains can be migrated, for a second at
	// the least; nil: there is none.
	Other hypervisor.Hypervisor
}

// Run runs every test of the suite with a fixture of its own, in real time.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	for _, c := range suite() {
		t.Run(c.name, func(t *testing.T) { c.run(newBench(t, open)) })
	}
}

// RunVirtual does the same in virtual time.
func RunVirtual(t *testing.T, open func(t *testing.T) Fixture) {
	for _, c := range suite() {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(newBench(t, open)) })
		})
	}
}

type test struct {
	name string
	run  func(*bench)
}

func suite() []test {
	return []test{
		{"Inventory", testInventory},
		{"StartAndList", testStartAndList},
		{"S3ConfirmSeesAPausedDomain", testConfirmSeesPaused},
		{"S3ConfirmRefused", testConfirmRefused},
		{"S3ConfirmRefusedByACancelledContext", testConfirmCancelled},
		{"S3SecondStartIsRefused", testSecondStart},
		{"StartRefusesWrongInput", testStartWrongInput},
		{"StartFailureLeavesNothing", testStartFailure},
		{"StopShutdown", testShutdown},
		{"StopDestroy", testDestroy},
		{"S4RemoveIsATombstone", testRemove},
		{"S8RemoveClearsAutostart", testRemoveAutostart},
		{"S23DefinitionRoundTrip", testDefinition},
		{"EditedWhileItRuns", testEdited},
		{"TransientVanishes", testTransient},
		{"TransientRemoved", testTransientRemoved},
		{"PausedAndResumed", testPaused},
		{"UnknownDomain", testUnknown},
		{"EventsLeadToALook", testEvents},
		{"WatchEndsWithItsContext", testWatchEnds},
		{"S18KilledProcess", testKilled},
		{"S18KilledTransient", testKilledTransient},
		{"DaemonKilledAndBack", testDaemonKilled},
		{"S4FrozenDaemon", testFrozen},
		{"ConcurrentStarts", testConcurrentStarts},
		{"S7Migrate", testMigrate},
		{"AskGuest", testAsk},
		{"GuestIsSilent", testSilent},
		{"GuestReboots", testReboot},
		{"GuestWatchdog", testWatchdog},
		{"S7MigrateFails", testMigrateFails},
		{"S7MigrationAborted", testMigrationAborted},
		{"S7MigrationTakesTooLong", testMigrationTooLong},
		{"Closed", testClosed},
	}
}

// bench is one test's fixture with helpers that fail the test.
type bench struct {
	*testing.T
	Fixture
	adj hypervisor.Adjuster
}

func newBench(t *testing.T, open func(t *testing.T) Fixture) *bench {
	b := &bench{T: t, Fixture: open(t)}
	b.adj, _ = b.Hypervisor.(hypervisor.Adjuster)
	if b.adj == nil {
		t.Fatalf("%T does not implement hypervisor.Adjuster", b.Hypervisor)
	}
	t.Cleanup(func() {
		if err := b.Hypervisor.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

func (b *bench) need(name string, have bool) {
	b.Helper()
	if !have {
		b.Skipf("this hypervisor cannot do it: %s", name)
	}
}

// request makes an order for a new domain, which is removed after the test.
func (b *bench) request(name string) hypervisor.StartRequest {
	b.Helper()
	var id hypervisor.UUID
	_, _ = rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // libvirt takes any, people expect version 4
	b.Cleanup(func() {
		if err := b.Hypervisor.Remove(b.cleanupContext(), id); err != nil && !b.Failed() {
			b.Logf("remove %s after the test: %v", name, err)
		}
	})
	name += "-" + id.String()[:8]
	return hypervisor.StartRequest{UUID: id, XML: b.Render(name, id)}
}

// equip starts a domain that is equipped.
func (b *bench) equip(name string) hypervisor.StartRequest {
	b.Helper()
	b.need("give a guest a watchdog and an agent", b.Equipped != nil)
	req := b.request(name)
	req.XML = b.Equipped(name+"-"+req.UUID.String()[:8], req.UUID)
	b.ok("start", b.Hypervisor.Start(b.Context(), req))
	return req
}

func (b *bench) start(name string) hypervisor.StartRequest {
	b.Helper()
	req := b.request(name)
	b.ok("start", b.Hypervisor.Start(b.Context(), req))
	return req
}

func (b *bench) ok(what string, err error) {
	b.Helper()
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
}

// look returns what Domains says about one domain; ok is false when nothing.
func (b *bench) look(id hypervisor.UUID) (hypervisor.Domain, bool) {
	b.Helper()
	ds, err := b.Hypervisor.Domains(b.Context())
	b.ok("domains", err)
	if !slices.IsSortedFunc(ds, func(x, y hypervisor.Domain) int { return x.UUID.Compare(y.UUID) }) {
		b.Errorf("domains are not sorted: %v", ds)
	}
	i := slices.IndexFunc(ds, func(d hypervisor.Domain) bool { return d.UUID == id })
	if i < 0 {
		return hypervisor.Domain{}, false
	}
	return ds[i], true
}

func (b *bench) wantState(id hypervisor.UUID, want hypervisor.State) hypervisor.Domain {
	b.Helper()
	d, ok := b.look(id)
	if !ok || d.State != want {
		b.Fatalf("domain %s is %v (%v, listed: %v), want %v", id, d.State, d.Reason, ok, want)
	}
	return d
}

func (b *bench) wantUnlisted(id hypervisor.UUID) {
	b.Helper()
	if d, ok := b.look(id); ok {
		b.Fatalf("domain %s is still listed: %+v", id, d)
	}
}

// eventually looks again until the state is as wanted.
func (b *bench) eventually(id hypervisor.UUID, want hypervisor.State) hypervisor.Domain {
	b.Helper()
	var d hypervisor.Domain
	b.until("domain to be "+want.String(), func() bool {
		d, _ = b.look(id)
		return d.State == want
	})
	return d
}

func (b *bench) until(what string, ok func() bool) {
	b.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("waited in vain for %s", what)
		}
	}
}
