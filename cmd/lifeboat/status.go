package main

import (
	"context"
	"fmt"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// StatusCmd is 'lifeboat status'.
type StatusCmd struct {
	cli.ReadFlags
}

// Run shows the state of the cluster.
func (c *StatusCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.StatusResponse, error) {
		return cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.Status, &pb.StatusRequest{Stale: c.Stale, NPlusOne: !c.Watch})
	}, drawStatus)
}

// featureLevel is that of the cluster; the notes say why it is not higher.
func featureLevel(s *pb.StatusResponse) string {
	switch {
	case s.FeatureLevel == 0:
		return ""
	case s.NewestLevel > s.FeatureLevel:
		return fmt.Sprintf("level %d (version %s knows %d)", s.FeatureLevel, s.Version, s.NewestLevel)
	}
	return fmt.Sprintf("level %d", s.FeatureLevel)
}

// notifications says whether who is to be told of alerts is told; empty without receivers.
func notifications(v *cli.View, s *pb.StatusResponse) string {
	if s.Receivers+s.ReceiversFailing+s.NoticesWaiting == 0 {
		return ""
	}
	text := fmt.Sprintf("%s, %s waiting", cli.Count(s.Receivers, "receiver"), cli.Count(s.NoticesWaiting, "notice"))
	if s.DeliveredUnixNs != 0 {
		text += ", last delivery " + v.Time(s.DeliveredUnixNs)
	}
	if s.ReceiversFailing > 0 {
		text += fmt.Sprintf("; %d FAILING: see 'lifeboat notify list'", s.ReceiversFailing)
	}
	return text
}

func drawStatus(v *cli.View, s *pb.StatusResponse) {
	leader := "none is known: nothing can be changed until a majority of the nodes agrees on one"
	if s.LeaderId != "" {
		leader = fmt.Sprintf("%s at %s, term %d", s.LeaderId, s.LeaderAddr, s.Term)
	}
	armed := "DISARMED: nothing is fenced or restarted ('lifeboat ha arm')"
	if s.Armed {
		armed = "armed"
	}
	answered := fmt.Sprintf("%s (%s), version %s", s.NodeId, s.State, s.Version)
	if s.LeaderId != "" && s.NodeId != s.LeaderId && s.LastContactMs >= 0 {
		answered += ", heard the leader " + cli.Millis(s.LastContactMs) + " ago"
	}
	digest := ""
	if s.Digest != "" {
		digest = fmt.Sprintf("%s at index %d", s.Digest, s.AppliedIndex)
	}
	v.Fields(
		[2]string{"Cluster", s.ClusterId},
		[2]string{"Leader", leader},
		[2]string{"Answered by", answered},
		[2]string{"HA", armed},
		[2]string{"Hosts", fmt.Sprintf("%d of %d up", s.HostsUp, s.Hosts)},
		[2]string{"VMs", fmt.Sprintf("%d of %d protected running, %d known", s.VmsRunning, s.VmsProtected, s.Vms)},
		[2]string{fmt.Sprintf("N+%d", max(s.NPlus, 1)), s.NPlusOne},
		[2]string{"Open work", cli.Count(s.WorkOpen, "item")},
		[2]string{"Open alerts", cli.Count(s.AlertsOpen, "alert")},
		[2]string{"Notifications", notifications(v, s)},
		[2]string{"Log", fmt.Sprintf("applied to index %d, committed to index %d", s.AppliedIndex, s.CommitIndex)},
		[2]string{"State digest", digest},
		[2]string{"Features", featureLevel(s)},
	)
	if v.Wide {
		for _, d := range s.Digests {
			v.Line("  digest %s at index %d", d.Digest, d.Index)
		}
	}
	for _, n := range s.Notes {
		v.Line("! %s", n)
	}
}
