package hvtest

import (
	"errors"
	"time"

	"lifeboat/hypervisor"
)

// migrator is the hypervisor under test, and where its domains go.
func (b *bench) migrator() (hypervisor.Migrator, string) {
	b.Helper()
	b.need("migrate to another one", b.Other != nil)
	m, ok := b.Hypervisor.(hypervisor.Migrator)
	if !ok {
		b.Fatalf("%T does not implement hypervisor.Migrator", b.Hypervisor)
	}
	inv, err := b.Other.Inventory(b.Context())
	b.ok("inventory of the other one", err)
	if inv.MigrateURI == "" {
		b.Fatal("the other one does not say where it is")
	}
	return m, inv.MigrateURI
}

// elsewhere is what the other hypervisor says about a domain.
func (b *bench) elsewhere(id hypervisor.UUID) hypervisor.Domain {
	b.Helper()
	list, err := b.Other.Domains(b.Context())
	b.ok("domains of the other one", err)
	for _, d := range list {
		if d.UUID == id {
			return d
		}
	}
	return hypervisor.Domain{State: hypervisor.StateAbsent}
}

func (b *bench) removeThere(id hypervisor.UUID) {
	b.Cleanup(func() { _ = b.Other.Remove(b.cleanupContext(), id) })
}

func testMigrate(b *bench) {
	m, uri := b.migrator()
	req := b.start("migrate")
	b.removeThere(req.UUID)
	b.ok("migrate", m.Migrate(b.Context(), hypervisor.MigrateRequest{UUID: req.UUID, URI: uri}))
	if d := b.wantState(req.UUID, hypervisor.StateOff); d.Reason != hypervisor.ReasonMigrated {
		b.Errorf("the source is off because of %v", d.Reason)
	}
	if d := b.elsewhere(req.UUID); d.State != hypervisor.StateRunning || !d.Persistent {
		b.Errorf("the target says %+v", d)
	}
	b.ok("abort when there is none", m.AbortMigration(b.Context(), req.UUID))
	b.ok("remove at the source", b.Hypervisor.Remove(b.Context(), req.UUID))
	if d := b.elsewhere(req.UUID); d.State != hypervisor.StateRunning {
		b.Errorf("after that the target says %+v", d)
	}
}

func testMigrateFails(b *bench) {
	m, uri := b.migrator()
	req := b.request("stays")
	if err := m.Migrate(b.Context(), hypervisor.MigrateRequest{UUID: req.UUID, URI: uri}); !errors.Is(err, hypervisor.ErrNotFound) {
		b.Errorf("an unknown domain: %v", err)
	}
	b.ok("start", b.Hypervisor.Start(b.Context(), req))
	err := m.Migrate(b.Context(), hypervisor.MigrateRequest{UUID: req.UUID, URI: uri + "-nobody"})
	if err == nil || errors.Is(err, hypervisor.ErrUnknownOutcome) {
		b.Errorf("to nowhere: %v", err)
	}
	b.wantState(req.UUID, hypervisor.StateRunning)
	b.ok("abort when there is none", m.AbortMigration(b.Context(), req.UUID))
}

func testMigrationAborted(b *bench) {
	m, uri := b.migrator()
	req := b.start("aborted")
	b.removeThere(req.UUID)
	ended := make(chan error, 1)
	go func() { ended <- m.Migrate(b.Context(), hypervisor.MigrateRequest{UUID: req.UUID, URI: uri}) }()
	b.until("the domain to come in", func() bool { return b.elsewhere(req.UUID).Active() })
	b.ok("abort", m.AbortMigration(b.Context(), req.UUID))
	err := <-ended
	if err == nil {
		b.Skip("it was over before it could be aborted")
	}
	if errors.Is(err, hypervisor.ErrUnknownOutcome) {
		b.Errorf("an aborted migration ends with %v", err)
	}
	b.wantState(req.UUID, hypervisor.StateRunning)
	b.until("the target to forget it", func() bool { return !b.elsewhere(req.UUID).Active() })
}

func testMigrationTooLong(b *bench) {
	m, uri := b.migrator()
	req := b.start("slow")
	b.removeThere(req.UUID)
	err := m.Migrate(b.Context(), hypervisor.MigrateRequest{UUID: req.UUID, URI: uri, Within: 20 * time.Millisecond})
	if err == nil {
		b.Skip("it was over before it could take too long")
	}
	if errors.Is(err, hypervisor.ErrUnknownOutcome) {
		b.Errorf("a migration that takes too long ends with %v", err)
	}
	b.wantState(req.UUID, hypervisor.StateRunning)
}
