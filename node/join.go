package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/transport"
	"lifeboat/transport/pki"
)

const (
	// maxJoin bounds what a stranger may send, in bytes.
	maxJoin = 64 << 10
	// What a token's id and secret, and an address, may be long, in bytes.
	maxTokenID, maxAddr = 16, 300
	// maxJoiners is how many strangers are served at a time.
	maxJoiners = 16
	// adoptAgain is the pause before the CA's key is looked for again.
	adoptAgain = 30 * time.Second
)

type joinClient = lifeboatv1connect.JoinServiceClient

// joinAPI is how somebody gets a certificate. At the door whoever asks is a
// stranger; inside it is somebody with one, or a management node that passes a
// stranger's request on.
type joinAPI struct {
	n    *Node
	door bool
}

// doorHandler is what a stranger reaches.
func (n *Node) doorHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(lifeboatv1connect.NewJoinServiceHandler(joinAPI{n, true}, connect.WithReadMaxBytes(maxJoin)))
	free := make(chan struct{}, maxJoiners)
	refusal := connect.NewErrorWriter()
	return n.calls.counted(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Read first: who is slow to send keeps nobody out.
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJoin))
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		select {
		case free <- struct{}{}:
			defer func() { <-free }()
			mux.ServeHTTP(w, r)
		default:
			_ = refusal.Write(w, r, connect.NewError(connect.CodeResourceExhausted, errors.New("many are joining at this moment; try again")))
		}
	}))
}

// Join admits whoever shows a token.
func (a joinAPI) Join(ctx context.Context, req *connect.Request[lifeboatv1.JoinRequest]) (*connect.Response[lifeboatv1.JoinResponse], error) {
	if a.door {
		ctx = transport.WithIdentity(ctx, transport.Identity{Kind: transport.KindNode, Name: a.n.cfg.ID}) // this node speaks for him
	} else if _, err := caller(ctx, transport.KindNode); err != nil {
		return nil, err
	}
	return onward(ctx, a.n, req, false, (*term).join, lifeboatv1connect.NewJoinServiceClient, joinClient.Join)
}

// Renew gives whoever asks another certificate.
func (a joinAPI) Renew(ctx context.Context, req *connect.Request[lifeboatv1.RenewRequest]) (*connect.Response[lifeboatv1.RenewResponse], error) {
	if _, err := caller(ctx, transport.KindNode, transport.KindHost, transport.KindOperator); err != nil || a.door {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("only who has a certificate can renew it"))
	}
	return onward(ctx, a.n, req, false, (*term).renew, lifeboatv1connect.NewJoinServiceClient, joinClient.Renew)
}

