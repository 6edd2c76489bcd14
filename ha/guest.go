package ha

import (
	"fmt"
	"strings"
	"time"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// Guest is what the newest report of its host says of the guest of a VM that is watched,
// when it may hang, or is known to have hung.
type Guest struct {
	VM          fsm.VMID
	Incarnation fsm.Incarnation // that it is said of
	Heard       bool            // its agent has answered the agent of the host that runs now
	Silent      time.Duration   // its agent has been asked in vain for so long; 0 = it answers
	Watchdog    time.Duration   // so long ago its watchdog has fired; 0 = it has not, or the guest has shown life since
	Paused      bool            // its watchdog has paused it, and it stands still
}

// watchdogNews is for how long it is news that a watchdog has fired: a change of leader is
// over by then, and a host that was disabled for a moment is enabled again.
const watchdogNews = 5 * time.Minute

// hung is a guest that hangs and whose VM may be restarted.
type hung struct {
	h      *fsm.Host
	v      *fsm.VM
	act    uint32
	why    string
	paused bool // by its watchdog
}

// guests restarts VMs whose guests hang. What a host says of them is evidence of this
// moment: a new leader has it with the next reports, and nothing of it is in the log
// before it is acted on. Where so many hang at once that what they have in common must be
// suspected, a storage or a machine that stood still, nobody is restarted: that would
// harm more than it mends (S17 is the same thought about hosts).
func (d *decision) guests() {
	if !d.s.Armed || d.s.Level < fsm.LevelPolicy || len(d.guested) == 0 {
		return
	}
	d.wake(d.now.Mono + d.p.Beat) // it goes on, or ends
	var all []hung
	at := map[fsm.HostID]int{} // that hang, or are about to
	for _, w := range d.works {
		if w.Cause.Hang() {
			at[w.From]++
		}
	}
	for _, x := range d.guested {
		for _, g := range x.c.Guests {
			v := x.h.VM(g.VM)
			if v == nil || v.Incarnation != g.Incarnation {
				continue
			}
			if w := d.s.Work(v.Work); d.alarming(v, g) && v.Protected() && !d.s.GaveUpOnGuest(v) && (w == nil || !w.Cause.Hang()) {
				at[x.h.ID]++ // one that is being restarted is counted, and one that was given up hangs of its own cause
			}
			if act, why := d.hangs(v, g); act != 0 {
				all = append(all, hung{x.h, v, act, why, g.Paused})
			} else if a := d.s.GuestAlert(v); a != nil && well(a, v, g) {
				d.aboutGuest(v, fsm.GuestWell, "its agent answers, or it runs on")
			}
		}
	}
	many := d.tooMany(at)
	for _, x := range all {
		switch {
		case !d.s.ActsOnGuest(x.v, x.h) || d.goals[x.v.ID] != "":
		case x.act == fsm.GuestLeft:
			d.leaveGuest(x, x.why)
		case many(x.h):
			d.leaveGuest(x, "too many guests hang at once (brake_min, brake_percent): what they have in common is to be looked for first")
		case d.triedOut(x):
			d.leaveGuest(x, "it was restarted on this host as often as it may be there (max_restart), and no other host can take it")
		default:
			d.aboutGuest(x.v, x.act, x.why)
		}
	}
}

// hangs judges the evidence about a guest: how it hangs, if it does. One whose agent has
// never answered since it runs is not judged by that, unless it cannot: its watchdog has
// paused it. What a watchdog said too long ago is
// told to people, who can look: the guest may be well again, and has no agent to say so.
func (d *decision) hangs(v *fsm.VM, g Guest) (act uint32, why string) {
	w := v.Guest()
	fired, counts := d.fired(v, g)
	switch {
	case g.Paused && w.Watch == 0:
		return fsm.GuestLeft, pausedUnwatched
	case g.Paused && w.Watch&fsm.WatchWatchdog == 0:
		return fsm.GuestSilent, pausedText + ", and its agent answers nobody"
	case g.Paused:
		return fsm.GuestWatchdog, pausedText
	case counts:
		return fsm.GuestWatchdog, "its watchdog has fired"
	}
	patience := w.Timeout
	if !g.Heard {
		patience += w.Grace // it may have booted behind the back of an agent that is new
	}
	if w.Watch&fsm.WatchPing != 0 && v.Answers && g.Silent >= patience && d.now.Wall-v.Since >= int64(w.Grace) {
		return fsm.GuestSilent, fmt.Sprintf("its agent has been silent for %s", g.Silent.Round(time.Second))
	}
	if fired {
		return fsm.GuestLeft, firedLongAgo
	}
	return 0, ""
}

// firedLongAgo is why a guest is left as it is whose watchdog is no reason any more.
const firedLongAgo = "its watchdog fired too long ago for a restart that nobody asked for, and the guest has not shown since that it is well; look at its console, and restart it or clear the alert"

// pausedText is in the reason of whatever is done or left because a guest stands still; by
// it an alert is known that ends when the guest runs on.
const pausedText = "its watchdog has paused it"

// pausedUnwatched is why a guest is left as it is that stands still and that nobody is to restart.
const pausedUnwatched = pausedText + ", and nothing is to restart it for that (guest_health is none for it); look at its console, and resume or restart it"

// fired reports whether the watchdog of a guest has fired, and whether that counts: as long
// as it is news, and when it was news as the alert was raised that the guest is left as it
// is, within the policy's guest_window. The alert is in the log: whatever held the restart
// back, and whoever leads when that is over, the evidence is as good as it was.
func (d *decision) fired(v *fsm.VM, g Guest) (fired, counts bool) {
	at := d.now.Wall - int64(g.Watchdog)
	if v.Guest().Watch&fsm.WatchWatchdog == 0 || g.Watchdog == 0 || v.Hangs != nil && at <= v.Hangs.Settled {
		return false, false
	}
	if g.Watchdog <= watchdogNews {
		return true, true
	}
	a := d.s.GuestAlert(v)
	return true, a != nil && a.Opened()-at <= int64(watchdogNews) && g.Watchdog <= d.p.GuestWindow
}

// well reports whether what is said of a guest ends the alert about it: its agent answers,
// or it was paused and runs on.
func well(a *fsm.AlertRecord, v *fsm.VM, g Guest) bool {
	if g.Paused || g.Silent != 0 || g.Watchdog != 0 {
		return false
	}
	return v.Guest().Watch&fsm.WatchPing != 0 && g.Heard || strings.Contains(a.Text, pausedText)
}

// alarming reports whether a guest hangs, or is half-way to it: those that hang of one
// cause are not judged in the same moment.
func (d *decision) alarming(v *fsm.VM, g Guest) bool {
	w := v.Guest()
	_, counts := d.fired(v, g)
	return counts || w.Watch != 0 && g.Paused || w.Watch&fsm.WatchPing != 0 && v.Answers && g.Silent >= w.Timeout/2
}

// tooMany reports of each host whether more guests hang at once, there or in the whole
// cluster, than the brake lets through.
func (d *decision) tooMany(at map[fsm.HostID]int) func(*fsm.Host) bool {
	all := 0
	for _, n := range at { // in any order
		all += n
	}
	if all <= d.p.BrakeMin {
		return func(*fsm.Host) bool { return false }
	}
	on, watched := map[fsm.HostID]int{}, 0
	for id, h := range d.s.Hosts() {
		for i := range h.VMs {
			if v := &h.VMs[i]; v.Power == fsm.PowerOn && v.Protected() && v.Guest().Watch != 0 {
				on[id]++
			}
		}
		watched += on[id]
	}
	over := func(hang, of int) bool { return hang > max(d.p.BrakeMin, of*d.p.BrakePercent/100) }
	return func(h *fsm.Host) bool { return over(all, watched) || over(at[h.ID], on[h.ID]) }
}

// triedOut reports whether a VM may be restarted elsewhere only, and nobody can take it:
// it would be stopped for nothing.
func (d *decision) triedOut(x hung) bool {
	restarts, relocates := d.p.Limits(x.v)
	w := &fsm.Work{VM: x.v.ID, Type: fsm.WorkHA, Cause: fsm.CauseGuestSilent, From: x.h.ID, Tried: d.s.TriedGuest(x.v, x.h.ID)}
	var spent uint32
	for _, t := range w.Tried {
		if t.Count > restarts {
			spent++
		}
	}
	if w.TriedOn(x.h.ID) <= restarts || spent > relocates {
		return false // here again, or nowhere any more
	}
	t, _, full := d.placer().find(job{vm: x.v, owner: x.h, work: w, gone: true})
	return t == nil && !full
}

// leaveGuest tells people that a guest hangs and is left as it is, when that is news.
func (d *decision) leaveGuest(x hung, why string) {
	if x.paused && !strings.Contains(why, pausedText) {
		why = pausedText + "; " + why
	}
	if a := d.s.GuestAlert(x.v); a == nil || !strings.Contains(a.Text, why) {
		d.aboutGuest(x.v, fsm.GuestLeft, why)
	}
}

func (d *decision) aboutGuest(v *fsm.VM, action uint32, why string) {
	d.do(&logpb.Command{Body: &logpb.Command_VmGuest{VmGuest: &logpb.VMGuest{
		Vm: v.ID[:], Incarnation: uint64(v.Incarnation), Action: action, Reason: why}}})
}

// guestLine says how the guest of a VM is watched, and what came of it; "" when nobody
// watches it.
func guestLine(s *fsm.State, v *fsm.VM) string {
	g := v.Guest()
	if g.Watch == 0 {
		if a := s.GuestAlert(v); a != nil {
			return a.Text
		}
		return ""
	}
	var how []string
	if g.Watch&fsm.WatchPing != 0 {
		agent := "has answered since it runs"
		if !v.Answers {
			agent = "has not answered since it runs, and is not judged before it has"
		}
		how = append(how, fmt.Sprintf("its agent (which %s) is silent for %s, not within %s of a start", agent, g.Timeout, g.Grace))
	}
	if g.Watch&fsm.WatchWatchdog != 0 {
		how = append(how, "its watchdog fires")
	}
	text := fmt.Sprintf("Its guest is watched: it is restarted when %s.", strings.Join(how, ", or when "))
	if a := s.GuestAlert(v); a != nil {
		return text + " " + a.Text
	}
	if n := s.HungTimes(v); n > 0 {
		text += fmt.Sprintf(" It has hung %d times, less than %s (guest_window) apart.", n, s.Policy.GuestWindow)
	}
	return text
}
