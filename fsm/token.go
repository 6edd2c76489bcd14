package fsm

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"time"
)

// Member is what somebody joins the cluster as. The numbers are the log's.
type Member uint8

const (
	MemberNode Member = iota + 1
	MemberHost
	MemberOperator
)

func (m Member) String() string { return name(int(m), "", "management node", "host", "operator") }

// one is "a host".
func (m Member) one() string {
	if m == MemberOperator {
		return "an operator"
	}
	return "a " + m.String()
}

// Token lets who shows its secret join: it gets a certificate. Only the secret's
// hash is kept.
type Token struct {
	ID      string
	Kind    Member
	Hash    [sha256.Size]byte
	Name    string // only this name may join by it; empty = any that is free
	Role    Role   // of an operator
	Left    uint32 // uses
	Expires int64  // unix ns
	Created int64  // unix ns
	By      string // who made it
	Used    []TokenUse
}

// TokenUse is one who joined by a token. The same name with the same key is the
// same use: its answer may have been lost.
type TokenUse struct {
	Name string
	Key  [sha256.Size]byte // of the public key
}

const (
	// MaxTokenUses bounds how many may join by one token.
	MaxTokenUses = 1000
	// MaxTokenLife bounds how long a token is good for.
	MaxTokenLife = 365 * 24 * time.Hour
	// maxTokens bounds how many there are.
	maxTokens = 1000
	// tokensKept is how long one that is of no use any more is listed.
	tokensKept = int64(7 * 24 * time.Hour)
	// LevelJoin is the feature level that knows tokens, operators, and nodes that join.
	LevelJoin = 3
)

// Spent says why nobody can join by a token any more; "" = somebody can.
func (k *Token) Spent(now int64) string {
	switch {
	case now >= k.Expires:
		return "it expired at " + clock(k.Expires)
	case k.Left == 0:
		return "it has been used as often as it may"
	}
	return ""
}

// admits says why somebody may not join by a token; "" = it may, and again says
// whether it has already.
func (k *Token) admits(kind Member, who string, hash, key [sha256.Size]byte, now int64) (again bool, no string) {
	switch {
	case k == nil || subtle.ConstantTimeCompare(k.Hash[:], hash[:]) != 1:
		return false, "there is no such token" + another
	case k.Kind != kind:
		return false, fmt.Sprintf("this token is for %s, not for %s", k.Kind.one(), kind.one())
	case k.Name != "" && k.Name != who:
		return false, fmt.Sprintf("this token is for the %s %s, not for %s", k.Kind, k.Name, who)
	case now >= k.Expires:
		return false, k.refused(now)
	case slices.Contains(k.Used, TokenUse{who, key}):
		return true, ""
	case k.Left == 0:
		return false, k.refused(now)
	}
	return false, ""
}

const another = "; let an administrator make another with `lifeboat token create`"

// refused is what somebody is told who shows a spent token.
func (k *Token) refused(now int64) string {
	return "this token cannot be used: " + k.Spent(now) + another
}
