package agent

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"lifeboat/agent/heartbeat"
	"lifeboat/agent/session"
	lifeboatv1 "lifeboat/api/lifeboat/v1"
)

// beat begins to write heartbeats into the shared directories. Nobody waits for
// the writers: a directory may hang for ever.
func (a *agent) beat(boot string) {
	for _, dir := range a.cfg.HeartbeatDirs {
		d := heartbeat.New(dir)
		a.beats = append(a.beats, d)
		go d.Write(a.ctx, a.cfg.HostID, boot, uint64(rand.Uint32()))
	}
	if len(a.beats) > 0 {
		a.wg.Go(a.watchBeats)
	}
}

// watchBeats tells the session which directories take beats, when that changes.
func (a *agent) watchBeats() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var told []session.Beat
	for {
		var now []session.Beat
		for _, d := range a.beats {
			s := d.State()
			now = append(now, session.Beat{Path: s.Path, Up: s.Up})
			if was := slices.IndexFunc(told, func(b session.Beat) bool { return b.Path == s.Path && b.Up }); was >= 0 && !s.Up {
				a.log.Warn("the heartbeat cannot be written", "dir", s.Path, "reason", s.Failure)
			}
		}
		if !slices.Equal(now, told) {
			told = now
			a.tell(func(s *session.Session, t session.Instant) session.Out { return s.Beats(t, now) })
		}
		select {
		case <-a.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// readBeats looks for the heartbeats of a silent host in the directories that
// this host shares with it.
func (a *agent) readBeats(ctx context.Context, p *lifeboatv1.Probe) []*lifeboatv1.BeatSeen {
	answers := make(chan *lifeboatv1.BeatSeen, len(a.beats))
	asked := 0
	for _, d := range a.beats {
		if !slices.Contains(p.Beats, d.Path()) {
			continue // only where an operator said so, whatever managers ask for
		}
		asked++
		go func() {
			moved, detail := d.Watch(ctx, p.HostId, p.BootId)
			answers <- &lifeboatv1.BeatSeen{Storage: d.Path(), Moved: moved, Detail: detail}
		}()
	}
	var seen []*lifeboatv1.BeatSeen
	for range asked {
		seen = append(seen, <-answers)
	}
	slices.SortFunc(seen, func(x, y *lifeboatv1.BeatSeen) int {
		return slices.Compare([]byte(x.Storage), []byte(y.Storage))
	})
	return seen
}
