package main

import (
	"context"
	"fmt"
	"strings"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
)

// PolicyCmd is 'lifeboat policy'.
type PolicyCmd struct {
	List PolicyListCmd `cmd:"" help:"List every setting, and the worst cases that follow from them."`
	Get  PolicyGetCmd  `cmd:"" help:"Print one setting."`
	Set  PolicySetCmd  `cmd:"" help:"Change settings. They are checked as a whole: all are taken or none."`
}

// PolicyListCmd is 'lifeboat policy list'.
type PolicyListCmd struct {
	cli.ReadFlags
}

// Run lists the settings.
func (c *PolicyListCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.GetPolicyResponse, error) {
		return cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.GetPolicy, &pb.GetPolicyRequest{Stale: c.Stale})
	}, func(v *cli.View, r *pb.GetPolicyResponse) {
		cli.DrawTable(v, settingColumns(), r.Settings, "No settings are known.")
		for _, line := range r.Computed {
			v.Line("= %s", line)
		}
	})
}

func settingColumns() []cli.Column[*pb.Setting] {
	return []cli.Column[*pb.Setting]{
		{Title: "SETTING", Cell: func(_ *cli.View, s *pb.Setting) string { return s.Key }},
		{Title: "VALUE", Cell: func(_ *cli.View, s *pb.Setting) string { return s.Value }},
		{Title: "DEFAULT", Cell: func(_ *cli.View, s *pb.Setting) string { return s.DefaultValue }},
		{Title: "MEANING", Cell: func(_ *cli.View, s *pb.Setting) string { return s.Doc }},
	}
}

// PolicyGetCmd is 'lifeboat policy get'.
type PolicyGetCmd struct {
	cli.ReadFlags
	Key string `arg:"" help:"Name of the setting."`
}

// Run prints the value alone, for scripts.
func (c *PolicyGetCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	return cli.Show(ctx, env, g, c.ReadFlags, func(ctx context.Context, client *cli.Client) (*pb.Setting, error) {
		r, err := cli.Read(ctx, client, lifeboatv1connect.AdminServiceClient.GetPolicy, &pb.GetPolicyRequest{Stale: c.Stale})
		if err != nil {
			return nil, err
		}
		for _, s := range r.Settings {
			if s.Key == c.Key {
				return s, nil
			}
		}
		return nil, notFound("setting", c.Key, seePolicy)
	}, func(v *cli.View, s *pb.Setting) {
		v.Line("%s", s.Value)
	})
}

// PolicySetCmd is 'lifeboat policy set'.
type PolicySetCmd struct {
	Settings []string `arg:"" name:"key=value" help:"Settings with their new values."`
}

// Run changes settings.
func (c *PolicySetCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	req := &pb.SetPolicyRequest{}
	seen := map[string]bool{}
	for _, s := range c.Settings {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" || value == "" {
			return cli.Usage("write it as key=value", "wrong setting %q", s)
		}
		if seen[key] {
			return cli.Usage("give each setting once", "setting %s is there twice", key)
		}
		seen[key] = true
		req.Settings = append(req.Settings, &pb.Setting{Key: key, Value: value})
	}
	return change(ctx, env, g, lifeboatv1connect.AdminServiceClient.SetPolicy, req,
		fmt.Sprintf("%s changed", cli.Count(len(req.Settings), "setting")), seePolicy)
}
