package main

import (
	"context"

	"connectrpc.com/connect"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/internal/cli"
)

// change sends one write and prints what the cluster says to it. done is the
// sentence for when the cluster says nothing; hint is what to do when it
// refuses without saying that.
func change[Req any](ctx context.Context, env *cli.Env, g *cli.Globals, m cli.Method[Req, pb.WriteResponse], req *Req, done, hint string) error {
	return changeBy(ctx, env, g, cli.Write, m, req, done, hint)
}

// changeOnce is change for what the cluster cannot remember.
func changeOnce[Req any](ctx context.Context, env *cli.Env, g *cli.Globals, m cli.Method[Req, pb.WriteResponse], req *Req, done, hint string) error {
	return changeBy(ctx, env, g, cli.WriteOnce, m, req, done, hint)
}

// sender is cli.Write or another way to send a write.
type sender[Req any] func(context.Context, *cli.Client, cli.Method[Req, pb.WriteResponse], *Req) (*pb.WriteResponse, error)

func changeBy[Req any](ctx context.Context, env *cli.Env, g *cli.Globals, send sender[Req], m cli.Method[Req, pb.WriteResponse], req *Req, done, hint string) error {
	client, err := cli.Open(env, g)
	if err != nil {
		return err
	}
	defer client.Close()
	return changeWith(ctx, env, g, client, send, m, req, done, hint)
}

func changeWith[Req any](ctx context.Context, env *cli.Env, g *cli.Globals, client *cli.Client, send sender[Req], m cli.Method[Req, pb.WriteResponse], req *Req, done, hint string) error {
	res, err := send(ctx, client, m, req)
	if err != nil {
		return withNames(err, hint)
	}
	if res.Message == "" {
		res.Message = done
	}
	return cli.Print(env, g, res, func(v *cli.View, w *pb.WriteResponse) {
		if w.DoneBefore {
			v.Line("%s", w.Message) // which names the index
			return
		}
		v.Line("%s (log index %d)", w.Message, w.Index)
	})
}

// The names that a refusal usually is about.
const (
	seeHosts  = "'lifeboat host list' shows the hosts"
	seeVMs    = "'lifeboat vm list' shows the VMs"
	seeWork   = "'lifeboat work list --all' shows the work items"
	seeAlerts = "'lifeboat alert list --all' shows the alerts"
	seeNodes  = "'lifeboat node list' shows the nodes"
	seePolicy = "'lifeboat policy list' shows the settings"
)

// withNames adds to a refusal of a name where the names are.
func withNames(err error, hint string) error {
	return cli.WithHint(err, hint, connect.CodeNotFound, connect.CodeInvalidArgument)
}

// notFound is the refusal for a name that is not in a list of the cluster.
func notFound(noun, name, hint string) error {
	return &cli.Error{Exit: cli.ExitRefused, Text: "no " + noun + " \"" + name + "\" in this cluster", Do: hint}
}
