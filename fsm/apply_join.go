package fsm

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"lifeboat/fsm/logpb"
)

// later refuses a command that builds of a lower feature level would not read, or
// read otherwise.
func (t *tx) later(level uint32) string {
	if max(t.s.Level, 1) >= level {
		return ""
	}
	return fmt.Sprintf("this takes feature level %d, and the cluster is at %d: not every node has a version that knows it; `lifeboat status` says which", level, t.s.Level)
}

func (t *tx) caSet(c *logpb.CASet) string {
	if no := t.later(levelJoin); no != "" {
		return no
	}
	switch {
	case len(c.Cert) == 0 || len(c.SealedKey) == 0:
		return "a CA needs its certificate and its key"
	case t.s.CA != nil:
		return "the cluster has a CA already"
	}
	t.s.CA = &Authority{Cert: c.Cert, Key: c.SealedKey}
	t.event("CA.SET", Info, "cluster", "the cluster signs certificates by itself from now on")
	return ""
}

func (t *tx) tokenCreate(c *logpb.TokenCreate) string {
	if no := t.later(levelJoin); no != "" {
		return no
	}
	k := &Token{ID: c.Id, Kind: Member(c.Kind), Name: c.Name, Role: Role(c.Role), Left: c.Uses, Created: t.now, By: t.actor}
	life := time.Duration(c.LastsNs)
	switch {
	case c.Id == "" || len(c.Hash) != len(k.Hash) || k.Kind < MemberNode || k.Kind > MemberOperator:
		return "a token needs an id, the hash of its secret, and a kind: server, agent or operator"
	case t.s.Token(c.Id) != nil:
		return fmt.Sprintf("there is a token %s already", c.Id)
	case c.Uses == 0 || c.Uses > MaxTokenUses:
		return fmt.Sprintf("a token can be used 1 to %d times", MaxTokenUses)
	case life <= 0 || life > MaxTokenLife:
		return fmt.Sprintf("a token lasts up to %s", MaxTokenLife)
	case k.Kind == MemberOperator && (k.Name == "" || k.Role == RoleNone || k.Role > RoleAdmin):
		return "a token for an operator names the operator, and its role: viewer, operator or admin"
	case k.Kind != MemberOperator && k.Role != RoleNone:
		return "only operators have roles"
	case k.Name != "" && c.Uses != 1:
		return "a token for one name is used once"
	}
	t.trimTokens()
	if t.s.tokens.len() >= maxTokens {
		return fmt.Sprintf("there are %d tokens; revoke some with `lifeboat token revoke`", maxTokens)
	}
	copy(k.Hash[:], c.Hash)
	k.Expires = t.now + c.LastsNs
	t.s.tokens.set(k.ID, k)
	about := k.Kind.one()
	if k.Name != "" {
		about = fmt.Sprintf("the %s %s", k.Kind, k.Name)
	}
	if k.Kind == MemberOperator {
		about += " with the role " + k.Role.String()
	}
	t.event("TOKEN.CREATE", Warning, "token "+k.ID, "token %s was made, for %s: %s, until %s", k.ID, about, times(k.Left), clock(k.Expires))
	return ""
}

func times(n uint32) string {
	if n == 1 {
		return "to be used once"
	}
	return fmt.Sprintf("to be used %d times", n)
}

// trimTokens forgets those that nobody can use any more.
func (t *tx) trimTokens() {
	var old []string
	for id, k := range t.s.tokens.all() {
		if k.Expires+tokensKept <= t.now || k.Left == 0 && k.Created+tokensKept <= t.now {
			old = append(old, id)
		}
	}
	for _, id := range old {
		t.s.tokens.delete(id)
	}
}

func (t *tx) tokenRevoke(c *logpb.TokenRevoke) string {
	if t.s.Token(c.Id) == nil {
		return fmt.Sprintf("there is no token %s; `lifeboat token list` shows them", c.Id)
	}
	t.s.tokens.delete(c.Id)
	t.event("TOKEN.REVOKE", Warning, "token "+c.Id, "token %s was revoked", c.Id)
	return ""
}

// tokenUse admits somebody. Who is here already is admitted again only by a token
// that names it: another machine would take its place.
func (t *tx) tokenUse(c *logpb.TokenUse) string {
	var hash, key [sha256.Size]byte
	if len(c.Hash) != len(hash) || len(c.Key) != len(key) || c.Name == "" {
		return "joining takes a token's secret, a name and a key"
	}
	copy(hash[:], c.Hash)
	copy(key[:], c.Key)
	old := t.s.Token(c.Id)
	again, no := old.admits(Member(c.Kind), c.Name, hash, key, t.now)
	switch {
	case no != "":
		return no
	case again:
		return ""
	}
	if no := t.admit(old, c); no != "" {
		return no
	}
	k := *old
	k.Left--
	k.Used = append(k.Used[:len(k.Used):len(k.Used)], TokenUse{c.Name, key})
	t.s.tokens.set(k.ID, &k)
	return ""
}

