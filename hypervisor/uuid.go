package hypervisor

import (
	"bytes"
	"encoding/hex"
	"fmt"
)

// UUID names a domain. Its zero value names none.
type UUID [16]byte

// ParseUUID reads the usual form with hyphens, or 32 hex digits without any,
// in either case.
func ParseUUID(s string) (UUID, error) {
	var id UUID
	bad := func() (UUID, error) {
		if len(s) > 64 {
			s = s[:64] + "…"
		}
		return UUID{}, fmt.Errorf("parse uuid %q: want 32 hex digits, such as 8d2c6f0e-1f5b-4c0e-9a54-0d3f2b1c7e60", s)
	}
	digits := s
	switch len(s) {
	case 32:
	case 36:
		if s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
			return bad()
		}
		digits = s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	default:
		return bad()
	}
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil {
		return bad()
	}
	return id, nil
}

// String returns the form with hyphens in lower case.
func (u UUID) String() string {
	b := u.appendText(make([]byte, 0, 36))
	return string(b)
}

func (u UUID) appendText(b []byte) []byte {
	for i, part := range [][]byte{u[:4], u[4:6], u[6:8], u[8:10], u[10:]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, part)
	}
	return b
}

// IsZero reports whether u names no domain.
func (u UUID) IsZero() bool { return u == UUID{} }

// Compare orders UUIDs as their texts are ordered.
func (u UUID) Compare(v UUID) int { return bytes.Compare(u[:], v[:]) }

// MarshalText implements encoding.TextMarshaler.
func (u UUID) MarshalText() ([]byte, error) { return u.appendText(nil), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *UUID) UnmarshalText(b []byte) error {
	id, err := ParseUUID(string(b))
	if err != nil {
		return err
	}
	*u = id
	return nil
}