// signs says whether the cluster signs certificates. One that was just founded is
// about to: its first leader takes the CA that its configuration names.
func (n *Node) signs(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	for {
		changed := n.fsm.Changed()
		switch {
		case n.fsm.State().CA != nil:
			return true
		case n.cfg.CAKey == "":
			return false
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// join admits somebody by a token and signs his certificate.
func (t *term) join(ctx context.Context, q *lifeboatv1.JoinRequest) (*lifeboatv1.JoinResponse, error) {
	kind, as := joinKind(q.Kind)
	id := transport.Identity{Kind: as, Name: q.Name}
	if kind == 0 {
		return nil, refuse("%q is nothing to join as; it is server, agent or operator", q.Kind)
	}
	if err := id.Validate(); err != nil {
		return nil, refuse("join: %v", err)
	}
	if len(q.TokenId) > maxTokenID || len(q.Secret) > maxTokenID || len(q.Addr) > maxAddr || valid(q.Addr) != q.Addr || valid(q.TokenId) != q.TokenId {
		return nil, refuse("this is no token and address of Lifeboat")
	}
	public, err := pki.ReadRequest(q.Request)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	key, hash := sha256.Sum256(der), sha256.Sum256(q.Secret)
	n := t.node
	if kind == fsm.MemberNode {
		if err := n.freeAddress(q.Name, q.Addr); err != nil {
			return nil, err
		}
	}
	if !q.OwnCertificate && !n.signs(ctx) {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("the cluster signs no certificates: bring one of your own PKI (--own-cert, --own-key and --own-ca), or name the CA's key as ca_key in the configuration of a management node"))
	}
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	if err := t.useToken(ctx, id, &logpb.TokenUse{Id: q.TokenId, Hash: hash[:], Kind: uint32(kind), Name: q.Name, Key: key[:], Addr: q.Addr}); err != nil {
		return nil, err
	}
	s := n.fsm.State()
	r := &lifeboatv1.JoinResponse{Ca: n.deps.Creds.RootsPEM(), ClusterId: s.ClusterID}
	if !q.OwnCertificate {
		if r.Certificate, err = n.sign(s, public, id); err != nil {
			return nil, connect.NewError(connect.CodeFailedPrecondition, err)
		}
	}
	servers, err := n.servers()
	if err != nil {
		return nil, err
	}
	for _, srv := range servers {
		r.Members = append(r.Members, &lifeboatv1.Member{Id: string(srv.ID), Addr: string(srv.Address)})
	}
	switch kind {
	case fsm.MemberNode:
		if r.SecretKey, err = readSecretKey(n.cfg.SecretKey); err != nil {
			return nil, err
		}
	case fsm.MemberOperator:
		r.Role = s.RoleOf(q.Name).String()
	}
	return r, nil
}

func joinKind(kind string) (fsm.Member, transport.Kind) {
	switch kind {
	case "server":
		return fsm.MemberNode, transport.KindNode
	case "agent":
		return fsm.MemberHost, transport.KindHost
	case "operator":
		return fsm.MemberOperator, transport.KindOperator
	}
	return 0, ""
}

// freeAddress refuses an address at which another node is.
func (n *Node) freeAddress(id, addr string) error {
	if !hostPort(addr) {
		return refuse("%q is no address that other nodes can reach; name it as host:port with --advertise", addr)
	}
	servers, err := n.servers()
	if err != nil {
		return err
	}
	for _, srv := range servers {
		if string(srv.Address) == addr && string(srv.ID) != id {
			return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("node %s is at %s already; every node has an address of its own", srv.ID, addr))
		}
	}
	return nil
}

// useToken commits that somebody has joined. What a stranger says gets into the log
// only if it would count there.
//
// A management node whose place another machine takes is taken out first: that one has
// an empty disk, and with the vote of the old one it could vote twice in a term, and
// forget what the old one has acknowledged. It comes back without a vote.
func (t *term) useToken(ctx context.Context, id transport.Identity, use *logpb.TokenUse) error {
	n := t.node
	s := n.fsm.State()
	if err := n.needs(t, s, fsm.LevelJoin); err != nil {
		return err
	}
	if no := s.MayJoin(use, t.wall()); no != "" {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New(no))
	}
	commit := func() error {
		_, err := t.propose(ctx, id.Actor(), &logpb.Command{Body: &logpb.Command_TokenUse{TokenUse: use}})
		return err
	}
	if id.Kind != transport.KindNode || !n.isMember(fsm.NodeID(id.Name)) {
		return commit()
	}
	if s.Token(use.Id).Name == "" {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("node %s is a member already; if it is to be replaced, let an administrator make a token for it: `lifeboat token create server --name %s`", id.Name, id.Name))
	}
	return n.reshape(ctx, func() error {
		servers, err := n.servers()
		if err != nil {
			return err
		}
		x, _ := countWithout(servers, s, fsm.NodeID(id.Name))
		if why := x.refusal(id.Name, false); why != "" {
			return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("node %s is still a member and cannot be taken out first: %s", id.Name, why))
		}
		return commit()
	}, func() raft.IndexFuture { return n.raft.RemoveServer(raft.ServerID(id.Name), 0, memberTimeout) })
}

// renew signs another certificate for whoever asks.
func (t *term) renew(ctx context.Context, q *lifeboatv1.RenewRequest) (*lifeboatv1.RenewResponse, error) {
	id, _ := transport.IdentityFromContext(ctx)
	s := t.node.fsm.State()
	if no := t.node.outcast(s, id); no != "" {
		return nil, connect.NewError(connect.CodePermissionDenied, errors.New(no))
	}
	public, err := pki.ReadRequest(q.Request)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	der, err := t.node.sign(s, public, id)
	switch {
	case errors.Is(err, transport.ErrNoCA):
		return nil, connect.NewError(connect.CodeUnimplemented, err)
	case err != nil:
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	}
	return &lifeboatv1.RenewResponse{Certificate: der}, nil
}

// outcast says why somebody is not wanted any more although his certificate is
// valid; "" = he is.
func (n *Node) outcast(s *fsm.State, id transport.Identity) string {
	switch id.Kind {
	case transport.KindNode:
		if n.stranger(id) {
			return fmt.Sprintf("node %s is not a member of this cluster", id.Name)
		}
	case transport.KindHost:
		if s.Level >= fsm.LevelJoin {
			return s.Host(fsm.HostID(id.Name)).Unwanted()
		}
	case transport.KindOperator:
		if s.RoleOf(id.Name) == fsm.RoleNone {
			return fmt.Sprintf("operator %s may do nothing in this cluster; an administrator can give a role: `lifeboat operator set %s ROLE`", id.Name, id.Name)
		}
	}
	return ""
}

// askRenewal has this node's certificate renewed by the leader.
func (n *Node) askRenewal(ctx context.Context, request []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	q := &lifeboatv1.RenewRequest{Request: request}
	if t := n.term.Load(); t != nil {
		r, err := t.renew(transport.WithIdentity(ctx, n.deps.Creds.Identity()), q)
		return r.GetCertificate(), noCA(err)
	}
	addr, leader := n.raft.LeaderWithID()
	if addr == "" || string(leader) == n.cfg.ID {
		return nil, errNoLeader
	}
	r, err := lifeboatv1connect.NewJoinServiceClient(n.client, "https://"+string(addr)).Renew(ctx, connect.NewRequest(q))
	if err != nil {
		return nil, noCA(err)
	}
	return r.Msg.Certificate, nil
}

func noCA(err error) error {
	if connect.CodeOf(err) == connect.CodeUnimplemented {
		return transport.ErrNoCA
	}
	return err
}
