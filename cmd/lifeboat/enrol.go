package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	pb "lifeboat/api/lifeboat/v1"
	"lifeboat/api/lifeboat/v1/lifeboatv1connect"
	"lifeboat/internal/cli"
	"lifeboat/internal/durable"
	"lifeboat/transport"
	"lifeboat/transport/pki"
)

// joinFlags belong to the commands by which somebody joins a cluster.
type joinFlags struct {
	Addr  string `arg:"" name:"addr" placeholder:"HOST:PORT" help:"A management node of the cluster; any, several with commas."`
	Token string `placeholder:"TOKEN" env:"LIFEBOAT_TOKEN" help:"What 'lifeboat token create' printed; - reads it from the input, where no list of processes shows it."`
}

// token reads the token, which must be one for joining as kind.
func (c *joinFlags) token(env *cli.Env, kind string) (transport.Token, error) {
	text := c.Token
	if text == "-" {
		raw, err := io.ReadAll(io.LimitReader(env.Stdin, 4096))
		if err != nil {
			return transport.Token{}, fmt.Errorf("read the token: %w", err)
		}
		text = string(raw)
	}
	if strings.TrimSpace(text) == "" {
		return transport.Token{}, cli.Usage("an administrator makes one with 'lifeboat token create'", "no token given")
	}
	t, err := transport.ParseToken(text)
	switch {
	case err != nil:
		return t, cli.Usage("", "%w", err)
	case t.Kind != kind:
		return t, cli.Usage("", "this token is for joining as %s, not as %s", t.Kind, kind)
	}
	return t, nil
}

// enrolment is the place where a new member keeps its key and what it was given.
type enrolment struct {
	dir  string
	name string // of its files: name.key, name.crt
}

func (e enrolment) files() transport.Files {
	base := filepath.Join(e.dir, e.name)
	return transport.Files{Cert: base + ".crt", Key: base + ".key", CA: filepath.Join(e.dir, pki.CACertFile)}
}

// join asks the cluster with the key that is here, and keeps what it answers.
func (e enrolment) join(ctx context.Context, c *joinFlags, g *cli.Globals, t transport.Token, q *pb.JoinRequest) (r *pb.JoinResponse, creds *transport.Credentials, err error) {
	if q.Request, err = e.request(); err != nil {
		return nil, nil, err
	}
	if r, err = c.ask(ctx, g, t, q); err != nil {
		return nil, nil, err
	}
	creds, err = e.keep(r)
	return r, creds, err
}

// request makes a key, or takes the one that an earlier try has left: with that the
// cluster answers the same token again. It returns proof of the key.
func (e enrolment) request() ([]byte, error) {
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make %s: %w", e.dir, err)
	}
	path := e.files().Key
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, raw, err = pki.NewKey(); err == nil {
			err = durable.WriteNew(path, raw, 0o600)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	request, err := pki.NewRequest(raw)
	if err != nil {
		return nil, fmt.Errorf("use %s: %w", path, err)
	}
	return request, nil
}

// bring copies a certificate of one's own PKI, so that all lies in one place.
func (e enrolment) bring(own transport.Files, want transport.Identity) error {
	creds, err := transport.LoadCredentials(own, nil)
	if err != nil {
		return cli.Usage("", "%w", err)
	}
	if creds.Identity() != want {
		return cli.Usage("issue one with that URI as its subject alternative name", "the certificate %s is for %s, and this is %s", own.Cert, creds.Identity(), want)
	}
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", e.dir, err)
	}
	to := e.files()
	for _, f := range []struct {
		from, to string
		mode     fs.FileMode
	}{{own.Key, to.Key, 0o600}, {own.Cert, to.Cert, 0o644}, {own.CA, to.CA, 0o644}} {
		data, err := os.ReadFile(f.from)
		if err == nil {
			err = durable.Write(f.to, data, f.mode)
		}
		if err != nil {
			return fmt.Errorf("copy %s: %w", f.from, err)
		}
	}
	return nil
}

