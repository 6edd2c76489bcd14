package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strings"
)

// Files of the agent are one header line and JSON, so that an operator can read
// them and a torn or edited one is noticed:
//
//	lifeboat-ledger 1 crc32c=9ae0daaf
//	{...}
const (
	ledgerKind = "lifeboat-ledger"
	leaseKind  = "lifeboat-lease"
	fileFormat = 1
	maxFile    = 64 << 20
)

// Names of the files: the ledger in the state directory, the lease in the run
// directory.
const (
	LedgerFile = "ledger"
	LeaseFile  = "lease"
)

// DamagedError says that a file of the agent cannot be trusted.
type DamagedError struct{ Kind, Why string }

func (e *DamagedError) Error() string { return e.Kind + " is damaged: " + e.Why }

// EncodeLedger returns the bytes of a ledger file.
func EncodeLedger(l Ledger) ([]byte, error) { return encode(ledgerKind, l) }

// DecodeLedger reads what EncodeLedger wrote. The error is a [*DamagedError].
func DecodeLedger(b []byte) (Ledger, error) {
	var l Ledger
	err := decode(ledgerKind, b, &l)
	if err != nil {
		return Ledger{}, err
	}
	for id, e := range l.VMs {
		switch e.Phase {
		case "", PhaseOwned, PhaseStarting, PhaseRunning, PhaseEnded:
		default:
			return Ledger{}, &DamagedError{ledgerKind, fmt.Sprintf("vm %s has the unknown phase %.40q", id, e.Phase)}
		}
	}
	return l, nil
}

// EncodeHeld returns the bytes of a lease file.
func EncodeHeld(h Held) ([]byte, error) { return encode(leaseKind, h) }

// DecodeHeld reads what EncodeHeld wrote. The error is a [*DamagedError].
func DecodeHeld(b []byte) (Held, error) {
	var h Held
	err := decode(leaseKind, b, &h)
	if err != nil {
		return Held{}, err
	}
	return h, nil
}

func header(kind string, body []byte) string {
	return fmt.Sprintf("%s %d crc32c=%08x", kind, fileFormat, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
}

func encode[T Ledger | Held](kind string, v T) ([]byte, error) {
	body, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", kind, err)
	}
	body = append(body, '\n')
	return append([]byte(header(kind, body)+"\n"), body...), nil
}

func decode[T Ledger | Held](kind string, b []byte, v *T) error {
	if len(b) > maxFile {
		return &DamagedError{kind, fmt.Sprintf("it has %d bytes", len(b))}
	}
	head, body, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return &DamagedError{kind, "it ends before its first line does"}
	}
	want := header(kind, body)
	if string(head) != want {
		if !strings.HasPrefix(string(head), fmt.Sprintf("%s %d ", kind, fileFormat)) {
			return &DamagedError{kind, fmt.Sprintf("it begins with %.60q; another version of lifeboat, or another file?", head)}
		}
		return &DamagedError{kind, "its checksum is wrong"}
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields() // a key we do not know could be a refusal
	if err := dec.Decode(v); err != nil {
		return &DamagedError{kind, err.Error()}
	}
	return nil
}
