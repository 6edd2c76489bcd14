package exchange

import (
	"bytes"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// S6: a copy is judged by the disks it has, not by those of an earlier copy of
// the same VM on the same host.
func TestS6CopyIsNotJudgedByAnEarlierOne(t *testing.T) {
	id, first, other := fsm.VMID{1}, bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	twice := &fsm.Host{ID: "h2", Epoch: 1, Copies: []fsm.Copy{{VM: id}}}
	for name, later := range map[string]struct {
		h    *fsm.Host
		vms  []*lifeboatv1.VMReport
		kept bool
	}{
		"the same":              {twice, []*lifeboatv1.VMReport{{Id: id[:], SpecHash: first}}, true},
		"another definition":    {twice, []*lifeboatv1.VMReport{{Id: id[:], SpecHash: other}}, false},
		"a hash not read yet":   {twice, []*lifeboatv1.VMReport{{Id: id[:]}}, false},
		"not listed":            {twice, nil, false},
		"it has ended meantime": {&fsm.Host{ID: "h2", Epoch: 1}, []*lifeboatv1.VMReport{{Id: id[:], SpecHash: first}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var x Memory
			if !x.ReadCopy(twice, &lifeboatv1.VMSpec{Id: id[:], Hash: first, Disks: []*lifeboatv1.Disk{{Path: "/nfs/root", Storage: "nas:/vms@/nfs"}}}) {
				t.Fatal("it is no copy")
			}
			Diff(fsm.NewMachine().State(), later.h, &x, &lifeboatv1.ReportRequest{Vms: later.vms}, time.Hour)
			if _, kept := x.Copies()[id]; kept != later.kept {
				t.Fatalf("kept: %v", kept)
			}
		})
	}
}

// S6: a copy whose host lists it as absent is gone: an agent goes on listing what
// it has ever held.
func TestS6CopyThatIsListedAsAbsentIsGone(t *testing.T) {
	id := fsm.VMID{1}
	twice := &fsm.Host{ID: "h2", Epoch: 1, Copies: []fsm.Copy{{VM: id}}}
	for power, gone := range map[lifeboatv1.PowerState]bool{
		lifeboatv1.PowerState_POWER_STATE_ABSENT:   true,
		lifeboatv1.PowerState_POWER_STATE_ON:       false,
		lifeboatv1.PowerState_POWER_STATE_UNKNOWN:  false, // it may run
		lifeboatv1.PowerState_POWER_STATE_STARTING: false,
	} {
		d := Diff(fsm.NewMachine().State(), twice, &Memory{}, &lifeboatv1.ReportRequest{Vms: []*lifeboatv1.VMReport{{Id: id[:], Power: power}}}, time.Hour)
		if got := bytes.Equal(d.Report.Missing, id[:]); got != gone {
			t.Errorf("%s: gone: %v", power, got)
		}
	}
}

// S6: a domain that was told apart from the VM is judged anew when it is another
// one by now, in the report that shows it.
func TestS6WhatWasToldApartIsJudgedAnew(t *testing.T) {
	const on = lifeboatv1.PowerState_POWER_STATE_ON
	id, first, other := fsm.VMID{1}, bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	host := &fsm.Host{ID: "h2", Epoch: 1, Copies: []fsm.Copy{{VM: id, Apart: true, Name: "other", Hash: string(first)}}}
	for name, c := range map[string]struct {
		now  *lifeboatv1.VMReport
		read []byte // its definition since
		anew bool
	}{
		"the same":              {&lifeboatv1.VMReport{Name: "other", SpecHash: first}, nil, false},
		"read again":            {&lifeboatv1.VMReport{Name: "other", SpecHash: first}, first, false},
		"not read":              {&lifeboatv1.VMReport{Name: "other"}, nil, false},
		"another name":          {&lifeboatv1.VMReport{Name: "vm1", SpecHash: first}, nil, true},
		"another definition":    {&lifeboatv1.VMReport{Name: "other", SpecHash: other}, nil, true},
		"read, not yet hashed":  {&lifeboatv1.VMReport{Name: "other", SpecHash: first}, other, true},
		"nothing known of late": {&lifeboatv1.VMReport{}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			var x Memory
			if c.read != nil && !x.ReadCopy(host, &lifeboatv1.VMSpec{Id: id[:], Hash: c.read}) {
				t.Fatal("it is no copy")
			}
			c.now.Id, c.now.Power = id[:], on
			d := Diff(fsm.NewMachine().State(), host, &x, &lifeboatv1.ReportRequest{Vms: []*lifeboatv1.VMReport{c.now}}, time.Hour)
			entry := bytes.Equal(d.Report.Vms.GetIds(), id[:])
			if gone := bytes.Equal(d.Report.Missing, id[:]); gone != c.anew || c.anew && !entry {
				t.Errorf("judged anew: %v, with an entry: %v", gone, entry)
			}
		})
	}
}

