package replay_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha/replay"
)

type entry struct {
	fsm.Entry
	cmd *logpb.Command
}

func entries(t *testing.T, path string) (out []entry) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var e entry
		var body string
		if _, err := fmt.Sscan(line, &e.Index, &e.Term, &body); err != nil {
			continue
		}
		if e.Data, err = hex.DecodeString(body); err != nil {
			t.Fatal(err)
		}
		e.cmd = &logpb.Command{}
		if err := proto.Unmarshal(e.Data, e.cmd); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// follow replays entries; alter may change what each says before it is committed.
func follow(t *testing.T, all []entry, set []fsm.Setting, alter func(*logpb.Command)) (s *fsm.State, found []replay.Finding) {
	t.Helper()
	m := fsm.NewMachine()
	r, err := replay.New(m.State(), set)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		c, data := e.cmd, e.Data
		if alter != nil {
			c = proto.Clone(c).(*logpb.Command)
			alter(c)
			if data, err = proto.Marshal(c); err != nil {
				t.Fatal(err)
			}
		}
		x := m.Apply([]fsm.Entry{{Index: e.Index, Term: e.Term, Data: data}})[0]
		sum := m.State().Sum()
		found = append(found, r.Step(c, m.State(), x.Rejected == "" && !x.Void)...)
		if m.State().Sum() != sum {
			t.Fatal("looking at an entry has changed the state")
		}
	}
	return m.State(), found
}

// Golden logs are replayed to the digest that lies beside them, whatever is asked.
func TestGoldenLogsMakeTheirDigest(t *testing.T) {
	paths, _ := filepath.Glob("../../fsm/testdata/logs/*.log")
	if len(paths) < 10 {
		t.Fatal(paths)
	}
	for _, path := range paths {
		s, _ := follow(t, entries(t, path), []fsm.Setting{{Key: "takeover", Value: "1h"}}, nil)
		want, err := os.ReadFile(strings.TrimSuffix(path, ".log") + ".digest")
		if err != nil {
			t.Fatal(err)
		}
		if have := fmt.Sprintf("%016x", s.Sum()); !strings.Contains(string(want), have) {
			t.Errorf("%s: digest %s is not in %.60s", path, have, want)
		}
	}
}
