package main

import (
	"context"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"lifeboat/internal/cli"
)

// version is set by the linker: -ldflags "-X main.version=v1.2.3".
var version = "dev"

func main() {
	os.Exit(mainCode())
}

// mainCode is main with its deferred calls made before the process exits.
func mainCode() int {
	ctx, stop := cli.SignalContext(context.Background(), os.Exit)
	defer stop()
	env := &cli.Env{
		Stdin:        os.Stdin,
		Stdout:       os.Stdout,
		Stderr:       os.Stderr,
		LookupEnv:    os.LookupEnv,
		Now:          time.Now,
		UID:          os.Getuid(),
		Terminal:     term.IsTerminal(int(os.Stdout.Fd())),
		WatchEvery:   time.Second,
		ReadPassword: cli.PasswordReader(os.Stdin, os.Stderr),
		Build:        build(version),
	}
	return run(ctx, os.Args[1:], env)
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, env *cli.Env) int {
	return cli.Report(env.Stderr, execute(ctx, args, env))
}

func execute(ctx context.Context, args []string, env *cli.Env) error {
	env.Args = args
	var commands CLI
	helped := false
	parser, err := newParser(&commands, env, func() { helped = true })
	if err != nil {
		return err
	}
	if len(args) == 0 {
		// Nothing was asked for: say what could be, but a script whose variable
		// was empty must not succeed.
		parser.Stdout = env.Stderr
		if _, err := parser.Parse([]string{"--help"}); err != nil && !helped {
			return err
		}
		return cli.Usage("", "no command given")
	}
	kctx, err := parser.Parse(args)
	switch {
	case helped:
		return nil
	case err != nil:
		return usageError(err)
	}
	kctx.BindTo(ctx, (*context.Context)(nil))
	return kctx.Run(&commands.Globals)
}

// newParser builds kong's model of the commands. onHelp is called when --help
// was printed instead of running anything.
func newParser(commands *CLI, env *cli.Env, onHelp func()) (*kong.Kong, error) {
	return kong.New(commands,
		kong.Name("lifeboat"),
		kong.Description("Keeps the virtual machines of a KVM/libvirt fleet running when hosts die."),
		kong.Writers(env.Stdout, env.Stderr),
		kong.Exit(func(int) { onHelp() }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, FlagsLast: true, WrapUpperBound: 100}),
		kong.Bind(env),
	)
}

// usageError adds to kong's error where the right usage is found.
func usageError(err error) error {
	command, text := "lifeboat", err.Error()
	var pe *kong.ParseError
	if errors.As(err, &pe) && pe.Context != nil {
		if node := namedNode(pe.Context); node != nil {
			command = node.FullPath()
			// Kong names the first five only.
			if len(node.Children) > 0 && strings.HasPrefix(text, "expected one of") {
				text = command + " needs one of its commands: " + childNames(node)
			}
		}
	}
	return &cli.Error{Exit: cli.ExitUsage, Text: text, Do: "run '" + command + " --help'", Err: err}
}

// namedNode is the last command, or group of commands, that was typed.
func namedNode(kctx *kong.Context) *kong.Node {
	var node *kong.Node
	for _, p := range kctx.Path {
		if p.Command != nil {
			node = p.Command
		}
	}
	return node
}

func childNames(node *kong.Node) string {
	var names []string
	for _, child := range node.Children {
		if !child.Hidden {
			names = append(names, child.Name)
		}
	}
	return strings.Join(names, ", ")
}

// build reads what the toolchain recorded in the binary.
func build(version string) cli.Build {
	b := cli.Build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date, _, _ = strings.Cut(s.Value, "T")
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}
