package fence

import (
	"encoding/hex"
	"slices"
	"strings"
)

// SameIdentity reports whether a controller's identity and the host's own name
// one machine. Letter case and dashes of UUIDs do not matter.
//
// Nor does the byte order of a UUID: controllers send it as RFC 4122, as SMBIOS
// (first three fields swapped) or as IPMI (all bytes reversed) and tools guess
// which, so the same machine is seen in five spellings. Accepting them all costs
// nothing, as two machines whose UUIDs are permutations of each other do not
// exist. Placeholders (all zeros, "To be filled by O.E.M.") name no machine and
// match nothing, not even themselves.
func SameIdentity(a, b string) bool {
	a, b = normal(a), normal(b)
	if !usable(a) || !usable(b) {
		return false
	}
	if a == b {
		return true
	}
	ua, okA := parseUUID(a)
	ub, okB := parseUUID(b)
	if !okA || !okB {
		return false
	}
	for _, spelling := range spellings(ub) {
		if ua == spelling {
			return true
		}
	}
	return false
}

// ContraryIdentity reports whether a and b certainly name two machines: both are
// system UUIDs, and in no spelling the same. A serial number and a UUID cannot be
// compared.
func ContraryIdentity(a, b string) bool {
	_, okA := parseUUID(normal(a))
	_, okB := parseUUID(normal(b))
	return okA && okB && UsableIdentity(a) && UsableIdentity(b) && !SameIdentity(a, b)
}

// UsableIdentity reports whether text names one machine: not empty and not one
// of the placeholders that firmware ships with.
func UsableIdentity(text string) bool { return usable(normal(text)) }

func normal(text string) string { return strings.ToLower(strings.TrimSpace(text)) }

func usable(text string) bool {
	if slices.Contains(placeholders(), text) {
		return false
	}
	// One repeated character ("0000…", "ffff…", "....", "xxxx") is a placeholder too.
	plain := strings.Map(func(r rune) rune {
		if r == '-' || r == ' ' || r == ':' {
			return -1
		}
		return r
	}, text)
	return plain != "" && strings.Trim(plain, plain[:1]) != ""
}

func placeholders() []string {
	return []string{
		"", "none", "n/a", "na", "null", "unknown", "default", "default string", "not specified",
		"not available", "not applicable", "system serial number", "chassis serial number",
		"to be filled by o.e.m.", "to be filled by oem", "o.e.m.", "oem", "empty", "unspecified",
		"0123456789", "1234567890", "123456789",
		"03000200-0400-0500-0006-000700080009", // a board maker's default UUID
		"00020003-0004-0005-0006-000700080009", // the same, swapped
		"12345678-1234-5678-90ab-cddeefaabbcc", // an emulator's default UUID
		"12345678-1234-1234-1234-123456789abc",
	}
}

func parseUUID(text string) (u [16]byte, ok bool) {
	if len(text) == 36 && (text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-') {
		return u, false
	}
	plain := strings.ReplaceAll(text, "-", "")
	if len(plain) != 32 || (len(text) != 32 && len(text) != 36) {
		return u, false
	}
	_, err := hex.Decode(u[:], []byte(plain))
	return u, err == nil
}

func spellings(u [16]byte) [][16]byte {
	return [][16]byte{u, swapped(u), reversed(u), swapped(reversed(u)), reversed(swapped(u))}
}

// swapped turns RFC 4122 order into SMBIOS order and back.
func swapped(u [16]byte) [16]byte {
	slices.Reverse(u[0:4])
	slices.Reverse(u[4:6])
	slices.Reverse(u[6:8])
	return u
}

// reversed turns RFC 4122 order into IPMI order and back.
func reversed(u [16]byte) [16]byte {
	slices.Reverse(u[:])
	return u
}
