package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// Raft asks its transport for pre-vote by a type assertion and only logs when
// there is none; this holds the library to it.
var (
	_ raft.WithPreVote = (*raft.NetworkTransport)(nil)
	_ raft.StreamLayer = (*RaftStreamLayer)(nil)
)

// RaftOptions of a stream layer.
type RaftOptions struct {
	// Advertise is the host:port that other nodes reach us at; empty means the
	// address that is listened on.
	Advertise string
	// NameOf says which node is expected at an address, empty for any node. Nil
	// means any node everywhere.
	NameOf func(raft.ServerAddress) string

	Dial DialOptions
}

// RaftStreamLayer carries hashicorp/raft over a Listener.
//
// Give it to raft.NewNetworkTransportWithConfig and use the NetworkTransport
// that comes out as it is or embedded in a struct. Never wrap that transport in
// a type that forwards only the raft.Transport methods: Raft would miss
// WithPreVote and switch pre-vote off with no more than a log line.
type RaftStreamLayer struct {
	net.Listener // accepted connections; only nodes that Authorize let in

	addr  net.Addr
	creds *Credentials
	opts  RaftOptions
	out   *connTable
	life  context.Context // until Hangup: what is being dialled ends with it
	end   context.CancelFunc
}

// NewRaftStreamLayer makes the stream layer of l. There is one per Listener.
func NewRaftStreamLayer(l *Listener, creds *Credentials, opts RaftOptions) *RaftStreamLayer {
	opts.Dial = opts.Dial.withDefaults()
	s := &RaftStreamLayer{Listener: l.Raft(), addr: l.Addr(), creds: creds, opts: opts, out: newConnTable(0, 0)}
	s.life, s.end = context.WithCancel(context.Background())
	if opts.Advertise != "" {
		s.addr = advertised(opts.Advertise)
	}
	return s
}

// Addr is the advertised address.
func (s *RaftStreamLayer) Addr() net.Addr { return s.addr }

// Dial connects to the node at address. It returns once that node has let us in,
// so its errors say who refused whom. timeout bounds all of it.
func (s *RaftStreamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	// raft.StreamLayer has no context to take one from.
	ctx, cancel := context.WithCancel(s.life)
	defer cancel()
	deadline := time.Time{}
	if timeout > 0 {
		deadline = time.Now().Add(timeout)
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	want := Identity{Kind: KindNode}
	if s.opts.NameOf != nil {
		want.Name = s.opts.NameOf(address)
	}
	tc, err := dial(ctx, string(address), ProtoRaft, want, s.creds, s.opts.Dial, s.out)
	if err != nil {
		return nil, err
	}
	patience := time.Now().Add(s.opts.Dial.HandshakeTimeout)
	if !deadline.IsZero() && deadline.Before(patience) {
		patience = deadline
	}
	tc.SetReadDeadline(patience)
	hello := make([]byte, 1)
	_, err = tc.Read(hello)
	if err == nil && hello[0] != welcome {
		err = errors.New("it did not welcome us as a Lifeboat node does")
	}
	if err != nil {
		tc.Close()
		return nil, fmt.Errorf("connect to %s at %s: %w", want.describe(), address, explainRemote(err, s.creds.Identity(), ProtoRaft))
	}
	tc.SetReadDeadline(time.Time{})
	return tc, nil
}

// CloseConns closes the connections to matching nodes that were dialled from
// here and returns how many; Listener.CloseConns is its other half.
func (s *RaftStreamLayer) CloseConns(match func(Identity) bool) int {
	return s.out.closeMatching(match)
}

// Hangup closes the connections that were dialled from here and ends dialling
// for good. raft.Shutdown waits for every call that is out: without this it would
// wait for the dial timeout of each dead peer.
func (s *RaftStreamLayer) Hangup() {
	s.end()
	s.out.closeAll()
}

// Close ends accepting and closes all Raft connections, accepted and dialled.
func (s *RaftStreamLayer) Close() error {
	err := s.Listener.Close()
	s.Hangup()
	return err
}

// advertised is a TCP address that need not be an IP.
type advertised string

func (advertised) Network() string  { return "tcp" }
func (a advertised) String() string { return string(a) }
