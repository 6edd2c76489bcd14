package main

import (
	"io"
	"time"

	"github.com/alecthomas/kong"

	"lifeboat/internal/cli"
)

// ManCmd is 'lifeboat man'. Packages are made with it.
type ManCmd struct{}

// Run prints the manual page.
func (c *ManCmd) Run(kctx *kong.Context, env *cli.Env) error {
	date := env.Build.Date
	if date == "" { // built outside a repository
		date = env.Now().UTC().Format(time.DateOnly)
	}
	_, err := io.WriteString(env.Stdout, cli.Manual(kctx.Model, env.Build.Version, date))
	return err
}
