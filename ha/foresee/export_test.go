package foresee

import (
	"lifeboat/fsm"
	"lifeboat/ha"
)

// FailWatched is Fail, and has every decision of it made by decide.
func FailWatched(s *fsm.State, hosts []fsm.HostID, decide func(*fsm.State, *ha.Soft, ha.Now) ha.Plan) *Plan {
	return fail(s.Fork(), hosts, Assumed{decide: decide}.filled(s))
}
