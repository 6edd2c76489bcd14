package ha

import (
	"slices"

	"lifeboat/fsm"
)

// maxWitnesses is among how many hosts one is looked for that shares a directory
// with a silent host.
const maxWitnesses = 256

// beats are the shared directories in which a silent host may still show that it
// lives.
func beats(h *fsm.Host) (ids []string) {
	if h.Inventory == nil {
		return nil
	}
	for _, b := range h.Inventory.Beats {
		ids = append(ids, b.ID)
	}
	return ids
}

// witnesses adds hosts to the peers, so that somebody who reaches it himself
// reads each of the directories. A directory that only the silent host knows
// says nothing, nor does one that is down at everybody else.
func (d *decision) witnesses(about fsm.HostID, peers []fsm.HostID, dirs []string) []fsm.HostID {
	reads := func(id fsm.HostID, dir string) bool {
		h := d.s.Host(id)
		return h.Inventory != nil && slices.ContainsFunc(h.Inventory.Beats, func(b fsm.Storage) bool { return b.ID == dir && b.Up })
	}
	for _, dir := range dirs {
		if slices.ContainsFunc(peers, func(id fsm.HostID) bool { return reads(id, dir) }) {
			continue
		}
		for _, id := range d.following(about, maxWitnesses) {
			if reads(id, dir) {
				peers = append(peers, id)
				break
			}
		}
	}
	return peers
}
