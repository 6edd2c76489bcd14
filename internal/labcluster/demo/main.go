// Command demo shows Lifeboat on three real libvirt hosts with real qemu guests,
// in namespaces of this machine: `make lab-demo`. It needs root.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"lifeboat/internal/lab"
	"lifeboat/internal/labcluster"
)

func main() {
	lab.MaybeInit()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "lab-demo:", err)
		os.Exit(1)
	}
}

func run() error {
	binary := flag.String("lifeboat", "bin/lifeboat", "the lifeboat program")
	dir := flag.String("dir", ".lab", "directory for disks and logs; the logs stay")
	result := flag.String("result", "", "write the figures to this file, as JSON")
	levels := flag.String("levels", "ipmi", "fence level: ipmi or lease")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	if err := lab.Setup(ctx, os.Stdout); err != nil {
		return err
	}
	program, err := filepath.Abs(*binary)
	if err != nil {
		return err
	}
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("find the program: %w (run make build)", err)
	}
	logs, err := filepath.Abs(*dir)
	if err != nil {
		return err
	}
	began := time.Now()
	fmt.Println("lab: three libvirt hosts with two guests each, three management nodes on the same machines; this takes half a minute")
	c, err := labcluster.Up(ctx, labcluster.Options{
		Lab:    lab.Options{Prefix: "demo", Dir: logs, Hosts: 3, Managers: 3, ManagerOn: map[int]int{1: 1, 2: 2, 3: 3}},
		Binary: program, Guests: 6, Levels: []string{*levels},
	})
	if err != nil {
		return err
	}
	fmt.Printf("lab: all guests run, are protected and could start elsewhere (%.0f s)\n", time.Since(began).Seconds())
	rounds, err := c.Drill(ctx, os.Stdout)
	if err == nil {
		labcluster.Table(os.Stdout, rounds)
		err = write(*result, rounds)
	}
	if err != nil {
		err = fmt.Errorf("%w (logs: %s)", err, logs)
	}
	return errors.Join(err, c.Close())
}

func write(path string, rounds []labcluster.Round) error {
	if path == "" {
		return nil
	}
	type figure struct {
		Name  string  `json:"name"`
		Order float64 `json:"order_seconds"`
		Runs  float64 `json:"running_seconds"`
	}
	var out []figure
	for _, r := range rounds {
		out = append(out, figure{r.Name, r.Order.Seconds(), r.Runs.Seconds()})
	}
	raw, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o600)
}
