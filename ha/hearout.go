package ha

import (
	"time"

	"lifeboat/fsm"
)

// hearOut is how long a leader that has just begun to listen waits for hosts to
// report before it starts what was lost. They try again every second; one that
// reaches no manager is not waited for any longer.
const hearOut = 10 * time.Second

// hearing reports whether some host, other than the one a VM was lost with, has yet
// to be heard out by this leader. While nobody led, somebody may have migrated the
// VM away: that its old host is dead, or has rebooted, is true then and proves
// nothing. Only the host where it runs can say so (S2, S18).
func (d *decision) hearing(lost fsm.HostID) bool {
	end := d.soft.Since + hearOut
	if d.now.Mono >= end {
		return false
	}
	if d.unheard == nil {
		d.unheard = d.notHeard()
	}
	if len(d.unheard) == 0 || len(d.unheard) == 1 && d.unheard[0] == lost {
		return false
	}
	d.wake(min(end, d.now.Mono+d.p.Beat))
	return true
}

// notHeard are the hosts that were thought to be alive when this leader began to
// listen, and have not reported since.
func (d *decision) notHeard() []fsm.HostID {
	began := d.now.Wall - int64(d.now.Mono-d.soft.Since)
	out := []fsm.HostID{}
	contact := d.each()
	for id, h := range d.s.Hosts() {
		c := contact(h)
		alive := h.Status == fsm.Up || h.Status == fsm.Connecting || h.Status == fsm.Alert && h.Since >= began
		if alive && (c.Absorbed == 0 || c.Heard < d.soft.Since) {
			out = append(out, id)
		}
	}
	return out
}
