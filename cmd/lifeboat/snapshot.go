package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"time"

	"connectrpc.com/connect"
	"filippo.io/age"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/fsm"
	"lifeboat/fsm/archive"
	"lifeboat/internal/cli"
	"lifeboat/node"
)

// SnapshotCmd is 'lifeboat snapshot'.
type SnapshotCmd struct {
	Save    SnapshotSaveCmd    `cmd:"" help:"Write the cluster's state to a file."`
	Inspect SnapshotInspectCmd `cmd:"" help:"Show what a snapshot holds. Works offline."`
	Verify  SnapshotVerifyCmd  `cmd:"" help:"Check a snapshot as a restore would. Works offline."`
	Restore SnapshotRestoreCmd `cmd:"" help:"Replace the state of the whole cluster by a snapshot. HA is disarmed then."`
}

// SnapshotSaveCmd is 'lifeboat snapshot save'.
type SnapshotSaveCmd struct {
	File      string   `arg:"" help:"File to write; it is replaced as a whole."`
	Stale     bool     `help:"Take the state of the node asked, also when it is not the leader and may be behind."`
	Recipient []string `placeholder:"age1..." help:"Encrypt it to the holder of this public key of age; give it again for more than one." sep:"none"`
}

// Run saves the state. The file is there complete and checked, or not at all.
func (c *SnapshotSaveCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	to, err := archive.ParseRecipients(c.Recipient)
	if err != nil {
		return cli.Usage("", "%w", err)
	}
	client, err := cli.Open(env, g)
	if err != nil {
		return err
	}
	defer client.Close()
	raw, err := download(ctx, client, c.Stale)
	if err != nil {
		return err
	}
	meta, _, err := archive.Read(bytes.NewReader(raw), node.FeatureLevel)
	if err != nil {
		return &cli.Error{Exit: cli.ExitFailed, Text: "what the cluster sent is " + err.Error(), Do: "compare 'lifeboat version' with 'lifeboat node list', then try again", Err: err}
	}
	if why := tooLarge(len(raw), node.MaxArchive); why != "" {
		fmt.Fprintln(env.Stderr, "warning: "+why)
	}
	if raw, err = archive.Seal(raw, to); err != nil {
		return err
	}
	if err := archive.Save(c.File, raw); err != nil {
		return err
	}
	return cli.PrintValue(env, g, meta, fmt.Sprintf("%s holds the state of log index %d: %s, %s (%s)", c.File, meta.Index,
		cli.Count(meta.Hosts, "host"), cli.Count(meta.VMs, "VM"), cli.Bytes(uint64(len(raw)))))
}

// download reads an archive in pieces. Once, a node that does not have it any more is
// asked for another one: it may not be the one that was asked before.
func download(ctx context.Context, client *cli.Client, stale bool) ([]byte, error) {
	client = client.Patient(time.Minute)
	var raw []byte
	again := false
	q := &pb.ReadSnapshotRequest{Stale: stale}
	for {
		r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.ReadSnapshot, q)
		if connect.CodeOf(err) == connect.CodeNotFound && q.Id != "" && !again {
			raw, again, q = nil, true, &pb.ReadSnapshotRequest{Stale: stale}
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(r.Data) == 0 {
			return nil, &cli.Error{Exit: cli.ExitFailed, Text: "node " + r.NodeId + " sent an empty piece of the snapshot", Do: "try again"}
		}
		raw = append(raw, r.Data...)
		if int64(len(raw)) >= r.Size {
			return raw, nil
		}
		q.Id, q.Offset = r.Id, int64(len(raw))
	}
}

// tooLarge says why an archive cannot be restored by sending it; "" = it can.
func tooLarge(size, most int) string {
	if size <= most {
		return ""
	}
	return fmt.Sprintf("the snapshot has %s, and a node takes at most %s in a restore: remove hosts and VMs that are no more, and save it again", cli.Bytes(uint64(size)), cli.Bytes(uint64(most)))
}

