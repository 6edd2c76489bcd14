package main

import (
	"context"
	"fmt"
	"strings"

	"lifeboat/internal/cli"
	"lifeboat/node"
)

// ServerRecoverCmd is 'lifeboat server recover'.
type ServerRecoverCmd struct {
	Config     string `required:"" short:"c" placeholder:"FILE" help:"YAML configuration of this node, which must be stopped."`
	Peers      string `required:"" placeholder:"FILE" help:"Names the nodes of the cluster from now on, one 'id: host:port' in a line. Usually this one alone."`
	AcceptTime bool   `help:"Also when this node's clock is more than an hour ahead of what it has, as after a long outage."`
	Yes        bool   `help:"Do not ask. For scripts that have looked themselves."`
}

// Help is the long part of --help.
func (c *ServerRecoverCmd) Help() string {
	return `For a cluster whose majority is lost for ever; while it can come back, wait for it. Run it on the node that is left with the newest state: it says which that is, and changes nothing before it is answered. What the lost nodes acknowledged after that is forgotten. HA is disarmed: nothing is started, stopped or fenced until every host has registered again and you run 'lifeboat ha arm'. See docs/recovery.md.`
}

// Run shows what a recovery does, asks, and does it.
func (c *ServerRecoverCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	cfg, err := node.LoadConfig(c.Config)
	if err != nil {
		return cli.Usage("", "%w", err)
	}
	peers, err := node.ReadPeers(c.Peers)
	if err != nil {
		return cli.Usage("", "%w", err)
	}
	r, err := node.Recover(cfg, peers, c.AcceptTime, newLogger(env.Stderr, "lifeboat", "error", cfg.Log.Format), func(r node.Recovery) error {
		fmt.Fprint(env.Stderr, recoveryText(r))
		if c.Yes {
			return nil
		}
		answer, err := cli.AskLine(ctx, env, fmt.Sprintf("Type the id of the cluster (%s) to go on: ", r.ClusterID))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil || answer != r.ClusterID {
			return &cli.Error{Exit: cli.ExitFailed, Text: "nothing was recovered: the answer was not the cluster's id; nothing was changed", Do: "answer with the id, or use --yes in scripts"}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return cli.PrintValue(env, g, r, fmt.Sprintf("%s recovered: %s, generation %d, HA is disarmed. Start its server; when `lifeboat host list` shows every host as Up, look at `lifeboat vm list` and run `lifeboat ha arm`.",
		cli.Count(len(r.Members), "node"), strings.Join(r.Members, ", "), r.Generation))
}

func recoveryText(r node.Recovery) string {
	text := fmt.Sprintf(`Node %s has the state of log index %d, term %d, %s: %s, %s, %d open work items.
This node's clock says %s.
The cluster from now on: %s. `, r.Node, r.Index, r.Term, r.Time, cli.Count(r.Hosts, "host"), cli.Count(r.VMs, "VM"), r.OpenWork, r.Clock, strings.Join(r.Members, ", "))
	if len(r.Lost) > 0 {
		text += fmt.Sprintf("No members any more: %s. They must never start again with the data they have.", strings.Join(r.Lost, ", "))
	}
	return text + `
What other nodes acknowledged after that index is forgotten. Where another node is left, compare first: the highest term counts,
then the highest index.
Open work is dropped, every host has to register again, and HA is disarmed.
`
}
