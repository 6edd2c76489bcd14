package fsm

import (
	"crypto/sha256"
	"fmt"
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
	if no := t.later(LevelJoin); no != "" {
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
	if no := t.later(LevelJoin); no != "" {
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

// trimTokens forgets those that nobody can use any more. One that is used up stays
// until it expires: who joined by it may not have got the answer.
func (t *tx) trimTokens() {
	t.dropWhere(func(k *Token) bool { return k.Expires+tokensKept <= t.now })
}

func (t *tx) tokenRevoke(c *logpb.TokenRevoke) string {
	if t.s.Token(c.Id) == nil {
		return fmt.Sprintf("there is no token %s; `lifeboat token list` shows them", c.Id)
	}
	t.s.tokens.delete(c.Id)
	t.event("TOKEN.REVOKE", Warning, "token "+c.Id, "token %s was revoked", c.Id)
	return ""
}

// tokenUse admits somebody.
func (t *tx) tokenUse(c *logpb.TokenUse) string {
	k, again, no := t.s.joins(c, t.now)
	if no == "" && !again {
		no = t.s.taken(k, c)
	}
	if no != "" || again {
		return no
	}
	switch k.Kind {
	case MemberNode:
		t.resolveAll(AlertNode, c.Name, "it joins anew")
		t.s.nodes.set(NodeID(c.Name), &Node{ID: NodeID(c.Name), Addr: c.Addr, State: NodeDown, Left: true, Invited: true,
			Reason: "it was admitted and has not come yet", Since: t.now, Index: t.index})
		t.event("NODE.INVITE", Warning, "node "+c.Name, "management node %s at %s was admitted by token %s", c.Name, c.Addr, k.ID)
	case MemberHost:
		t.event("HOST.ADMIT", Info, hostSubject(HostID(c.Name)), "host %s was admitted by token %s", c.Name, k.ID)
		t.readmit(t.s.Host(HostID(c.Name)))
	case MemberOperator:
		t.setOperator(c.Name, k.Role, k.By)
	}
	used := *k
	used.Left--
	used.Used = append(k.Used[:len(k.Used):len(k.Used)], TokenUse{c.Name, [sha256.Size]byte(c.Key)})
	t.s.tokens.set(used.ID, &used)
	return ""
}

// dropTokens takes back what was made for one who is not wanted any more.
func (t *tx) dropTokens(kind Member, who string) {
	t.dropWhere(func(k *Token) bool { return k.Kind == kind && k.Name == who })
}

func (t *tx) dropWhere(unwanted func(*Token) bool) {
	var drop []string
	for id, k := range t.s.tokens.all() {
		if unwanted(k) {
			drop = append(drop, id)
		}
	}
	for _, id := range drop {
		t.s.tokens.delete(id)
	}
}

// readmit lets a removed host come back.
func (t *tx) readmit(old *Host) {
	if old.Unwanted() != "" {
		h := edit(old)
		h.Admitted = true
		t.setHost(h)
	}
}

func (t *tx) operatorSet(c *logpb.OperatorSet) string {
	if no := t.later(LevelJoin); no != "" {
		return no
	}
	role := Role(c.Role)
	switch {
	case c.Name == "" || role > RoleAdmin:
		return "an operator has a name, and one of the roles viewer, operator, admin and none"
	case t.s.Operator(c.Name) == nil && t.s.operators.len() >= maxOperators:
		return fmt.Sprintf("%d operators are known, and there can be no more", maxOperators)
	case t.actor == "operator/"+c.Name && role < RoleAdmin:
		return "you cannot take the role from yourself; let another administrator do it"
	}
	if no := t.s.lockout(t.s.Policy.UnknownOperator, c.Name, role); no != "" {
		return no
	}
	t.setOperator(c.Name, role, t.actor)
	return ""
}

func (t *tx) setOperator(who string, role Role, by string) {
	was := t.s.RoleOf(who)
	t.s.operators.set(who, &Operator{Name: who, Role: role, Since: t.now, By: by})
	if role < RoleAdmin { // what an administrator has made for others goes with the role
		t.dropWhere(func(k *Token) bool { return k.By == "operator/"+who })
	}
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