// ArchiveFile is a snapshot in a file.
type ArchiveFile struct {
	File     string `arg:"" help:"The snapshot."`
	Identity string `placeholder:"FILE" help:"Secret keys of age (age-keygen) to read an encrypted snapshot with."`
}

// read reads and checks the file. raw is decrypted.
func (c *ArchiveFile) read() (raw []byte, meta archive.Meta, s *fsm.State, err error) {
	var with []age.Identity
	if c.Identity != "" {
		if with, err = archive.ReadIdentities(c.Identity); err != nil {
			return nil, meta, nil, cli.Usage("", "%w", err)
		}
	}
	if raw, err = os.ReadFile(c.File); err != nil {
		return nil, meta, nil, cli.Usage("", "cannot read the snapshot: %w", err)
	}
	raw, err = archive.Open(raw, with)
	if errors.Is(err, archive.ErrSealed) {
		return nil, meta, nil, cli.Usage("name the file that holds the secret key of a recipient with --identity", "cannot read %s: %w", c.File, err)
	}
	if err == nil {
		meta, s, err = archive.Read(bytes.NewReader(raw), node.FeatureLevel)
	}
	if err != nil {
		return nil, meta, nil, &cli.Error{Exit: cli.ExitFailed, Text: c.File + " is " + err.Error(), Do: "take another one", Err: err}
	}
	return raw, meta, s, nil
}

// SnapshotInspectCmd is 'lifeboat snapshot inspect'.
type SnapshotInspectCmd struct {
	ArchiveFile
}

// Run shows the metadata.
func (c *SnapshotInspectCmd) Run(env *cli.Env, g *cli.Globals) error {
	_, m, _, err := c.read()
	if err != nil {
		return err
	}
	return cli.PrintValue(env, g, m, metaText(m))
}

func metaText(m archive.Meta) string {
	armed := "disarmed"
	if m.Armed {
		armed = "armed"
	}
	return fmt.Sprintf(`Taken:       %s by node %s, lifeboat %s (format %d, feature level %d)
Cluster:     %s, generation %d, HA %s
State:       log index %d, term %d, %s, digest %s
Holds:       %s, %s (%d protected), %d open work items, %d open alerts`, m.Taken.Format(time.RFC3339), m.Node, m.Version, m.Format, m.Level, m.ClusterID, m.Generation, armed, m.Index, m.Term, cli.Bytes(uint64(m.Bytes)), m.Digest,
		cli.Count(m.Hosts, "host"), cli.Count(m.VMs, "VM"), m.Protected, m.OpenWork, m.OpenAlerts)
}

// SnapshotVerifyCmd is 'lifeboat snapshot verify'.
type SnapshotVerifyCmd struct {
	ArchiveFile
}

// Run checks everything that can be checked without a cluster.
func (c *SnapshotVerifyCmd) Run(env *cli.Env, g *cli.Globals) error {
	_, m, _, err := c.read()
	if err != nil {
		return err
	}
	return cli.PrintValue(env, g, m, fmt.Sprintf("%s is whole: checksums, digest %s and every rule of the state hold for %s and %s", c.File, m.Digest,
		cli.Count(m.Hosts, "host"), cli.Count(m.VMs, "VM")))
}

// SnapshotRestoreCmd is 'lifeboat snapshot restore'.
type SnapshotRestoreCmd struct {
	ArchiveFile
	Yes          bool `help:"Do not ask. For scripts that have looked themselves."`
	OtherCluster bool `help:"Also when the snapshot is of another cluster than this one, as when a lost cluster is built anew."`
	OtherKey     bool `help:"Also when its definitions and passwords were sealed with another secret key, and cannot be read here."`
}

// Help is the long part of --help.
func (c *SnapshotRestoreCmd) Help() string {
	return `HA is disarmed first, and stays so: nothing is started, stopped or fenced until every host has registered again and you run 'lifeboat ha arm'. What happened since the snapshot is forgotten; VMs that run are taken over where they run.`
}

