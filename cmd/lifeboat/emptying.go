package main

import (
	"context"
	"fmt"
	"time"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/internal/cli"
)

// emptyPoll is how often a host that is being emptied is looked at.
const emptyPoll = time.Second

// awaitEmpty shows how far a host is that is being emptied, and ends when it is in
// maintenance, or cannot be emptied.
func awaitEmpty(ctx context.Context, env *cli.Env, g *cli.Globals, host string) error {
	client, err := cli.Open(env, g)
	if err != nil {
		return err
	}
	defer client.Close()
	last := ""
	for {
		h, err := findHost(ctx, client, host, false)
		if err != nil {
			return err
		}
		if h.Emptying != last && h.Emptying != "" {
			last = h.Emptying
			fmt.Fprintf(env.Stderr, "%s: %s\n", host, last)
		}
		switch h.Resource {
		case "Maintenance":
			fmt.Fprintf(env.Stderr, "host %s is in maintenance\n", host)
			if h.Staying != "" {
				fmt.Fprintln(env.Stderr, h.Staying)
			}
			return nil
		case "ErrorInMaintenance":
			return fmt.Errorf("host %s cannot be emptied: %s", host, left(h))
		case "Enabled", "Disabled":
			return fmt.Errorf("the maintenance of host %s was called off: it is %s", host, h.Resource)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(emptyPoll):
		}
	}
}

func left(h *pb.HostView) string {
	return fmt.Sprintf("%d VMs run there still; %s", h.ToMove, h.Emptying)
}
