package node

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"connectrpc.com/connect"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/exchange"
	"lifeboat/fsm"
)

const (
	// maxVMs is how many VMs one host may report.
	maxVMs = 20000
	// maxText bounds names and reasons that agents send, in bytes.
	maxText = 1024
)

// checkVMs refuses what no agent of ours sends.
func checkVMs(vms []*lifeboatv1.VMReport) error {
	if len(vms) > maxVMs {
		return refuse("the report names %d VMs, at most %d are accepted", len(vms), maxVMs)
	}
	for i, v := range vms {
		switch {
		case len(v.GetId()) != 16:
			return refuse("VM %d of the report has an id of %d bytes, not 16", i, len(v.GetId()))
		case len(v.Name) > maxText || len(v.Failure) > 8*maxText:
			return refuse("VM %d of the report has a name or failure that is too long", i)
		}
	}
	if !slices.IsSortedFunc(vms, byID) {
		slices.SortFunc(vms, byID)
	}
	for i := 1; i < len(vms); i++ {
		if bytes.Equal(vms[i-1].Id, vms[i].Id) {
			return refuse("the report names VM %s twice", fsm.VMID(vms[i].Id))
		}
	}
	return nil
}

func byID(a, b *lifeboatv1.VMReport) int { return bytes.Compare(a.GetId(), b.GetId()) }

func refuse(format string, args ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, args...))
}

// valid makes text fit for the log.
func valid(s string) string { return exchange.Text(s) }

// known finds the host of a report, or says why the report does not count.
func known(s *fsm.State, req *lifeboatv1.ReportRequest) (*fsm.Host, error) {
	h, err := exchange.Known(s, req)
	var taken *exchange.TakenError
	if errors.As(err, &taken) {
		return nil, connect.NewError(connect.CodeFailedPrecondition, taken)
	}
	return h, err
}
