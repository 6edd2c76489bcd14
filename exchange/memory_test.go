package exchange

import (
	"bytes"
	"testing"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
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
