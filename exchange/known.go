package exchange

import (
	"fmt"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
)

// RegisterError says that the host must register again, and why.
type RegisterError struct{ Reason string }

func (e *RegisterError) Error() string { return e.Reason }

// TakenError says that the report is of an agent whose place another has taken.
type TakenError struct{ Host string }

func (e *TakenError) Error() string {
	return "another agent has registered as host " + e.Host + " since; stop one of them"
}

// Known finds the host of a report, or says why the report does not count.
func Known(s *fsm.State, req *lifeboatv1.ReportRequest) (*fsm.Host, error) {
	h := s.Host(fsm.HostID(req.HostId))
	switch {
	case h == nil || h.Status == fsm.Removed:
		return nil, &RegisterError{fmt.Sprintf("host %s is not known", req.HostId)}
	case h.Epoch != req.Epoch:
		return nil, &RegisterError{fmt.Sprintf("host %s is in epoch %d, the report is of epoch %d", h.ID, h.Epoch, req.Epoch)}
	case h.BootID != req.BootId:
		return nil, &RegisterError{fmt.Sprintf("host %s registered in another boot", h.ID)}
	case h.Session != req.Session:
		return nil, &TakenError{req.HostId}
	case !Reporting(h):
		return nil, &RegisterError{fmt.Sprintf("host %s is %s", h.ID, h.Status)}
	}
	return h, nil
}