// S6: what was told apart is read again for each work of the VM, and only what
// was read after that was asked for counts.
func TestS6WhatWasToldApartIsReadAgainForWork(t *testing.T) {
	id, hash := fsm.VMID{1}, bytes.Repeat([]byte{1}, 32)
	m, index := fsm.NewMachine(), uint64(0)
	apply := func(c *logpb.Command) {
		t.Helper()
		index++
		c.TimeUnixNs = int64(time.Hour)
		b, err := proto.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if no := m.Apply([]fsm.Entry{{Index: index, Term: 1, Data: b}})[0].Rejected; no != "" {
			t.Fatalf("%v: %s", c, no)
		}
	}
	apply(&logpb.Command{Body: &logpb.Command_ClusterInit{ClusterInit: &logpb.ClusterInit{ClusterId: "c"}}})
	for _, h := range []string{"h1", "h2"} {
		apply(&logpb.Command{Body: &logpb.Command_HostRegister{HostRegister: &logpb.HostRegister{Id: h, MachineId: h, BootId: h,
			Vms: &logpb.VMEntries{Ids: id[:], Power: []byte{byte(fsm.PowerOn)}, Reason: []byte{byte(fsm.ReasonBooted)}, Details: []*logpb.VMDetail{{Name: "vm1"}}}}}})
		if h == "h1" {
			apply(&logpb.Command{Body: &logpb.Command_VmSpecs{VmSpecs: &logpb.VMSpecs{Host: h, Epoch: 1, Specs: []*logpb.Spec{{Id: id[:], Name: "vm1", Hash: hash,
				Definition: []byte("<domain/>"), Protect: &logpb.Protection{On: true}}}}}})
		}
	}
	v, _ := m.State().VM(id)
	apply(&logpb.Command{Body: &logpb.Command_VmCopy{VmCopy: &logpb.VMCopy{Vm: id[:], Incarnation: uint64(v.Incarnation), Host: "h2", Epoch: 1,
		Action: fsm.CopyApart, Name: "other", Hash: hash}}})
	var x Memory
	now := time.Hour
	read := func() {
		t.Helper()
		if !x.ReadCopy(m.State().Host("h2"), &lifeboatv1.VMSpec{Id: id[:], Name: "other", Hash: hash}) {
			t.Fatal("it is no copy")
		}
	}
	report := func() (asked bool) {
		t.Helper()
		now += time.Second
		d := Diff(m.State(), m.State().Host("h2"), &x, &lifeboatv1.ReportRequest{Vms: []*lifeboatv1.VMReport{
			{Id: id[:], Name: "other", Power: lifeboatv1.PowerState_POWER_STATE_ON, SpecHash: hash}}}, now)
		if d.Changed() {
			t.Fatalf("%v", d.Report)
		}
		return len(d.Wanted) > 0
	}
	read()
	if report() {
		t.Fatal("it is asked for although nobody starts the VM")
	}
	apply(&logpb.Command{Body: &logpb.Command_HostReports{HostReports: &logpb.HostReports{Reports: []*logpb.HostReport{{Host: "h1", Epoch: 1, Seq: 1, Vms: &logpb.VMEntries{
		Ids: id[:], Power: []byte{byte(fsm.PowerOff)}, Reason: []byte{byte(fsm.ReasonMigrated)}, Incarnations: []uint64{uint64(v.Incarnation)}}}}}}})
	v, _ = m.State().VM(id)
	if v.Work == 0 || !report() {
		t.Fatalf("it is not asked for, work %d", v.Work)
	}
	if report() || x.Copies()[id].Work != 0 {
		t.Fatalf("asked at every turn, or what was read before counts: %+v", x.Copies()[id])
	}
	read()
	if report() || x.Copies()[id].Work != v.Work {
		t.Fatalf("%+v", x.Copies()[id])
	}
	d := Diff(m.State(), m.State().Host("h2"), &x, &lifeboatv1.ReportRequest{Seq: 1, Vms: []*lifeboatv1.VMReport{
		{Id: id[:], Name: "vm1", Power: lifeboatv1.PowerState_POWER_STATE_ON, SpecHash: hash}}}, now)
	apply(&logpb.Command{Body: &logpb.Command_HostReports{HostReports: &logpb.HostReports{Reports: []*logpb.HostReport{d.Report}}}})
	if _, owner := m.State().VM(id); owner.ID != "h2" {
		t.Errorf("it has come to h2, and is not adopted there: %v", d.Report)
	}
}
