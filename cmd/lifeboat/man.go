package main

import (
	"io"

	"github.com/alecthomas/kong"

	"lifeboat/internal/cli"
)

// ManCmd is 'lifeboat man'. Packages are made with it.
type ManCmd struct{}

// Run prints the manual page.
func (c *ManCmd) Run(kctx *kong.Context, env *cli.Env) error {
	_, err := io.WriteString(env.Stdout, cli.Manual(kctx.Model, env.Build.Version))
	return err
}
