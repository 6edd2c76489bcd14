package node

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	lifeboatv1 "lifeboat/api/lifeboat/v1"
	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
)

// FuzzFilter: what the API says of a filter that was taken is taken as the same filter.
func FuzzFilter(f *testing.F) {
	f.Add("HOST,8", "warning", "h1,x*", "down", "rack", "a")
	f.Add("ALERT.USERVM", "", "", "", "", "")
	f.Add("host", "Critical", "\xff", "", "k", "\xff")
	f.Fuzz(func(t *testing.T, types, severity, subjects, causes, key, value string) {
		words := func(s string) []string {
			if s == "" {
				return nil
			}
			return strings.Split(s, ",")
		}
		q := &lifeboatv1.AlertFilter{Types: words(types), Severity: severity, Subjects: words(subjects), Causes: words(causes)}
		if key != "" {
			q.Labels = map[string]string{key: value}
		}
		m, err := match(q)
		if err != nil {
			return
		}
		raw, err := proto.Marshal(&logpb.Command{Body: &logpb.Command_SilenceSet{SilenceSet: &logpb.SilenceSet{Match: m, Reason: "x", ForNs: 1}}})
		if err != nil {
			t.Fatalf("it cannot be written to the log: %v", err)
		}
		init, _ := proto.Marshal(&logpb.Command{Body: &logpb.Command_ClusterInit{ClusterInit: &logpb.ClusterInit{ClusterId: "c", FeatureLevel: fsm.FeatureLevel}}})
		machine := fsm.NewMachine()
		if r := machine.Apply([]fsm.Entry{{Index: 1, Term: 1, Data: init}, {Index: 2, Term: 1, Data: raw}}); r[1].Rejected != "" {
			return
		}
		for _, x := range machine.State().Silences() {
			view := matchView(&x.Match)
			again, err := match(view)
			if err != nil {
				t.Fatalf("%v is shown as %v, and that is refused: %v", q, view, err)
			}
			if back := matchView(&x.Match); !proto.Equal(view, back) || len(again.Types) != len(view.Types) {
				t.Fatalf("%v became %v", view, again)
			}
			for i, w := range again.Types {
				if w != view.Types[i] {
					t.Fatalf("type %s became %s", view.Types[i], w)
				}
			}
			for i, w := range again.Subjects {
				if w != view.Subjects[i] {
					t.Fatalf("subject %q became %q", view.Subjects[i], w)
				}
			}
		}
	})
}
