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

// excuse is why a rule has no mutation.
type excuse struct{ rule, why string }

func untouched() []excuse {
	return []excuse{
		{"S7", "there is no migration of ours yet that could be switched off; one behind our back is adopted (S6)"},
	}
}

// mutations are in the order of the rules.
func mutations() []mutation {
	return slices.Concat(ownership(), proof(), reading(), membership())
}
