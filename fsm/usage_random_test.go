package fsm

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// randomUsage is a command about usage. What it tells is mostly of the last minutes,
// in no order, some of it twice; windows are of seconds, or of a month that is so long
// ago that it may be given up.
func randomUsage(c chooser, s *State) proto.Message {
	account := func() *logpb.UsageAccount {
		return &logpb.UsageAccount{Domain: pick(c, "", "ROOT"), Account: pick(c, "a", "a", "b", ""), Project: pick(c, "", "", "p")}
	}
	ids := func() (out [][]byte) {
		for n := 1; n <= randomVMs; n++ {
			if c.odds(2) {
				out = append(out, idBytes(n))
			}
		}
		return out
	}
	last := s.LastUsageWindow()
	switch c(12) {
	case 0, 1, 2, 3:
		x := &logpb.UsageEvents{Repair: pick(c, "", "", "", "ticket 1")}
		for range 1 + c(4) {
			e := &logpb.UsageEvent{Id: fmt.Sprint("e", c(25)), Type: pick(c, "LB.CREATE", "LB.CREATE", "LB.DELETE", "VOLUME.CREATE", "VOLUME.RESIZE", "VOLUME.DELETE", "GPU.ASSIGN", "GPU.RELEASE"),
				Resource: pick(c, "1", "2", "3", testVM(1).String()), Account: account(), TimeUnixNs: s.Time - int64(c(60)-2)*int64(time.Second)}
			if c.odds(10) {
				e.TimeUnixNs = pick(c, 0, s.Time-int64(100*24*time.Hour), s.Time+int64(2*time.Hour))
			}
			if c.odds(2) {
				e.Detail = &logpb.UsageDetail{Size: uint64(c(3)), Name: pick(c, "", "n")}
			}
			x.Events = append(x.Events, e)
		}
		return x
	case 4, 5:
		x := &logpb.UsageClose{Zone: "UTC", Unit: "hour"}
		at, step := s.Time-int64(c(60))*int64(time.Second), int64(time.Second)
		if c.odds(2) {
			at -= int64(150 * 24 * time.Hour)
		}
		if last != nil && !c.odds(8) {
			at = last.End
		}
		if s.Time-at > int64(24*time.Hour) {
			step = int64(10 * 24 * time.Hour)
		}
		for range 1 + c(3) {
			end := min(at+int64(1+c(3))*step, s.Time+int64(c(2)))
			x.Windows = append(x.Windows, &logpb.UsageSpan{StartUnixNs: at, EndUnixNs: end})
			at = end
		}
		return x
	case 6:
		x := &logpb.UsageTrim{BeforeUnixNs: s.Time - int64(100*24*time.Hour)}
		for start := range s.UsageWindows(0) {
			x.BeforeUnixNs = start
			if c.odds(3) {
				break
			}
		}
		for k := range s.UsageResources(UsageKey{}) {
			if c.odds(2) {
				x.Keys = append(x.Keys, &logpb.UsageKey{Type: k.Type, Resource: k.Resource})
			}
		}
		return x
	case 7:
		return &logpb.UsageAccountSet{Account: account(), RemovedUnixNs: pick(c, 0, s.Time, s.Time-int64(10*time.Second))}
	case 8:
		return &logpb.UsageSync{Vms: ids()}
	case 9:
		return &logpb.UsageOwnerSet{Vm: idBytes(1 + c(randomVMs+1)), Account: account()}
	case 10:
		return &logpb.UsageTypeSet{Id: pick(c, uint32(1000), 1000, 1001, 11), Name: pick(c, "GPU", "GPU", "RUNNING_VM"), Opens: []string{"GPU.ASSIGN"},
			Closes: pick(c, []string{"GPU.RELEASE"}, []string{"LB.DELETE"}, nil), Remove: c.odds(4)}
	}
	switch c(3) {
	case 0:
		return &logpb.PolicySet{Settings: []*logpb.Setting{{Key: "usage_account", Value: pick(c, "default", "ROOT/b", "a")}}}
	case 1:
		return &logpb.PolicySet{Settings: []*logpb.Setting{{Key: "usage_vms", Value: "false"}}}
	}
	return &logpb.PolicySet{Settings: []*logpb.Setting{{Key: "usage_vms", Value: "true"}}}
}

// usageFollows: while usage of VMs is counted, whatever changes a VM changes its usage
// in the same entry. Only a new account for all of them is left to the leader.
func usageFollows(before, after *State, body proto.Message) error {
	if _, ok := body.(*logpb.PolicySet); ok || !before.Policy.UsageVMs || !after.Policy.UsageVMs || after.Level < LevelPolicy {
		return nil
	}
	was := map[VMID]bool{}
	for _, id := range before.UsageAstray(0, randomVMs+1) {
		was[id] = true
	}
	for _, id := range after.UsageAstray(0, randomVMs+1) {
		if !was[id] {
			v, h := after.VM(id)
			return fmt.Errorf("the usage of VM %s is not what the state says of it: %+v on %+v, charges %+v", id, v, h, after.vmCharges(id))
		}
	}
	return nil
}