// keep writes what the cluster answered, and looks whether it is of use.
func (e enrolment) keep(r *pb.JoinResponse) (*transport.Credentials, error) {
	files := e.files()
	if len(r.Certificate) > 0 {
		if err := durable.Write(files.CA, r.Ca, 0o644); err != nil {
			return nil, err
		}
		if err := durable.Write(files.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate}), 0o644); err != nil {
			return nil, err
		}
	}
	creds, err := transport.LoadCredentials(files, nil)
	if err != nil {
		return nil, fmt.Errorf("the cluster's answer is of no use here: %w", err)
	}
	return creds, nil
}

// ask shows a token to one node after the other until one answers.
func (c *joinFlags) ask(ctx context.Context, g *cli.Globals, t transport.Token, q *pb.JoinRequest) (*pb.JoinResponse, error) {
	q.Kind, q.TokenId, q.Secret = t.Kind, t.ID, t.Secret[:]
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	client := transport.NewJoinClient(t.Fingerprint, transport.DialOptions{})
	var failed []string
	unknown := false
	for addr := range strings.SplitSeq(c.Addr, ",") {
		addr = strings.TrimSpace(addr)
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return nil, cli.Usage("write it as host:port, for example 10.0.0.1:7400", "wrong address %q", addr)
		}
		r, err := lifeboatv1connect.NewJoinServiceClient(client, "https://"+addr).Join(ctx, connect.NewRequest(q))
		if err == nil {
			return r.Msg, nil
		}
		switch code := connect.CodeOf(err); {
		case !connect.IsWireError(err), code == connect.CodeUnavailable, code == connect.CodeResourceExhausted:
		case code == connect.CodeInvalidArgument, code == connect.CodeFailedPrecondition, code == connect.CodePermissionDenied, code == connect.CodeUnauthenticated:
			return nil, &cli.Error{Exit: cli.ExitRefused, Text: "refused: " + plainly(err), Err: err}
		default:
			unknown = true
		}
		failed = append(failed, addr+": "+plainly(err))
	}
	if unknown {
		return nil, &cli.Error{Exit: cli.ExitUnknown, Text: "outcome unknown: " + strings.Join(failed, "; "),
			Do: "repeat the same command: with the key that is in place now it is the same use of the token"}
	}
	return nil, &cli.Error{Exit: cli.ExitUnreachable, Text: "nobody let us join: " + strings.Join(failed, "; "),
		Do: "check the address; the same command can be repeated, the token is used once only"}
}

// plainly is the text of an error without the layers of the protocol.
func plainly(err error) string {
	var answered *connect.Error
	if errors.As(err, &answered) {
		return answered.Message()
	}
	return err.Error()
}

// notThere refuses to overwrite what somebody has set up.
func notThere(path, do string) error {
	if _, err := os.Lstat(path); err == nil {
		return &cli.Error{Exit: cli.ExitFailed, Text: path + " exists already", Do: do}
	}
	return nil
}

// giveTo makes files those of the user that the service runs as, if there is one:
// packages make it. Others keep theirs.
func giveTo(service string, paths ...string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup(service)
	if err != nil {
		return nil // no package made it: the service runs as somebody else
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	for _, root := range paths {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, uid, gid)
		})
		if err != nil {
			return fmt.Errorf("give %s to user %s: %w", root, service, err)
		}
	}
	return nil
}

// ownAddress is the address of this machine from which a packet would go to another
// one; without one, that of its default route.
func ownAddress(to string) (string, error) {
	if to == "" {
		to = "192.0.2.1:9" // nothing is sent
	}
	c, err := net.Dial("udp", to)
	if err != nil {
		return "", cli.Usage("name it with --advertise", "the address of this machine could not be found: %w", err)
	}
	defer c.Close()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		return "", fmt.Errorf("find the address of this machine: %w", err)
	}
	return host, nil
}
