package incident

import (
	"fmt"
	"strings"
	"testing"

	"lifeboat/fsm"
)

// The time of a VM is divided by what it waited for; whatever order things come in,
// there is no gap and nothing counts twice.
func TestSpans(t *testing.T) {
	for name, x := range map[string]struct {
		cause  fsm.Cause
		ended  bool
		events string // type, second
		want   string
	}{
		"a dead host": {fsm.CauseHostDown, true, "HOST.SUSPECT 3, HOST.EVIDENCE 4, HOST.DOWN 5, WORK.OPEN 5, HOST.FENCE.ATTEMPT 6, HOST.FENCED 9, VM.START.ORDER 9, HOST.UP 12, WORK.DONE 20",
			"detection 0-3, evidence 3-5, proof of death 5-9, start 9-20"},
		"a start that fails": {fsm.CauseHostDown, true, "HOST.SUSPECT 3, HOST.DOWN 5, HOST.FENCED 9, WORK.WAIT 10, VM.START.ORDER 11, VM.START.FAIL 13, VM.START.ORDER 18",
			"detection 0-3, evidence 3-5, proof of death 5-9, placement 9-11, start 11-13, placement 13-18, start 18-20"},
		"a start that is withdrawn": {fsm.CauseCrash, true, "WORK.OPEN 1, VM.START.ORDER 2, VM.WITHDRAW 8, VM.START.ORDER 12", "detection 0-1, placement 1-2, start 2-8, giving up 8-12, start 12-20"},
		"the target dies as well":   {fsm.CauseHostDown, true, "HOST.DOWN 1, HOST.FENCED 2, VM.START.ORDER 2, HOST.DOWN 6, HOST.FENCED 9, VM.START.ORDER 10", "detection 0-1, proof of death 1-2, start 2-6, proof of death 6-9, placement 9-10, start 10-20"},
		"a reboot":                  {fsm.CauseHostReboot, true, "HOST.REBOOT 4, WORK.OPEN 4, VM.START.ORDER 4", "detection 0-4, start 4-20"},
		"the host reboots later":    {fsm.CauseHostDown, true, "HOST.DOWN 1, HOST.FENCED 2, VM.START.ORDER 3, HOST.REBOOT 8", "detection 0-1, proof of death 1-2, placement 2-3, start 3-20"},
		"a missing VM":              {fsm.CauseMissing, true, "WORK.OPEN 0, VM.RELEASE 7, VM.START.ORDER 8", "search 0-7, placement 7-8, start 8-20"},
		"one that is searched for":  {fsm.CauseMissing, false, "WORK.OPEN 0", "search 0-30 still"},
		"one that waits":            {fsm.CauseHostDown, false, "HOST.DOWN 2, HOST.FENCED 4, WORK.WAIT 5", "detection 0-2, proof of death 2-4, placement 4-30 still"},
		"nothing is kept of it":     {fsm.CauseHostDown, true, "", "detection 0-20"},
	} {
		w := &fsm.Work{Cause: x.cause, Step: fsm.Restarting}
		if x.ended {
			w.Step, w.Ended = fsm.Done, 20
		}
		var events []*fsm.Event
		for text := range strings.SplitSeq(x.events, ", ") {
			e := &fsm.Event{}
			if _, err := fmt.Sscan(text, &e.Type, &e.Time); err == nil {
				events = append(events, e)
			}
		}
		var got []string
		for _, s := range spans(w, events, 30) {
			text := fmt.Sprintf("%s %d-%d", s.Phase, s.From, s.To)
			if s.Open {
				text += " still"
			}
			got = append(got, text)
		}
		if have := strings.Join(got, ", "); have != x.want {
			t.Errorf("%s:\n got %s\nwant %s", name, have, x.want)
		}
	}
}
