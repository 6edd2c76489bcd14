package fsm

import (
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"lifeboat/fsm/logpb"
)

// FuzzAlertMatch: what is read of a match is written as it was read, and read again as the
// same; it chooses the same alerts before and after, and never panics.
func FuzzAlertMatch(f *testing.F) {
	f.Add("HOST,8", uint32(2), "h1,x*", "down", "rack", "a", "h1")
	f.Add("ALERT.USERVM", uint32(0), "*", "", "", "", "")
	f.Add("", uint32(9), "", "external: *", "zone", "", "x")
	f.Fuzz(func(t *testing.T, types string, severity uint32, subjects, causes, key, value, subject string) {
		words := func(s string) []string {
			if s == "" {
				return nil
			}
			return strings.Split(s, ",")
		}
		p := &logpb.AlertMatch{Types: words(types), Severity: severity, Subjects: words(subjects), Causes: words(causes)}
		if key != "" {
			p.Labels = []*logpb.Label{{Key: key, Value: value}}
		}
		m, no := matchFromLog(p)
		if no != "" {
			if !utf8.ValidString(no) && utf8.ValidString(types) {
				t.Errorf("the refusal is no text: %q", no)
			}
			return
		}
		again, no := matchFromLog(matchToLog(&m))
		if no != "" || !reflect.DeepEqual(m, again) && len(m.Types)+len(m.Subjects)+len(m.Causes)+len(m.Labels) > 0 {
			t.Fatalf("%+v became %+v (%s)", m, again, no)
		}
		s := newState()
		a := &AlertRecord{Key: AlertKey{AlertHost, subject, causes}, Name: subjects, Severity: Critical, Since: 1, Labels: []Label{{key, value}}}
		if m.Matches(s, a) != again.Matches(s, a) {
			t.Errorf("%+v chooses otherwise than %+v", m, again)
		}
		if m.Empty() && !m.Matches(s, a) {
			t.Errorf("%+v is empty and does not choose all", m)
		}
	})
}
