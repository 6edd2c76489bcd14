package exchange

import (
	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// Words are what an agent says with a report of its host as a whole, as far as it is
// news: that the machine goes down, and that HA being disarmed was acted on. They
// are committed before what the report says of VMs.
func Words(s *fsm.State, h *fsm.Host, req *lifeboatv1.ReportRequest) []*logpb.Command {
	var out []*logpb.Command
	if c := Stopping(s, h, req.MachineStop, req.Session); c != nil {
		out = append(out, c)
	}
	if s.NewlyHeeds(h, req.HaveAssignment, !req.GetLease().GetArmed()) {
		out = append(out, &logpb.Command{Body: &logpb.Command_HostHeeds{HostHeeds: &logpb.HostHeeds{Host: string(h.ID), Epoch: h.Epoch, Index: min(req.HaveAssignment, AssignmentIndex(s, h))}}})
	}
	return out
}

// Stopping is what is committed when the operating system of a host goes down; nil
// when that is no news.
func Stopping(s *fsm.State, h *fsm.Host, stop lifeboatv1.MachineStop, session string) *logpb.Command {
	going := fsm.StaysUp
	switch stop {
	case lifeboatv1.MachineStop_MACHINE_STOP_SHUTDOWN:
		going = fsm.ShutsDown
	case lifeboatv1.MachineStop_MACHINE_STOP_REBOOT:
		going = fsm.Reboots
	}
	if going == fsm.StaysUp || h.Stopping == going || s.Level < fsm.LevelPolicy {
		return nil
	}
	return &logpb.Command{Body: &logpb.Command_HostStopping{HostStopping: &logpb.HostStopping{Host: string(h.ID), Epoch: h.Epoch, Session: session, Reboot: going == fsm.Reboots}}}
}
