package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/internal/cli"
)

// LoginCmd is 'lifeboat login'.
type LoginCmd struct {
	joinFlags
	Name string `required:"" placeholder:"NAME" help:"Your name, as the token was made for."`
	To   string `placeholder:"FILE" help:"The context file to write; left out, the one that every command looks for."`
}

// Run makes you an operator of a cluster.
func (c *LoginCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	token, err := c.token(env, "operator")
	if err != nil {
		return err
	}
	if c.To == "" {
		if c.To, err = cli.UserContextPath(env); err != nil {
			return err
		}
	}
	c.To = absolute(c.To)
	if err := notThere(c.To, "it is the way to another cluster; name another file with --to, and use it with --context"); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.To), 0o700); err != nil {
		return fmt.Errorf("make %s: %w", filepath.Dir(c.To), err)
	}
	e := enrolment{dir: filepath.Join(filepath.Dir(c.To), "login-"+token.ID), name: "operator"}
	q := &pb.JoinRequest{Name: c.Name}
	r, creds, err := e.join(ctx, &c.joinFlags, g, token, q)
	if err != nil {
		return err
	}
	files := e.files()
	conf := cli.Context{Cert: files.Cert, Key: files.Key, CA: files.CA}
	for _, m := range r.Members {
		conf.Addrs = append(conf.Addrs, m.Addr)
	}
	if err := cli.WriteContext(c.To, conf); err != nil {
		return err
	}
	result := struct {
		Context string `json:"context"`
		Name    string `json:"name"`
		Role    string `json:"role"`
		Expires string `json:"certificate_expires"`
	}{c.To, c.Name, r.Role, rfc3339(creds.Expires())}
	return cli.PrintValue(env, g, result, fmt.Sprintf("Wrote %s: you are operator %s with the role %s, until %s.\nTry it: lifeboat status", c.To, c.Name, r.Role, result.Expires))
}
