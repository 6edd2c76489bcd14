package main

import (
	"context"
	"fmt"
	"io"

	"lifeboat/internal/cli"
	"lifeboat/internal/configfile"
)

// ConfigCmd is 'lifeboat config'.
type ConfigCmd struct {
	Check   ConfigCheckCmd   `cmd:"" help:"Find everything that is wrong with a configuration file and with what it names on this machine."`
	Default ConfigDefaultCmd `cmd:"" help:"Print a complete configuration file, every setting with its meaning and default."`
}

// ConfigDefaultCmd is 'lifeboat config default'.
type ConfigDefaultCmd struct {
	Kind string `arg:"" enum:"server,agent" help:"Whose: ${enum}."`
}

// Run prints the file.
func (c *ConfigDefaultCmd) Run(env *cli.Env) error {
	text, err := configfile.Default(configfile.Kind(c.Kind))
	if err != nil {
		return err
	}
	_, err = io.WriteString(env.Stdout, text)
	return err
}

// ConfigCheckCmd is 'lifeboat config check'.
type ConfigCheckCmd struct {
	File   string `arg:"" placeholder:"FILE" help:"The file to check."`
	Kind   string `enum:",server,agent" default:"" help:"Whose configuration it is; left out, its keys say."`
	User   string `placeholder:"NAME" help:"Who will run it; left out, this user, and for a server that root checks the user lifeboat, where there is one."`
	Values bool   `help:"Look at the file only, not at this machine: for a file that is meant for another one."`
}

// Help is the long part of --help.
func (c *ConfigCheckCmd) Help() string {
	return `It changes nothing and may run beside the server or agent. Code 0: nothing is wrong, warnings aside. Code 1: it found errors.`
}

// Run checks and prints what it found.
func (c *ConfigCheckCmd) Run(ctx context.Context, env *cli.Env, g *cli.Globals) error {
	report, err := configfile.Check(ctx, c.File, configfile.Options{Kind: configfile.Kind(c.Kind), User: c.User, Values: c.Values})
	if err != nil {
		return cli.Usage("", "%w", err)
	}
	text, err := drawReport(env, report)
	if err != nil {
		return err
	}
	if err := cli.PrintValue(env, g, report, text); err != nil {
		return err
	}
	if !report.Valid {
		return &cli.Error{Exit: cli.ExitFailed, Text: fmt.Sprintf("%s is not usable", c.File), Do: "correct the errors above and check again"}
	}
	return nil
}

func drawReport(env *cli.Env, r configfile.Report) (string, error) {
	if len(r.Findings) == 0 {
		return fmt.Sprintf("%s is a valid configuration of a lifeboat %s.", r.File, r.Kind), nil
	}
	v := &cli.View{Now: env.Now()}
	for i, f := range r.Findings {
		if i > 0 {
			v.Line("")
		}
		place := r.File
		if f.Line > 0 {
			place = fmt.Sprintf("%s:%d", r.File, f.Line)
		}
		text := f.Problem
		if f.Key != "" {
			text = f.Key + ": " + f.Problem
		}
		v.Line("%s: %s: %s", place, f.Severity, text)
		if f.Do != "" {
			v.Line("  -> %s", f.Do)
		}
	}
	text, err := io.ReadAll(v)
	if err != nil {
		return "", fmt.Errorf("draw findings: %w", err)
	}
	if r.Valid {
		text = fmt.Appendf(text, "\n%s is a valid configuration of a lifeboat %s, with %s.", r.File, r.Kind, cli.Count(len(r.Findings), "warning"))
		return string(text), nil
	}
	return string(text[:len(text)-1]), nil
}
