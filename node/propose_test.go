package node

import (
	"errors"
	"testing"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"
)

// What Raft refuses before it is in any log may be asked again without an id, at once
// and anywhere; what it loses may not.
func TestOnlyWhatWasNeverAppendedIsUnavailable(t *testing.T) {
	for err, want := range map[error]connect.Code{
		raft.ErrNotLeader:                    connect.CodeUnavailable,
		raft.ErrLeadershipTransferInProgress: connect.CodeUnavailable,
		raft.ErrLeadershipLost:               connect.CodeUnknown,
		raft.ErrRaftShutdown:                 connect.CodeUnknown,
		raft.ErrAbortedByRestore:             connect.CodeUnknown,
		errors.New("disk failure"):           connect.CodeUnknown,
	} {
		n := &Node{}
		n.gate.out.Add(1)
		tm := &term{node: n}
		_, got := tm.await(t.Context(), failedApply{err})
		if code := connect.CodeOf(answerError(got)); code != want {
			t.Errorf("%v is answered with %v, want %v", err, code, want)
		}
	}
}

// failedApply is a proposal that Raft has answered.
type failedApply struct{ err error }

func (f failedApply) Error() error { return f.err }
func (failedApply) Response() any  { return nil }
func (failedApply) Index() uint64  { return 0 }
