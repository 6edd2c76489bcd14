package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/ha/replay"
	"lifeboat/internal/cli"
	"lifeboat/node"
)

// ReplayCmd is 'lifeboat replay'.
type ReplayCmd struct {
	Path     string   `arg:"" help:"Data directory of a stopped server, or a copy of it; or a snapshot archive."`
	Log      string   `placeholder:"DIR" help:"With an archive: the data directory whose log goes on from it."`
	To       uint64   `placeholder:"INDEX" help:"Stop after this index of the log."`
	Set      []string `placeholder:"KEY=VALUE" sep:"none" help:"What would this policy setting have changed? Give it again for more than one."`
	All      bool     `short:"a" help:"Also the entries that nothing came of, as the one each second."`
	Identity string   `placeholder:"FILE" help:"Secret keys of age to read an encrypted archive with."`
}

// Help is the long part of --help.
func (c *ReplayCmd) Help() string {
	return `Works offline and only reads. The state is rebuilt entry by entry as the servers did; snapshots on the way must be equal to it. Placements are decided again on the states before them: that a host was taken to be silent or dead is not judged, since what the leader heard is not in the log. See docs/incidents.md.`
}

// replayed is what a replay prints for programs.
type replayed struct {
	From       uint64          `json:"from"` // index of the state that it began with
	To         uint64          `json:"to"`
	Digest     string          `json:"digest"`
	Time       string          `json:"time"`
	Snapshots  int             `json:"snapshots_equal"`
	Reproduced int             `json:"placements_reproduced"`
	Differ     int             `json:"placements_different"`
	Refused    int             `json:"placements_refused"` // nothing came of them
	Changed    int             `json:"changed"`
	Unequal    []uint64        `json:"snapshots_unequal"`
	Entries    []replayedEntry `json:"entries"`
}

type replayedEntry struct {
	Index    uint64           `json:"index"`
	Term     uint64           `json:"term"`
	Time     string           `json:"time"`
	Kind     string           `json:"kind"`
	Actor    string           `json:"actor,omitempty"`
	Refused  string           `json:"refused,omitempty"`
	Events   []string         `json:"events,omitempty"`
	Findings []replay.Finding `json:"findings,omitempty"`
}

