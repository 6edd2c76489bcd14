package main

import "slices"

// Packages whose tests are tried, from cheap to dear.
const (
	inFSM     = "./fsm ./sim"
	inHA      = "./ha ./sim"
	inCore    = "./fsm ./ha ./sim"
	inSession = "./agent/session ./sim"
	inNode    = "./node"
	inFence   = "./fence ./fence/redfish"
	inHook    = "./agent/hook"

	inHeartbeat = "./agent/heartbeat"
)

// mutations are in the order of the rules.
func mutations() []mutation {
	return slices.Concat(ownership(), proof(), reading(), membership())
}
