package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"connectrpc.com/connect"
)

// fakeClusterMain is a program for scripts: 'fakecluster DIR [MODE]' runs one
// fake node, writes DIR/context.yaml when it is ready and stops on SIGTERM.
// Modes: healthy; noleader answers that nobody leads; hang never answers and
// writes DIR/asked when it is asked.
func fakeClusterMain() {
	if err := fakeCluster(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func fakeCluster(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	dir, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	certs, err := newTestCerts(filepath.Join(dir, "pki"))
	if err != nil {
		return err
	}
	admin := newFakeAdmin(busyState())
	if len(args) > 1 {
		admin.before = fakeMode(dir, args[1])
	}
	node, err := startFakeNode(ctx, certs, "n1", admin)
	if err != nil {
		return err
	}
	path, err := certs.writeContext(node.addr)
	if err != nil {
		return err
	}
	if err := os.Rename(path, filepath.Join(dir, "context.yaml")); err != nil {
		return err
	}
	<-ctx.Done()
	return node.stop()
}

func fakeMode(dir, mode string) func(context.Context, string) error {
	return func(ctx context.Context, _ string) error {
		switch mode {
		case "noleader":
			return connect.NewError(connect.CodeUnavailable, fmt.Errorf("no leader is known: 1 of 3 nodes can be reached"))
		case "hang":
			if err := os.WriteFile(filepath.Join(dir, "asked"), []byte("yes"), 0o600); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
}
