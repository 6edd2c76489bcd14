package hypervisor

import (
	"strings"
	"testing"
)

func FuzzParseUUID(f *testing.F) {
	f.Add("8d2c6f0e-1f5b-4c0e-9a54-0d3f2b1c7e60")
	f.Add("8D2C6F0E1F5B4C0E9A540D3F2B1C7E60")
	f.Add("8d2c6f0e-1f5b-4c0e-9a540-d3f2b1c7e60")
	f.Add(strings.Repeat("-", 36))
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseUUID(s)
		if err != nil {
			return
		}
		again, err := ParseUUID(id.String())
		if err != nil || again != id {
			t.Fatalf("ParseUUID(%q) = %v, which reads back as %v, %v", s, id, again, err)
		}
		if !strings.EqualFold(strings.ReplaceAll(s, "-", ""), strings.ReplaceAll(id.String(), "-", "")) {
			t.Fatalf("ParseUUID(%q) = %v: other digits", s, id)
		}
	})
}

func TestParseUUIDRefuses(t *testing.T) {
	for _, s := range []string{
		"", "8d2c6f0e", "8d2c6f0e-1f5b-4c0e-9a54-0d3f2b1c7e6g", "{8d2c6f0e-1f5b-4c0e-9a54-0d3f2b1c7e6}",
		"8d2c6f0e1-f5b-4c0e-9a54-0d3f2b1c7e60", strings.Repeat("0", 1<<20),
	} {
		_, err := ParseUUID(s)
		if err == nil {
			t.Errorf("ParseUUID accepted %.40q", s)
		} else if len(err.Error()) > 300 {
			t.Errorf("the error repeats %d bytes of input", len(err.Error()))
		}
	}
}

func TestEnumsHaveNames(t *testing.T) {
	if got := StateAbsent.String(); got != "absent" {
		t.Errorf("StateAbsent = %q", got)
	}
	if got := ReasonSaved.String(); got != "saved" {
		t.Errorf("ReasonSaved = %q", got)
	}
	if got := Reason(200).String(); got != "unknown" {
		t.Errorf("Reason(200) = %q", got)
	}
}
