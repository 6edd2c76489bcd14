package events

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestReadRefusesWithTheLine(t *testing.T) {
	good := `{"id":"1","type":"LB.CREATE","resource":"7","time":"2026-01-02T03:04:05.000000006Z","account":"a"}`
	for want, text := range map[string]string{
		"line 2: it is no event":  good + "\nnonsense",
		"line 1: it is no event":  `{"id":1}`,
		"unknown field":           strings.Replace(good, "account", "acount", 1),
		"something stands behind": good + good,
		"needs an id":             strings.Replace(good, `"1"`, `""`, 1),
		"needs a type":            strings.Replace(good, `"7"`, `""`, 1),
		"needs the time":          `{"id":"1","type":"LB.CREATE","resource":"7"}`,
		"out of range":            strings.Replace(good, "2026", "1026", 1),
		"line 3 is longer":        good + "\n\n" + strings.Repeat("x", maxLine+1),
		"line 1: it is not UTF-8": "\xff\xfe",
		"line 3: it is no event":  "\n\n[]",
	} {
		err := Read(strings.NewReader(text), func(int, Event) error { return nil })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text[:min(len(text), 80)], err, want)
		}
	}
	var got []Event
	err := Read(strings.NewReader("\xef\xbb\xbf"+good+"\r\n\n"+good), func(_ int, e Event) error { got = append(got, e); return nil })
	if err != nil || len(got) != 2 || got[0].Time.Nanosecond() != 6 {
		t.Errorf("got %v, %v", got, err)
	}
	stop := errors.New("stop")
	if err := Read(strings.NewReader(good), func(int, Event) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"id":"1","type":"LB.CREATE","resource":"7","time":"2026-01-02T03:04:05Z","account":"a","size":5}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := Parse(raw)
		if err != nil {
			return
		}
		again, err := json.Marshal(e)
		if err != nil {
			t.Skip() // a year that JSON has no form for
		}
		back, err := Parse(again)
		if err != nil {
			t.Fatalf("%s was read from %q and is refused: %v", again, raw, err)
		}
		if !back.Time.Equal(e.Time) {
			t.Fatalf("%s became %s", e.Time, back.Time)
		}
		back.Time, e.Time = time.Time{}, time.Time{}
		if back != e {
			t.Fatalf("%+v became %+v", e, back)
		}
	})
}

// FuzzRead: of a batch, whatever was written as events is read as the same, in order and with
// its line; what is none stops it with the line's number.
func FuzzRead(f *testing.F) {
	f.Add("1", "LB.CREATE", "7", int64(1767323045), "alice", "\n\n")
	f.Add("a\"b", "X\n", "é", int64(0), "", "\r\n")
	f.Add("1", "T", "r", int64(1), "", "nonsense\n")
	f.Fuzz(func(t *testing.T, id, typ, resource string, at int64, account, between string) {
		e := Event{ID: id, Type: typ, Resource: resource, Time: time.Unix(at, 0).UTC(), Account: account}
		line, err := json.Marshal(e)
		if err != nil || e.check() != nil || !utf8.ValidString(id+" "+typ+" "+resource+" "+account) || len(line) >= maxLine {
			t.Skip()
		}
		var got []Event
		text := string(line) + "\n" + between + "\n" + string(line) + "\n"
		err = Read(strings.NewReader(text), func(n int, x Event) error {
			if x == e && strings.Split(text, "\n")[n-1] != string(line) && strings.TrimSpace(between) == "" {
				t.Fatalf("line %d is said to be an event", n)
			}
			got = append(got, x)
			return nil
		})
		if len(got) == 0 || got[0] != e {
			t.Fatalf("%q was read as %+v: %v", line, got, err)
		}
		switch {
		case strings.TrimSpace(between) == "" && (err != nil || len(got) != 2 || got[1] != e):
			t.Fatalf("%q gave %+v, %v", text, got, err)
		case err != nil && !strings.Contains(err.Error(), "line "):
			t.Fatalf("the error does not say where: %v", err)
		}
	})
}