// Run replays, and exits with 1 when something is not as it was.
func (c *ReplayCmd) Run(env *cli.Env, g *cli.Globals) error {
	set, err := c.settings()
	if err != nil {
		return err
	}
	dir, base, err := c.open()
	if err != nil {
		return err
	}
	h, err := node.OpenHistory(dir)
	if err != nil {
		return &cli.Error{Exit: cli.ExitFailed, Text: err.Error(), Do: "name the data_dir of a server that is stopped, or a copy of it", Err: err}
	}
	defer h.Close()
	out := &replayed{Entries: []replayedEntry{}, Unequal: []uint64{}}
	var follow *replay.Replay
	var last *fsm.State
	err = h.Replay(base, c.To, func(s *fsm.State, at uint64) (err error) {
		out.From, out.To, last = at, at, s
		if follow, err = replay.New(s, set); err != nil {
			return cli.Usage("'lifeboat policy list' shows the settings", "%w", err)
		}
		return nil
	}, func(r node.Replayed) error {
		last, out.To = r.After, r.Log.Index
		e, cmd := entryOf(r)
		if cmd != nil {
			e.Findings = follow.Step(cmd, r.After, r.Result.Rejected == "" && !r.Result.Void)
		}
		for _, f := range e.Findings {
			switch f.Kind {
			case replay.Reproduced:
				out.Reproduced++
			case replay.Differs:
				out.Differ++
			case replay.Refused:
				out.Refused++
			default:
				out.Changed++
			}
		}
		switch {
		case r.Kept == nil:
		case r.Kept.Sum() == r.After.Sum():
			out.Snapshots++
		default:
			out.Unequal = append(out.Unequal, r.Log.Index)
		}
		if c.All || len(e.Events) > 0 || len(e.Findings) > 0 || e.Refused != "" {
			out.Entries = append(out.Entries, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	out.Digest, out.Time = fmt.Sprintf("%016x", last.Sum()), time.Unix(0, last.Time).UTC().Format(time.RFC3339)
	if err := cli.PrintValue(env, g, out, out.text(len(set) > 0)); err != nil {
		return err
	}
	if len(out.Unequal) > 0 || out.Differ > 0 {
		return &cli.Error{Exit: cli.ExitFailed, Text: fmt.Sprintf("the log is not what was decided: %s not decided again, %s not equal to what the log makes", cli.Count(out.Differ, "placement"), cli.Count(len(out.Unequal), "snapshot")),
			Do: "look at the lines with a ! above"}
	}
	return nil
}

func (c *ReplayCmd) settings() (set []fsm.Setting, err error) {
	for _, s := range c.Set {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return nil, cli.Usage("write it as key=value", "wrong setting %q", s)
		}
		set = append(set, fsm.Setting{Key: strings.ReplaceAll(key, "-", "_"), Value: value})
	}
	return set, nil
}

// open finds the log, and reads the archive that it goes on from, if there is one.
func (c *ReplayCmd) open() (dir string, base *fsm.State, err error) {
	fi, err := os.Stat(c.Path)
	switch {
	case err != nil:
		return "", nil, cli.Usage("", "cannot read what is to be replayed: %w", err)
	case fi.IsDir() && c.Log != "":
		return "", nil, cli.Usage("name an archive and --log, or a directory alone", "%s is a directory and has a log of its own", c.Path)
	case fi.IsDir():
		return c.Path, nil, nil
	}
	file := ArchiveFile{File: c.Path, Identity: c.Identity}
	if _, _, base, err = file.read(); err != nil {
		return "", nil, err
	}
	if c.Log == "" {
		return "", nil, cli.Usage("name the data directory of a stopped server of that cluster with --log; 'lifeboat snapshot inspect' shows what the archive holds", "%s is the state of log index %d, and holds no log to go on with", c.Path, base.Index)
	}
	return c.Log, base, nil
}

// entryOf says what an entry did; the command is nil where Raft wrote it for itself.
func entryOf(r node.Replayed) (replayedEntry, *logpb.Command) {
	e := replayedEntry{Index: r.Log.Index, Term: r.Log.Term, Kind: "raft", Time: time.Unix(0, r.After.Time).UTC().Format("2006-01-02T15:04:05.000Z"), Refused: r.Result.Rejected}
	var newest fsm.EventID
	for id := range r.Before.EventsDown() {
		newest = id
		break
	}
	for _, x := range r.After.EventsAfter(newest) {
		e.Events = append(e.Events, x.Type+": "+x.Text)
	}
	if r.Log.Type != raft.LogCommand {
		return e, nil
	}
	cmd := &logpb.Command{}
	if err := proto.Unmarshal(r.Log.Data, cmd); err != nil {
		return e, nil // it would not have been applied
	}
	m := cmd.ProtoReflect()
	if f := m.WhichOneof(m.Descriptor().Oneofs().ByName("body")); f != nil {
		e.Kind = string(f.Name())
	}
	e.Actor = cmd.Actor
	return e, cmd
}

func (out *replayed) text(asked bool) string {
	var b strings.Builder
	for _, e := range out.Entries {
		fmt.Fprintf(&b, "%d  %s  %s", e.Index, e.Time, e.Kind)
		if e.Actor != "" {
			fmt.Fprintf(&b, " (%s)", e.Actor)
		}
		if e.Refused != "" {
			fmt.Fprintf(&b, ": refused: %q", e.Refused)
		}
		b.WriteByte('\n')
		for _, x := range e.Events {
			fmt.Fprintf(&b, "    %s\n", printable(x))
		}
		for _, f := range e.Findings {
			mark := map[replay.Kind]string{replay.Reproduced: "=", replay.Differs: "!", replay.Refused: "-"}[f.Kind]
			if mark == "" {
				mark = "?"
			}
			fmt.Fprintf(&b, "  %s %s\n", mark, printable(f.Text))
		}
	}
	for _, i := range out.Unequal {
		fmt.Fprintf(&b, "! the snapshot of index %d is not the state that the log makes\n", i)
	}
	fmt.Fprintf(&b, "From index %d to %d (%s): the state has the digest %s. %s on the way equal, %d not; %s decided again, %d not.\n", out.From, out.To, out.Time, out.Digest,
		cli.Count(out.Snapshots, "snapshot"), len(out.Unequal), cli.Count(out.Reproduced, "placement"), out.Differ)
	if asked {
		fmt.Fprintf(&b, "With the settings asked about: %s. Each decision is looked at by itself, on the state that the log made; what follows from another target is not.\n", cli.Count(out.Changed, "change"))
	}
	b.WriteString("Not judged, since it is not in the log: who was heard when, evidence, power readings, and what the leader did not decide.")
	return b.String()
}

// printable keeps foreign text on its line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
