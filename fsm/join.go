package fsm

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"lifeboat/fsm/logpb"
)

// MayJoin says why somebody may not join by a token; "" = he may, as far as this
// state knows. A leader asks before it writes into the log what a stranger says.
func (s *State) MayJoin(c *logpb.TokenUse, now int64) string {
	k, again, no := s.joins(c, max(now, s.Time))
	if no != "" || again {
		return no
	}
	return s.taken(k, c)
}

// joins finds the token of a use. again: that use stands already, and what it made is
// still as it made it.
func (s *State) joins(c *logpb.TokenUse, now int64) (k *Token, again bool, no string) {
	var hash, key [sha256.Size]byte
	if len(c.Hash) != len(hash) || len(c.Key) != len(key) || c.Name == "" {
		return nil, false, "joining takes a token's secret, a name and a key"
	}
	copy(hash[:], c.Hash)
	copy(key[:], c.Key)
	k = s.Token(c.Id)
	if again, no = k.admits(Member(c.Kind), c.Name, hash, key, now); no != "" {
		return k, false, no
	}
	if again && !s.stands(k, c.Name) {
		if again = false; k.Left == 0 {
			no = k.refused(now)
		}
	}
	return k, again, no
}

// stands reports whether what an earlier use of a token made is as it was: nobody has
// taken it away since, or come by it.
func (s *State) stands(k *Token, who string) bool {
	switch k.Kind {
	case MemberNode:
		n := s.Node(NodeID(who))
		return n != nil && n.Invited
	case MemberHost:
		return s.Host(HostID(who)).Unwanted() == ""
	}
	o := s.Operator(who)
	return o != nil && o.Role == k.Role
}

// taken says why a name is not free for the one who shows a token; "" = it is. A name
// that is in use, was promised to another key, or was removed takes a token made for
// it: another machine would take its place.
func (s *State) taken(k *Token, c *logpb.TokenUse) string {
	const how = "; choose another name, or, if it is to be replaced, let an administrator make a token for it: `lifeboat token create %s --name %s`"
	named := k.Name != ""
	switch k.Kind {
	case MemberNode:
		n := s.Node(NodeID(c.Name))
		switch {
		case c.Addr == "":
			return "a management node joins with its address"
		case n != nil && n.State != NodeDown:
			return fmt.Sprintf("management node %s is %s, and can only be replaced when it is not running", n.ID, n.State)
		case n.Gone() && !named:
			return fmt.Sprintf("management node %s: %s"+how, c.Name, n.Going, "server", c.Name)
		case n != nil && !named:
			return fmt.Sprintf("there is a management node %s already"+how, c.Name, "server", c.Name)
		}
	case MemberHost:
		h := s.Host(HostID(c.Name))
		switch {
		case named:
		case h.Unwanted() != "":
			return fmt.Sprintf("host %s was removed from the cluster"+how, c.Name, "agent", c.Name)
		case h != nil && h.Status != Removed || h == nil && s.promised(MemberHost, c.Name):
			return fmt.Sprintf("there is a host %s already"+how, c.Name, "agent", c.Name)
		}
	case MemberOperator:
		return s.lockout(s.Policy.UnknownOperator, c.Name, k.Role)
	}
	return ""
}

// promised reports whether somebody has joined by a name, with another key.
func (s *State) promised(kind Member, who string) bool {
	for _, k := range s.tokens.all() {
		if k.Kind == kind && slices.ContainsFunc(k.Used, func(u TokenUse) bool { return u.Name == who }) {
			return true
		}
	}
	return false
}
