package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "mutation:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	tags := flag.String("tags", "hashicorpmetrics", "build tags")
	out := flag.String("o", "", "write the table to this file")
	only := flag.String("only", "", "only the rules of this list (S4,S10), without a table")
	flag.Parse()
	root, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	wanted := strings.Split(*only, ",")
	var done []outcome
	var bad []error
	for _, m := range mutations() {
		if *only != "" && !slices.Contains(wanted, m.rule) {
			continue
		}
		began := time.Now()
		o, err := m.run(ctx, root, *tags)
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		switch {
		case err != nil:
			err = fmt.Errorf("%s, %s: %w", m.rule, m.what, err)
			bad = append(bad, err)
			fmt.Println("FAILED  ", err)
		case o.caught == "":
			bad = append(bad, fmt.Errorf("%s, %s: no test notices", m.rule, m.what))
			fmt.Printf("SURVIVED %-4s %s (%.0f s)\n", m.rule, m.what, time.Since(began).Seconds())
		default:
			fmt.Printf("caught   %-4s %s: %s (%.0f s)\n", m.rule, m.what, o.caught, time.Since(began).Seconds())
			done = append(done, o)
		}
	}
	if len(bad) == 0 && *out != "" && *only == "" {
		f, err := os.Create(*out)
		if err != nil {
			return fmt.Errorf("write table: %w", err)
		}
		table(f, done)
		if err := f.Close(); err != nil {
			return fmt.Errorf("write table: %w", err)
		}
	}
	fmt.Printf("%d caught, %d not\n", len(done), len(bad))
	if len(bad) > 0 {
		return errors.Join(bad...)
	}
	return nil
}

// table is docs/mutations.md.
func table(w io.Writer, done []outcome) {
	fmt.Fprint(w, `# Mutation check

Each rule of [safety.md](safety.md) that code enforces is switched off in a build of its own, one line at a time, and the tests are run.
A rule whose absence no test notices would be a wish. `+"`make mutation`"+` does this again and writes this page.

| rule | what is switched off | where | noticed first by |
|---|---|---|---|
`)
	for _, o := range done {
		fmt.Fprintf(w, "| %s | %s | `%s` | `%s` |\n", o.rule, o.what, o.file, strings.TrimPrefix(o.caught, "./"))
	}
}