// admit makes the one who shows a token known.
func (t *tx) admit(k *Token, c *logpb.TokenUse) string {
	taken := func(what, list string) string {
		return fmt.Sprintf("there is a %s %s already; choose another name, or, if it is to be replaced, let an administrator make a token for it: `lifeboat token create %s --name %s`", what, c.Name, list, c.Name)
	}
	switch k.Kind {
	case MemberNode:
		n := t.s.Node(NodeID(c.Name))
		switch {
		case c.Addr == "":
			return "a management node joins with its address"
		case n != nil && n.State != NodeDown:
			return fmt.Sprintf("management node %s is %s, and can only be replaced when it is not running", n.ID, n.State)
		case n != nil && !n.Gone() && k.Name == "":
			return taken("management node", "server")
		}
		if n != nil {
			t.resolveAll(AlertNode, c.Name, "it joins anew")
		}
		t.s.nodes.set(NodeID(c.Name), &Node{ID: NodeID(c.Name), Addr: c.Addr, State: NodeDown, Left: true, Invited: true,
			Reason: "it was admitted and has not come yet", Since: t.now, Index: t.index})
		t.event("NODE.INVITE", Warning, "node "+c.Name, "management node %s at %s was admitted by token %s", c.Name, c.Addr, k.ID)
	case MemberHost:
		h := t.s.Host(HostID(c.Name))
		if k.Name == "" && (h != nil && h.Status != Removed || h == nil && t.promised(MemberHost, c.Name)) {
			return taken("host", "agent")
		}
		t.event("HOST.ADMIT", Info, hostSubject(HostID(c.Name)), "host %s was admitted by token %s", c.Name, k.ID)
		t.readmit(h)
	case MemberOperator:
		t.setOperator(c.Name, k.Role, k.By)
	}
	return ""
}

// dropTokens takes back what was made for one who is not wanted any more.
func (t *tx) dropTokens(kind Member, who string) {
	var drop []string
	for id, k := range t.s.tokens.all() {
		if k.Kind == kind && k.Name == who {
			drop = append(drop, id)
		}
	}
	for _, id := range drop {
		t.s.tokens.delete(id)
	}
}

// promised reports whether somebody has joined by a name, with another key.
func (t *tx) promised(kind Member, who string) bool {
	for _, k := range t.s.tokens.all() {
		if k.Kind == kind && slices.ContainsFunc(k.Used, func(u TokenUse) bool { return u.Name == who }) {
			return true
		}
	}
	return false
}

// readmit lets a removed host come back.
func (t *tx) readmit(old *Host) {
	if old != nil && old.Status == Removed && !old.Admitted {
		h := edit(old)
		h.Admitted = true
		t.setHost(h)
	}
}

func (t *tx) operatorSet(c *logpb.OperatorSet) string {
	role := Role(c.Role)
	switch {
	case t.later(levelJoin) != "":
		return t.later(levelJoin)
	case c.Name == "" || role > RoleAdmin:
		return "an operator has a name, and one of the roles viewer, operator, admin and none"
	case t.s.Operator(c.Name) == nil && t.s.operators.len() >= maxOperators:
		return fmt.Sprintf("%d operators are known, and there can be no more", maxOperators)
	case t.actor == "operator/"+c.Name && role < RoleAdmin:
		return "you cannot take the role from yourself; let another administrator do it"
	}
	t.setOperator(c.Name, role, t.actor)
	return ""
}

func (t *tx) setOperator(who string, role Role, by string) {
	was := t.s.RoleOf(who)
	t.s.operators.set(who, &Operator{Name: who, Role: role, Since: t.now, By: by})
	if role == RoleNone {
		t.dropTokens(MemberOperator, who)
		t.event("OPERATOR.REMOVE", Warning, "operator "+who, "operator %s may do nothing any more (was %s)", who, was)
		return
	}
	t.event("OPERATOR.SET", Warning, "operator "+who, "operator %s has the role %s", who, role)
}

// nodeAdmit notes what is about to happen to a node in the configuration of Raft:
// that entry names no reason.
func (t *tx) nodeAdmit(c *logpb.NodeAdmit) string {
	subject := "node " + c.Id
	switch c.Step {
	case 1:
		t.event("NODE.JOIN", Info, subject, "management node %s at %s has come: it gets the log, and no vote yet", c.Id, c.Addr)
	case 2:
		t.event("NODE.VOTER", Info, subject, "management node %s has caught up: it gets a vote", c.Id)
	case 3:
		t.event("NODE.MOVE", Warning, subject, "management node %s is at %s from now on", c.Id, c.Addr)
	default:
		return "a management node gets the log, a vote or another address"
	}
	return ""
}
