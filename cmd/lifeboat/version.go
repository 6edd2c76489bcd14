package main

import (
	"fmt"

	"lifeboat/internal/cli"
)

// VersionCmd is 'lifeboat version'.
type VersionCmd struct{}

// Run prints which build this is. It talks to nobody.
func (c *VersionCmd) Run(env *cli.Env, g *cli.Globals) error {
	b := env.Build
	commit := ""
	if b.Commit != "" {
		commit = "commit " + b.Commit[:min(12, len(b.Commit))]
		if b.Modified {
			commit += " with changes"
		}
		commit += ", "
	}
	return cli.PrintValue(env, g, b, fmt.Sprintf("lifeboat %s (%s%s, %s)", b.Version, commit, b.Go, b.Platform))
}
