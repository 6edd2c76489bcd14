package main

import (
	"io"

	"github.com/alecthomas/kong"

	"lifeboat/internal/cli"
)

// CompletionCmd is 'lifeboat completion'.
type CompletionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"Your shell: ${enum}."`
}

// Help is the long part of --help.
func (c *CompletionCmd) Help() string {
	return `Try it in bash: source <(lifeboat completion bash). Each script begins with how to install it.`
}

// Run prints the script.
func (c *CompletionCmd) Run(kctx *kong.Context, env *cli.Env) error {
	script, err := cli.Completion(c.Shell, kctx.Model)
	if err != nil {
		return err
	}
	_, err = io.WriteString(env.Stdout, script)
	return err
}
