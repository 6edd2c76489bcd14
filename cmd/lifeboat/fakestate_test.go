package main

import (
	"time"

	pb "lifeboat/api/lifeboat/v1"
)

// testNow is the time in all tests of output.
var testNow = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func ago(d time.Duration) int64 { return testNow.Add(-d).UnixNano() }

// fakeState is what a fakeAdmin knows: host h2 died and web-1 is being restarted.
type fakeState struct {
	armed    bool
	status   *pb.StatusResponse
	nodes    []*pb.NodeView
	hosts    []*pb.HostView
	vms      []*pb.VMView
	work     []*pb.WorkView
	alerts   []*pb.AlertView
	events   []*pb.EventView
	policy   []*pb.Setting
	computed []string
	stories  map[string][]string
}

func emptyState() *fakeState {
	return &fakeState{status: &pb.StatusResponse{ClusterId: "c0ffee", NodeId: "n1", State: "follower", Version: "dev", LastContactMs: -1}}
}

func busyState() *fakeState {
	return &fakeState{
		armed: true,
		status: &pb.StatusResponse{
			NodeId: "n2", LeaderId: "n1", LeaderAddr: "10.0.0.1:7400", Term: 3, AppliedIndex: 142, CommitIndex: 143,
			ClusterId: "c0ffee", Digests: []*pb.DigestAt{{Index: 128, Digest: "aa11"}, {Index: 142, Digest: "bb22"}},
			Hosts: 3, HostsUp: 2, Vms: 4, VmsProtected: 3, VmsRunning: 2, WorkOpen: 1, AlertsOpen: 1, Version: "dev",
			Notes: []string{"host h3 has no proven fence level: its VMs wait for an operator if it dies"},
			State: "follower", LastContactMs: 40, Digest: "bb22", FeatureLevel: 2, NewestLevel: 3,
			Receivers: 2, ReceiversFailing: 1, NoticesWaiting: 3, DeliveredUnixNs: ago(3 * time.Minute),
		},
		nodes: []*pb.NodeView{
			{Id: "n1", Addr: "10.0.0.1:7400", HttpAddr: "10.0.0.1:7480", State: "Up", Leader: true, Voter: true, Version: "dev", FeatureLevel: 3, RunId: "r-1", SinceUnixNs: ago(26 * time.Hour), Index: 3, Role: "leader", LastContactMs: 120, SnapshotUnixNs: ago(12 * time.Minute)},
			{Id: "n2", Addr: "10.0.0.2:7400", HttpAddr: "10.0.0.2:7480", State: "Up", Voter: true, Version: "dev", FeatureLevel: 3, RunId: "r-2", SinceUnixNs: ago(3*time.Hour + 5*time.Minute), Index: 5, Role: "voter", Lag: 2, LastContactMs: 640, SnapshotUnixNs: ago(49 * time.Hour), SnapshotFailure: "/var/lib/lifeboat/node/backups: no space left on device"},
			{Id: "n3", Addr: "10.0.0.3:7400", State: "Down", Version: "0.2", FeatureLevel: 2, RunId: "r-3", Machine: "h3", SinceUnixNs: ago(192 * time.Second), Index: 120, Reason: "no heartbeat for 5 s", LastContactMs: -1},
			{Id: "n4", Addr: "10.0.0.4:7400", State: "PreparingForMaintenance", Voter: true, Version: "dev", FeatureLevel: 3, RunId: "r-4", SinceUnixNs: ago(48 * time.Second), Index: 141, Role: "voter", LastContactMs: 300, RemainingMs: 252_000, Waits: "the agents of 2 hosts come to it"},
		},
		hosts:    fakeHosts(),
		vms:      fakeVMs(),
		work:     fakeWork(),
		alerts:   fakeAlerts(),
		events:   fakeEvents(),
		policy:   []*pb.Setting{{Key: "beat", Value: "1s", DefaultValue: "1s", Doc: "how often an agent reports"}, {Key: "suspect-after", Value: "4", DefaultValue: "3", Doc: "missed beats until a host is suspect"}},
		computed: []string{"host death to start order: at most 11.5 s with a BMC, 28 s by lease"},
		stories: map[string][]string{
			"vm web-1": {"web-1 ran on h2 (incarnation 1.7) until 12 s ago.", "h2 was proven dead: the BMC read off twice (index 138).", "h1 was chosen: most free memory of 1 eligible host."},
		},
	}
}

