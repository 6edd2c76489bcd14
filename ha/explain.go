package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"lifeboat/fsm"
)

// Line is one sentence of an explanation, with the log entry it rests on.
type Line struct {
	Index uint64 // 0: not about one entry
	Time  int64  // unix ns
	Text  string
}

// ExplainVM says what a VM's situation is and what led to it: the events of
// the VM, and those of every host it was on around the times of its work.
func ExplainVM(s *fsm.State, id fsm.VMID) []Line {
	v, owner := s.VM(id)
	if v == nil {
		return nil
	}
	out := []Line{{Text: situation(s, v, owner)}}
	about := map[string]bool{"vm " + v.Name: true}
	since := v.Since
	for _, w := range s.AllWork() {
		if w.VM != id {
			continue
		}
		since = min(since, w.Lost, w.Created)
		for _, h := range []fsm.HostID{w.From, w.Target} {
			if h != "" {
				about["host "+string(h)] = true
			}
		}
	}
	for _, text := range append(ruleLines(s, v), Dependencies(s, v)...) {
		out = append(out, Line{Text: text})
	}
	for _, text := range []string{Turn(s, v), guestLine(s, v), targets(s, v)} {
		if text != "" {
			out = append(out, Line{Text: text})
		}
	}
	return append(out, story(s, about, "vm "+v.Name, since-int64(time.Minute))...)
}

// ExplainHost says what a host's situation is and what led to it.
func ExplainHost(s *fsm.State, id fsm.HostID) []Line {
	h := s.Host(id)
	if h == nil {
		return nil
	}
	text := fmt.Sprintf("Host %s is %s (%s, HA %s), epoch %d, %d VMs, %d of them protected and not off.", h.ID, h.Status, h.Resource, h.HA, h.Epoch, len(h.VMs), h.RunsProtected())
	if why := Emptying(s, h); why != "" {
		text += " " + why
	}
	if h.Stopping != fsm.StaysUp {
		text += fmt.Sprintf(" Its operating system is %s, and its VMs are treated by %s (shutdown_policy).", h.Stopping, h.Held)
	}
	if h.Reason != "" {
		text += " Reason: " + h.Reason + "."
	}
	if h.Proof != nil && h.Status == fsm.Down {
		text += fmt.Sprintf(" It was proven dead by %s (%s): %s.", h.Proof.Kind, h.Proof.By, h.Proof.Detail)
	}
	if !h.Fenceable(s.Policy) && h.Status != fsm.Removed {
		text += " Nothing could prove it dead: VMs there wait for an operator if it dies."
	} else if d := DeathOf(s.Policy, h); d.Worst > 0 && !d.Unarmed && h.Status == fsm.Up && s.Armed {
		text += fmt.Sprintf(" If it dies, %s proves it, and its VMs are ordered to start after %s at the latest, not counting waits for room and for other VMs", d.By, d.Worst)
		if p := s.Policy.RecoveryObjective; p > 0 && d.Worst > p {
			text += fmt.Sprintf(", which misses the recovery_objective of %s", p)
		}
		text += "."
	}
	return append([]Line{{Text: text}}, story(s, map[string]bool{"host " + string(id): true}, "host "+string(id), 0)...)
}

