package fsm

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm/logpb"
)

// rule writes or removes a rule, or raises the level that it takes.
func (c chooser) rule(s *State) proto.Message {
	switch c(6) {
	case 0:
		return &logpb.RuleRemove{Id: uint64(c(6))}
	case 1:
		return &logpb.FeatureRaise{Level: LevelPolicy, Version: "0.4"}
	}
	r := &logpb.Rule{Kind: uint32(c(5)), Strict: !c.odds(3)}
	for range c(4) {
		r.Vms = append(r.Vms, idBytes(1+c(randomVMs)))
	}
	for range c(3) {
		r.Hosts = append(r.Hosts, &logpb.HostChoice{Host: pick(c, string(c.hostID()), "rack=a"), Priority: int32(c(5) - 2)})
	}
	if r.Kind != uint32(RuleHosts) && !c.odds(10) {
		r.Hosts = nil
	}
	if c.odds(20) {
		r.Vms = append(r.Vms, []byte("no UUID"))
	}
	return &logpb.RuleAdd{Rule: r}
}

// vmGuest is a word about a guest.
func (c chooser) vmGuest(s *State) proto.Message {
	id := testVM(1 + c(randomVMs))
	v, _ := s.VM(id)
	return &logpb.VMGuest{Vm: id[:], Incarnation: uint64(c.incarnation(v)), Action: uint32(c(6)), Reason: "it is silent"}
}

// vmSet sets something of a VM.
func (c chooser) vmSet() proto.Message {
	x := &logpb.VMSet{Vm: idBytes(1 + c(randomVMs))}
	for range c(3) {
		key := pick(c, "depends_on", "depends_on", "gate", "gate_timeout", "priority", "ha", "max_restart", "nonsense", "guest_health", "guest_timeout", "guest_grace")
		value := map[string]string{"gate": pick(c, "order", "running", "30s", "-1s", "agent"), "gate_timeout": pick(c, "1m", "0"), "priority": pick(c, "high", "x"), "ha": pick(c, "restart", "always", "none"), "guest_health": pick(c, "none", "ping", "watchdog", "both", "x"), "guest_timeout": pick(c, "30s", "1s"), "guest_grace": pick(c, "1m", "x"), "max_restart": pick(c, "0", "2", "-1")}[key]
		if key == "depends_on" {
			value = testVM(1 + c(randomVMs+1)).String()
			if c.odds(4) {
				value = fmt.Sprintf("%s,%s", value, testVM(1+c(randomVMs)))
			}
		}
		x.Settings = append(x.Settings, &logpb.Setting{Key: key, Value: value})
	}
	return x
}