func fakeHosts() []*pb.HostView {
	return []*pb.HostView{
		{
			Id: "h1", Status: "Up", Resource: "Enabled", Ha: "Available", Epoch: 4, BootId: "b-1", MachineId: "m-1", Cpus: 16, MemoryBytes: 64 << 30,
			Vms: 2, VmsProtected: 1, MemoryUsedBytes: 12 << 30, Labels: []*pb.Label{{Key: "rack", Value: "a"}},
			Fence: []*pb.FenceLevelView{{Driver: "ipmi", Address: "10.0.9.1", User: "admin", Identity: "guid-1", TimeoutMs: 8000, Executor: "any", Active: true, ProvenUnixNs: ago(12 * time.Minute), ProvenAgoMs: 12 * 60_000}, {Driver: "lease"}},
			Lease: &pb.Lease{Armed: true, DurationMs: 15000}, Watchdog: "hardware", LastContactMs: 400,
			Storages: []*pb.Storage{{Id: "nfs-1", Path: "/srv/vm", Up: true}, {Id: "nfs-2", Path: "/srv/old", Up: false}}, Networks: []string{"bridge:br0"}, Version: "dev",
			Problems: []*pb.Problem{{Part: "storage pool old", Message: "mount: no such host"}},
		},
		{
			Id: "h2", Status: "Down", Resource: "Enabled", Ha: "Fenced", Epoch: 2, BootId: "b-2", Cpus: 16, MemoryBytes: 64 << 30, Vms: 2, VmsProtected: 2,
			MemoryUsedBytes: 8 << 30, Fence: []*pb.FenceLevelView{{Driver: "redfish", Address: "10.0.9.2", Active: true, Failure: "it does not answer", ProvenAgoMs: -1}}, LastContactMs: 15300, Reason: "silent for 4 beats",
			Evidence: []*pb.EvidenceView{{Source: "bmc", Verdict: "dead", Detail: "power off, read twice", Index: 138, TimeUnixNs: ago(9 * time.Second)}},
			Proof:    "BMC read off twice (index 138)",
		},
		{Id: "h3", Status: "Connecting", Resource: "Enabled", Ha: "Ineligible", Epoch: 1, LastContactMs: -1, NodeId: "n3", SafeWhen: "an operator confirms it dead: no fence level is set", Notes: []string{"VMs here wait for an operator if it dies"}},
	}
}

func fakeVMs() []*pb.VMView {
	return []*pb.VMView{
		{Id: "11111111-1111-4111-8111-111111111111", Name: "db-1", Host: "h1", Power: "PowerOn", Wanted: true, Protected: true, Ha: "restart", Priority: "high", Incarnation: "1.3", Cpus: 4, MemoryBytes: 8 << 30, SinceUnixNs: ago(50 * time.Hour), ProtectedBy: "alice", MaxRestart: 3, MaxRelocate: 3, Machine: "pc-q35-9.2", DefinitionHash: "d1", DefinitionUnixNs: ago(time.Hour), Storages: []string{"nfs-1"}, Networks: []string{"bridge:br0"}, GuestHealth: "both", GuestTimeoutMs: 60000, GuestGraceMs: 120000, GuestAnswers: true},
		{Id: "22222222-2222-4222-8222-222222222222", Name: "web-1", Host: "h1", Power: "PowerOff", Reason: "host down", Wanted: true, Protected: true, Ha: "restart", Priority: "normal", Incarnation: "1.8", Cpus: 2, MemoryBytes: 512 << 20, WorkId: 140000, WorkStep: "Restarting", SinceUnixNs: ago(12 * time.Second)},
		{Id: "33333333-3333-4333-8333-333333333333", Name: "仮想\x1b[2J", Host: "h2", Power: "PowerOn", Wanted: true, Protected: true, Ha: "always", Incarnation: "1.2", Cpus: 1, MemoryBytes: 1 << 30, Local: []string{"disk /var/lib/vm.img is local"}},
		{Id: "44444444-4444-4444-8444-444444444444", Name: "scratch", Host: "h1", Power: "PowerOn", Cpus: 1, MemoryBytes: 1 << 30},
	}
}

func fakeWork() []*pb.WorkView {
	return []*pb.WorkView{
		{Id: 90000, Vm: "11111111-1111-4111-8111-111111111111", VmName: "db-1", Type: "HA", Step: "Done", Attempt: 1, Reason: "crashed", From: "h1", Target: "h1", Incarnation: "1.3", CreatedUnixNs: ago(50*time.Hour + 8*time.Second), EndedUnixNs: ago(50 * time.Hour), LostUnixNs: ago(50*time.Hour + 10*time.Second), Outcome: "running on h1", Index: 90},
		{Id: 140000, Vm: "22222222-2222-4222-8222-222222222222", VmName: "web-1", Type: "HA", Step: "Restarting", Attempt: 1, Reason: "host h2 is down", From: "h2", Target: "h1", Incarnation: "1.8", CreatedUnixNs: ago(11 * time.Second), UpdatedUnixNs: ago(8 * time.Second), LostUnixNs: ago(15 * time.Second), WhyTarget: "most free memory of 1 eligible host", Index: 140},
	}
}

func fakeAlerts() []*pb.AlertView {
	return []*pb.AlertView{
		{Id: 90001, Type: "vm-restarted", Subject: "db-1", Cause: "crashed", State: "resolved", Severity: "warning", Text: "db-1 crashed and was restarted on h1", Count: 1, FirstUnixNs: ago(50 * time.Hour), LastUnixNs: ago(50 * time.Hour), ResolvedUnixNs: ago(50 * time.Hour), Resolution: "running on h1"},
		{Id: 137001, Type: "host-down", Subject: "h2", Cause: "silent", State: "open", Severity: "critical", Text: "host h2 is down", Count: 3, FirstUnixNs: ago(12 * time.Second), LastUnixNs: ago(9 * time.Second)},
	}
}

func fakeEvents() []*pb.EventView {
	return []*pb.EventView{
		{Id: 137000, Index: 137, TimeUnixNs: ago(12 * time.Second), Type: "HOST.DOWN", Level: "error", Actor: "leader n1", Subject: "h2", Text: "silent for 4 beats"},
		{Id: 138000, Index: 138, TimeUnixNs: ago(9 * time.Second), Type: "HOST.FENCED", Level: "warn", Actor: "leader n1", Subject: "h2", Text: "BMC read off twice"},
		{Id: 140000, Index: 140, TimeUnixNs: ago(8 * time.Second), Type: "VM.ORDERED", Level: "info", Actor: "leader n1", Subject: "web-1", Text: "start on h1, incarnation 1.8"},
	}
}