// situation is the present in one sentence or two.
func situation(s *fsm.State, v *fsm.VM, owner *fsm.Host) string {
	var b strings.Builder
	fmt.Fprintf(&b, "VM %s ", v.Name)
	switch {
	case v.Power == fsm.PowerOn:
		fmt.Fprintf(&b, "runs on host %s", owner.ID)
	case v.Gone:
		fmt.Fprintf(&b, "runs nowhere; it was last on host %s", owner.ID)
	default:
		fmt.Fprintf(&b, "is %s on host %s", v.Power, owner.ID)
	}
	if v.Incarnation != 0 {
		fmt.Fprintf(&b, " at incarnation %s", v.Incarnation)
	}
	if v.Reason != fsm.ReasonNone {
		fmt.Fprintf(&b, " (%s)", v.Reason)
	}
	if v.Protected() {
		fmt.Fprintf(&b, "; protected by %s, wanted %s.", v.ProtectedBy, onOff(v.Wanted))
	} else {
		b.WriteString("; not protected: it is seen and never touched.")
	}
	if w := s.Work(v.Work); w != nil {
		switch {
		case w.Type == fsm.WorkMigration:
			fmt.Fprintf(&b, " Work %d migrates it live from host %s to host %s (%s): %s", w.ID, w.From, w.Target, w.Cause, w.Step)
		case w.Type == fsm.WorkRelocation:
			fmt.Fprintf(&b, " Work %d stops it on host %s to start it on host %s (%s): %s", w.ID, w.From, w.Target, w.Cause, w.Step)
		default:
			fmt.Fprintf(&b, " Work %d is %s since the VM was lost (%s)", w.ID, w.Step, w.Cause)
		}
		if w.Reason != "" {
			fmt.Fprintf(&b, ": %s", w.Reason)
		}
		b.WriteString(".")
	}
	if v.Home() != "" && !v.HAPolicy().Stays {
		fmt.Fprintf(&b, " It was moved away from host %s, and goes back when that host takes VMs again.", v.Home())
	}
	if a := s.OpenAlert(fsm.VMAlert(v, fsm.NotMoved)); a != nil {
		fmt.Fprintf(&b, " It failed to migrate %d times in a row; it is tried again with growing pauses where lifeboat wants it moved.", a.Count)
	}
	if v.Error != "" {
		fmt.Fprintf(&b, " HA gave up: %s. Mend the cause, then run `lifeboat vm clear %s`.", v.Error, v.Name)
	}
	if v.Spec != nil && len(v.Spec.Local) > 0 {
		fmt.Fprintf(&b, " It cannot start elsewhere: %s.", strings.Join(v.Spec.Local, ", "))
	}
	if owner.Status != fsm.Up {
		fmt.Fprintf(&b, " Host %s is %s", owner.ID, owner.Status)
		if owner.Reason != "" {
			fmt.Fprintf(&b, ": %s", owner.Reason)
		}
		b.WriteString(".")
	}
	return b.String()
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// maxStory is how many lines of history are told.
const maxStory = 100

// story picks the events about the subjects: all of the main one, those of the
// others only from since on, and without the ones about other VMs.
func story(s *fsm.State, about map[string]bool, main string, since int64) []Line {
	var out []Line
	for _, e := range s.EventsDown() {
		if !about[e.Subject] || e.Subject != main && e.Time < since {
			continue
		}
		out = append(out, Line{Index: e.Index, Time: e.Time, Text: e.Text})
		if len(out) == maxStory {
			break
		}
	}
	slices.Reverse(out)
	return out
}

const (
	// usualMove is how long a live migration is taken to last when none is remembered.
	usualMove = 30 * time.Second
	// rememberMoves are looked at to say how long one takes.
	rememberMoves = 20
)

// MoveTime is how long live migrations took lately; a guess when none is remembered.
func MoveTime(s *fsm.State) time.Duration {
	var sum time.Duration
	n := 0
	for _, w := range s.AllWork() {
		if w.Type == fsm.WorkMigration && w.Step == fsm.Done {
			sum += time.Duration(w.Ended - w.Created)
			if n++; n == rememberMoves {
				break
			}
		}
	}
	if n == 0 {
		return usualMove
	}
	return sum / time.Duration(n)
}

// Emptying says how far a host is that is to be empty, how long that will take, and
// what keeps it; "" when it is not.
func Emptying(s *fsm.State, h *fsm.Host) string {
	if h.Drain == nil && h.Resource != fsm.PrepareForMaintenance && h.Resource != fsm.ErrorInMaintenance {
		return ""
	}
	left := h.ToMove()
	total := left
	if h.Drain != nil {
		total = max(total, h.Drain.Total)
	}
	text := fmt.Sprintf("%d of %d VMs have been moved away", total-left, total)
	if left == 0 {
		return text + "."
	}
	if a := s.NotEmptied(h.ID); a != nil {
		return text + "; " + a.Text
	}
	rounds := (time.Duration(left) + time.Duration(s.Policy.MovesPerHost) - 1) / time.Duration(s.Policy.MovesPerHost)
	return text + fmt.Sprintf("; the others take about %s (%d at a time).", (rounds*MoveTime(s)).Round(time.Second), s.Policy.MovesPerHost)
}

// Staying says which VMs run on a host although it is, or is to be, in maintenance, and
// are not moved; "" = none, or it is not.
func Staying(h *fsm.Host) string {
	if h.Resource != fsm.Maintenance && h.Resource != fsm.PrepareForMaintenance && h.Resource != fsm.ErrorInMaintenance {
		return ""
	}
	const most = 8
	var names []string
	vms := h.Staying()
	for i, v := range vms {
		if i == most {
			names = append(names, fmt.Sprintf("%d more", len(vms)-i))
			break
		}
		names = append(names, v.Name)
	}
	switch all := strings.Join(names, ", "); len(vms) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("1 VM that is not protected still runs on host %s, which is %s: %s. It is not moved; stop it before the host goes down", h.ID, h.Resource, all)
	default:
		return fmt.Sprintf("%d VMs that are not protected still run on host %s, which is %s: %s. They are not moved; stop them before the host goes down", len(vms), h.ID, h.Resource, all)
	}
}
