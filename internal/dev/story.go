package dev

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	pb "lifeboat/api/lifeboat/v1"
)

// Teller writes lines for people. Colours only where they are wanted.
type Teller struct {
	Out   io.Writer
	Color bool
}

type tone string

const (
	plain tone = ""
	faint tone = "2"
	bold  tone = "1"
	good  tone = "32"
	warn  tone = "33"
	bad   tone = "31"
)

func (t Teller) paint(c tone, text string) string {
	if !t.Color || c == plain {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// Line writes one line.
func (t Teller) line(c tone, format string, args ...any) {
	fmt.Fprintln(t.Out, t.paint(c, fmt.Sprintf(format, args...)))
}

// Title begins a chapter.
func (t Teller) title(format string, args ...any) {
	fmt.Fprintln(t.Out)
	t.line(bold, format, args...)
}

// story follows a cluster and tells what happens there.
type story struct {
	room  *Room
	to    Teller
	stamp func(time.Time) string // what stands before a line that tells of this time

	after  uint64              // newest event that was told
	seen   map[string]string   // work item/attempt → target that was told
	leader string              // that was told
	quiet  map[string]bool     // hosts whose silence was told
	times  map[string]sighting // host → when what was seen
}

// sighting is what the story noticed about the death of a host.
type sighting struct {
	down, fenced time.Time
}

func (r *Room) newStory(ctx context.Context, to Teller, stamp func(time.Time) string) (*story, error) {
	s := &story{room: r, to: to, stamp: stamp, seen: map[string]string{}, quiet: map[string]bool{}, times: map[string]sighting{}}
	var err error
	if s.after, err = r.cluster.lastEvent(ctx); err != nil {
		return nil, err
	}
	st, err := r.cluster.status(ctx)
	if err != nil {
		return nil, err
	}
	s.leader = st.LeaderId
	work, err := r.cluster.work(ctx)
	for _, w := range work {
		s.seen[attempt(w)] = w.Target
	}
	return s, err
}

func (s *story) tell(at time.Time, c tone, format string, args ...any) {
	s.to.line(c, "  %s  %s", s.stamp(at), fmt.Sprintf(format, args...))
}

// step waits a little for something new and tells it.
func (s *story) step(ctx context.Context, wait time.Duration) error {
	events, err := s.room.cluster.events(ctx, s.leader, s.after, wait)
	if err != nil {
		return err
	}
	s.leadership(ctx)
	for _, e := range events {
		s.after = e.Id
		s.event(ctx, e)
	}
	s.placements(ctx)
	s.silence(ctx)
	return nil
}

// event tells one, if it is part of the story: alerts and work items repeat
// what others say.
func (s *story) event(ctx context.Context, e *pb.EventView) {
	at := time.Unix(0, e.TimeUnixNs)
	host := strings.TrimPrefix(e.Subject, "host ")
	seen := s.times[host]
	c := plain
	text := e.Text
	switch e.Type {
	case "HOST.SUSPECT", "NODE.DOWN", "HOST.DISCONNECT", "HOST.REBOOT", "VM.STOP", "VM.MISSING", "WORK.WAIT", "WORK.CANCEL", "VM.WITHDRAW", "VM.MIGRATE", "BRAKE.OFF", "HA.DISARM":
		c = warn
	case "HOST.EVIDENCE":
		c, text = faint, "evidence about "+host+": "+e.Text
	case "HOST.DOWN":
		c, seen.down = bad, at
	case "HOST.FENCED":
		c, seen.fenced = bad, at
		text, _, _ = strings.Cut(text, "; machine ") // its UUID is for machines
	case "HOST.FENCE.FAIL", "HOST.DEGRADED", "WORK.ERROR", "VM.DUPLICATE", "VM.CONTRADICTION", "BRAKE.ON":
		c = bad
	case "VM.START":
		s.placements(ctx) // where it was sent, before that it arrived
		c = good
	case "HOST.UP", "NODE.UP", "HA.ARM":
		c = good
	case "VM.REMOVED", "VM.RELEASE", "HOST.CONNECT", "HOST.RESOURCE", "WORK.RETRY":
	default:
		return
	}
	s.times[host] = seen
	s.tell(at, c, "%s", text)
}

func attempt(w *pb.WorkView) string { return fmt.Sprintf("%d/%s", w.Id, w.Incarnation) }

// placements tells where VMs are sent, and why there.
func (s *story) placements(ctx context.Context) {
	work, err := s.room.cluster.work(ctx)
	if err != nil {
		return // the next look tells it
	}
	for _, w := range work {
		if w.Target == "" || s.seen[attempt(w)] == w.Target {
			continue
		}
		s.seen[attempt(w)] = w.Target
		at := time.Now()
		if w.EndedUnixNs == 0 {
			at = time.Unix(0, w.UpdatedUnixNs)
		} else if f := s.times[w.From].fenced; !f.IsZero() {
			at = f
		}
		s.tell(at, plain, "VM %s is to start on host %s (incarnation %s): %s", w.VmName, w.Target, w.Incarnation, w.WhyTarget)
	}
}

// leadership tells when another node leads.
func (s *story) leadership(ctx context.Context) {
	for _, name := range s.room.cluster.running() {
		st, err := askNode(ctx, s.room.cluster, name, 0, api.Status, &pb.StatusRequest{Stale: true})
		if err != nil || st.LeaderId == "" || st.LeaderId == s.leader || s.room.machine(st.LeaderId) == nil || !s.room.machine(st.LeaderId).nodeRuns() {
			continue
		}
		s.leader = st.LeaderId
		s.tell(time.Now(), good, "management node %s leads now (term %d)", st.LeaderId, st.Term)
		return
	}
}

// silentAfter is when a host is worth a word: it has missed a beat, and has not
// been reported as suspect yet.
const silentAfter = 1500 * time.Millisecond

func (s *story) silence(ctx context.Context) {
	hosts, err := s.room.cluster.hosts(ctx)
	if err != nil {
		return
	}
	for _, h := range hosts {
		quiet := time.Duration(h.LastContactMs) * time.Millisecond
		if h.Status != "Up" || h.Ha != "Available" || quiet < silentAfter {
			if h.Status == "Up" && quiet < silentAfter {
				s.quiet[h.Id] = false
			}
			continue
		}
		if !s.quiet[h.Id] {
			s.quiet[h.Id] = true
			s.tell(time.Now(), plain, "host %s is silent: last heard %.1f s ago", h.Id, quiet.Seconds())
		}
	}
}
