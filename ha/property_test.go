package ha_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// Random faults in random worlds. The world itself checks that the leader never
// runs in circles, that Decide is a function of what it is given and changes
// nothing of it, that every state holds the invariants, and that no VM ever
// runs twice. Here: budgets hold, and when all is mended every VM runs again.
func TestRandomWorlds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		pick := func(n int, what string) int { return rapid.IntRange(0, n-1).Draw(rt, what) }
		hosts, vms := 3+pick(5, "hosts"), 1+pick(8, "vms")
		levels := [][]string{{"ipmi", "lease"}, {"ipmi"}, {"lease"}, {"ipmi", "redfish"}, {}}
		var boxes []*box
		for i := range hosts {
			boxes = append(boxes, newBox(fmt.Sprintf("h%d", i+1)).fenced(levels[pick(len(levels), "levels")]...).in([]string{"", "a", "b"}[pick(3, "rack")]))
		}
		for n := range vms {
			boxes[pick(hosts, "home")].guests[vmID(n+1)] = &guest{on: true, reason: fsm.ReasonBooted}
		}
		w := newWorld(rt, boxes...)
		w.set("starts_per_host", "2")
		w.set("starts_per_cluster", "3")
		budgets := func() bool {
			byHost, all := w.starts()
			for id, n := range byHost {
				if n > 2 {
					w.fatal("%d starts on %s", n, id)
				}
			}
			return all > 3+len(boxes) // orders on hosts that were away count when these are back
		}
		for range 3 + pick(12, "events") {
			b := boxes[pick(hosts, "host")]
			n := 1 + pick(vms, "vm")
			switch pick(16, "event") {
			case 0, 1:
				b.die()
			case 2, 3:
				if !b.power {
					b.back()
				}
			case 4, 5:
				b.cut()
			case 6:
				b.mute()
			case 7:
				b.unmute()
				b.seen = b.power
			case 8:
				b.bmc = []string{"ok", "dead", "errors", "ipmi errors"}[pick(4, "bmc")]
			case 9:
				if b.power && b.agent && w.host(b.id).Status == fsm.Up {
					b.stop()
				}
			case 10:
				if !b.agent {
					b.agent = true
					b.session++
				}
			case 11:
				w.elect(w.leader + "'")
			case 12:
				b.failing[vmID(n)] = pick(4, "failures")
			case 13:
				if _, h := w.vm(n); w.boxes[h.ID].guests[vmID(n)] != nil {
					w.crash(n)
				}
			case 14:
				if _, h := w.vm(n); w.boxes[h.ID].power {
					delete(w.boxes[h.ID].guests, vmID(n))
				}
			case 15:
				if b.storages["nfs"] {
					w.loseStorage(b.id)
				} else {
					b.storages["nfs"] = true
				}
			}
			w.never(time.Duration(pick(40, "pause"))*500*time.Millisecond, "starts beyond the budgets", budgets)
		}
		w.note("* everything is mended")
		w.set("place_unfenced", "true")
		for range 3 { // a fence that was in flight comes after the mending
			for _, b := range boxes {
				if !b.power {
					b.back()
				}
				if !b.agent {
					b.agent = true
					b.session++
				}
				b.unmute()
				b.bmc, b.storages["nfs"], b.failing = "ok", true, map[fsm.VMID]int{}
			}
			w.advance(30 * time.Second)
		}
		w.until(15*time.Minute, func() bool { return w.state().CountOpenWork() == 0 })
		for n := range vms {
			if v, _ := w.vm(n + 1); v.Error != "" {
				w.apply(&logpb.VMControl{Vm: vmBytes(n + 1), Action: fsm.VMClear})
			}
		}
		w.advance(time.Minute)
		w.must(15*time.Minute, "the end of all work", func() bool { return w.state().CountOpenWork() == 0 })
		for n := range vms {
			v, h := w.vm(n + 1)
			if g := w.boxes[h.ID].guests[v.ID]; v.Wanted && (v.Power != fsm.PowerOn || v.Stalled() || g == nil || !g.on) {
				w.fatal("vm%d does not run: %+v on %s", n+1, v, h.ID)
			}
		}
		w.told = nil
		w.advance(2 * time.Minute)
		if len(w.told) > 0 {
			w.fatal("something is still done: %v", w.told[0].cmd)
		}
	})
}
