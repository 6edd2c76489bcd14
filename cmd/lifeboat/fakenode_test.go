package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"

	"connectrpc.com/connect"

	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
	"lifeboat/transport"
	"lifeboat/transport/pki"
)

// fakeNode is a management node that runs a fakeAdmin on a real mTLS listener.
type fakeNode struct {
	admin  *fakeAdmin
	addr   string
	ln     *transport.Listener
	server *http.Server
	done   chan error
}

func startFakeNode(ctx context.Context, certs *testCerts, name string, admin *fakeAdmin) (*fakeNode, error) {
	creds, err := certs.credentials("node", name)
	if err != nil {
		return nil, err
	}
	ln, err := transport.Listen(ctx, "127.0.0.1:0", creds, transport.Options{})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle(lifeboatv1connect.NewAdminServiceHandler(admin, connect.WithInterceptors(connect.UnaryInterceptorFunc(admin.intercept))))
	n := &fakeNode{admin: admin, addr: ln.Addr().String(), ln: ln, server: transport.NewHTTPServer(mux, nil), done: make(chan error, 1)}
	go func() { n.done <- n.server.Serve(ln.HTTP()) }()
	return n, nil
}

func (n *fakeNode) stop() error {
	err := errors.Join(n.server.Close(), n.ln.Close())
	if serveErr := <-n.done; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

// testCerts is a CA in a directory.
type testCerts struct {
	dir string
	ca  *pki.CA
}

func newTestCerts(dir string) (*testCerts, error) {
	ca, err := pki.CreateCA(dir, "test")
	return &testCerts{dir, ca}, err
}

func (c *testCerts) issue(kind transport.Kind, name string) (transport.Files, error) {
	leaf, err := c.ca.Issue(transport.Identity{Kind: kind, Name: name}, pki.IssueOptions{})
	if err != nil {
		return transport.Files{}, err
	}
	return leaf.Write(c.dir)
}

func (c *testCerts) credentials(kind transport.Kind, name string) (*transport.Credentials, error) {
	files, err := c.issue(kind, name)
	if err != nil {
		return nil, err
	}
	return transport.LoadCredentials(files, nil)
}

// writeContext makes alice an operator of the nodes and returns her context file.
func (c *testCerts) writeContext(addrs ...string) (string, error) {
	files, err := c.issue(transport.KindOperator, "alice")
	if err != nil {
		return "", err
	}
	path := filepath.Join(c.dir, "context.yaml")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return path, cli.WriteContext(path, cli.Context{Addrs: addrs, Cert: files.Cert, Key: files.Key, CA: files.CA})
}