// Run shows what a restore changes, asks, disarms HA and restores.
func (c *SnapshotRestoreCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	raw, meta, next, err := c.read()
	if err != nil {
		return err
	}
	if why := tooLarge(len(raw), node.MaxArchive); why != "" {
		return &cli.Error{Exit: cli.ExitFailed, Text: why, Do: "nothing was changed"}
	}
	client, err := cli.Open(env, g)
	if err != nil {
		return err
	}
	defer client.Close()
	current, err := download(ctx, client, false)
	if err != nil {
		return err
	}
	_, now, err := archive.Read(bytes.NewReader(current), node.FeatureLevel)
	if err != nil {
		return &cli.Error{Exit: cli.ExitFailed, Text: "the state of this cluster cannot be compared: it is " + err.Error(), Do: "use the lifeboat of the cluster's version", Err: err}
	}
	fmt.Fprint(env.Stderr, metaText(meta)+"\n"+restoreText(fsm.Compare(now, next)))
	if !c.Yes {
		answer, err := cli.AskLine(ctx, env, fmt.Sprintf("The state of cluster %s is replaced, and HA disarmed. Type the id of the cluster (%s) to go on: ", now.ClusterID, now.ClusterID))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil || answer != now.ClusterID {
			return &cli.Error{Exit: cli.ExitFailed, Text: "nothing was restored: the answer was not the cluster's id; nothing was changed", Do: "answer with the id, or use --yes in scripts"}
		}
	}
	if now.Armed {
		if _, err := cli.Write(ctx, client, lifeboatv1connect.AdminServiceClient.ControlHA, &pb.ControlHARequest{Action: "disarm"}); err != nil {
			return err
		}
	}
	return c.send(ctx, env, g, client, raw)
}

// sendPiece is how many bytes go in one request.
const sendPiece = 1 << 20

func (c *SnapshotRestoreCmd) send(ctx context.Context, env *cli.Env, g *cli.Globals, client *cli.Client, raw []byte) error {
	id := ""
	for begin := 0; begin < len(raw); begin += sendPiece {
		// A piece that is there already is no error, so it may be sent like a read.
		r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.WriteSnapshot,
			&pb.WriteSnapshotRequest{Id: id, Offset: int64(begin), Data: raw[begin:min(len(raw), begin+sendPiece)]})
		if err != nil {
			return err
		}
		id = r.Id
	}
	sum := sha256.Sum256(raw)
	return changeWith(ctx, env, g, client.Patient(5*time.Minute), cli.WriteOnce, lifeboatv1connect.AdminServiceClient.RestoreSnapshot,
		&pb.RestoreSnapshotRequest{Id: id, Sha256: sum[:], OtherCluster: c.OtherCluster, OtherKey: c.OtherKey}, "the snapshot was restored", "")
}

// restoreText says what a restore changes.
func restoreText(c *fsm.Comparison) string {
	var b bytes.Buffer
	b.WriteString("A restore changes:\n")
	for _, x := range []struct {
		name string
		d    fsm.Difference
	}{{"hosts", c.Hosts}, {"VMs", c.VMs}, {"open work", c.Work}, {"alerts", c.Alerts}} {
		fmt.Fprintf(&b, "  %-10s %d added, %d removed, %d changed", x.name, x.d.Added, x.d.Removed, x.d.Changed)
		if all := x.d.Added + x.d.Removed + x.d.Changed; all > 0 {
			fmt.Fprintf(&b, ": %q", x.d.First)
			if more := all - len(x.d.First); more > 0 {
				fmt.Fprintf(&b, " and %d more", more)
			}
		}
		b.WriteByte('\n')
	}
	for _, p := range c.Policy {
		fmt.Fprintf(&b, "  policy     %s\n", p)
	}
	return b.String()
}
