package node

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/transport"
)

// createToken makes a token. Its secret is in the answer and nowhere else.
func (t *term) createToken(ctx context.Context, q *lifeboatv1.CreateTokenRequest) (*lifeboatv1.CreateTokenResponse, error) {
	kind, _ := joinKind(q.Kind)
	if kind == 0 {
		return nil, refuse("%q is no kind of token; it is server, agent or operator", q.Kind)
	}
	c := &logpb.TokenCreate{Kind: uint32(kind), Name: valid(q.Name), Uses: q.Uses, LastsNs: q.LastsMs * int64(time.Millisecond)}
	if q.LastsMs > fsm.MaxTokenLife.Milliseconds() {
		return nil, refuse("a token lasts up to %s", fsm.MaxTokenLife)
	}
	if q.Role != "" {
		role, err := fsm.ParseRole(q.Role)
		if err != nil {
			return nil, refuse("%v", err)
		}
		c.Role = uint32(role)
	}
	if _, as := joinKind(q.Kind); q.Name != "" {
		if err := (transport.Identity{Kind: as, Name: q.Name}).Validate(); err != nil {
			return nil, refuse("make a token for %s: %v", q.Name, err)
		}
	}
	token := transport.NewToken(q.Kind, sha256.Sum256(t.node.deps.Creds.Root().Raw))
	hash := token.Hash()
	c.Id, c.Hash = token.ID, hash[:]
	r, err := t.write(ctx, &logpb.Command{Body: &logpb.Command_TokenCreate{TokenCreate: c}}, "")
	if err != nil {
		return nil, err
	}
	out := &lifeboatv1.CreateTokenResponse{Token: token.String(), Id: token.ID, Index: r.Index}
	if k := t.node.fsm.State().Token(token.ID); k != nil {
		out.ExpiresUnixNs = k.Expires
	}
	return out, nil
}

func (t *term) revokeToken(ctx context.Context, q *lifeboatv1.RevokeTokenRequest) (*lifeboatv1.WriteResponse, error) {
	return t.write(ctx, &logpb.Command{Body: &logpb.Command_TokenRevoke{TokenRevoke: &logpb.TokenRevoke{Id: valid(q.Id)}}},
		fmt.Sprintf("token %s lets nobody join any more; who has joined by it stays", q.Id))
}

func (n *Node) readTokens(_ *term, _ context.Context, _ *lifeboatv1.ListTokensRequest) (*lifeboatv1.ListTokensResponse, error) {
	s, r := n.fsm.State(), &lifeboatv1.ListTokensResponse{}
	for id, k := range s.Tokens() {
		v := &lifeboatv1.TokenView{Id: id, Kind: map[fsm.Member]string{fsm.MemberNode: "server", fsm.MemberHost: "agent", fsm.MemberOperator: "operator"}[k.Kind],
			Name: k.Name, Left: k.Left, Used: uint32(len(k.Used)), CreatedUnixNs: k.Created, ExpiresUnixNs: k.Expires, By: k.By, Spent: k.Spent(n.clock().UnixNano())}
		if k.Kind == fsm.MemberOperator {
			v.Role = k.Role.String()
		}
		r.Tokens = append(r.Tokens, v)
	}
	return r, nil
}

func (n *Node) readOperators(_ *term, ctx context.Context, _ *lifeboatv1.ListOperatorsRequest) (*lifeboatv1.ListOperatorsResponse, error) {
	s := n.fsm.State()
	id, _ := transport.IdentityFromContext(ctx)
	r := &lifeboatv1.ListOperatorsResponse{Unknown: s.Policy.UnknownOperator.String(), You: id.Name, YourRole: s.RoleOf(id.Name).String()}
	for name, o := range s.Operators() {
		r.Operators = append(r.Operators, &lifeboatv1.OperatorView{Name: name, Role: o.Role.String(), SinceUnixNs: o.Since, By: o.By})
	}
	return r, nil
}

func (t *term) setOperator(ctx context.Context, q *lifeboatv1.SetOperatorRequest) (*lifeboatv1.WriteResponse, error) {
	role, err := fsm.ParseRole(q.Role)
	if err != nil {
		return nil, refuse("%v", err)
	}
	if err := (transport.Identity{Kind: transport.KindOperator, Name: q.Name}).Validate(); err != nil {
		return nil, refuse("set the role of %q: %v", q.Name, err)
	}
	message := fmt.Sprintf("operator %s has the role %s", q.Name, role)
	if role == fsm.RoleNone {
		message = fmt.Sprintf("operator %s is refused from now on, whatever certificate it shows", q.Name)
	}
	return t.write(ctx, &logpb.Command{Body: &logpb.Command_OperatorSet{OperatorSet: &logpb.OperatorSet{Name: q.Name, Role: uint32(role)}}}, message)
}
