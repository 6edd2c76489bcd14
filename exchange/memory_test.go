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
