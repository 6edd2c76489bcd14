package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"lifeboat/internal/cli"
	"lifeboat/node"
	"lifeboat/transport"
	"lifeboat/transport/pki"
)

// CACmd is 'lifeboat ca'.
type CACmd struct {
	Init   CAInitCmd   `cmd:"" help:"Make the CA of a new cluster. Keep its key on your machine, not on a node."`
	Issue  CAIssueCmd  `cmd:"" help:"Make a key and a certificate for a node, a host or an operator."`
	Secret CASecretCmd `cmd:"" name:"secret-key" help:"Make the key that seals definitions and passwords in the log. Every node gets the same."`
}

// CAInitCmd is 'lifeboat ca init'.
type CAInitCmd struct {
	Dir  string `default:"." placeholder:"DIR" help:"Where ca.crt and ca.key go."`
	Name string `default:"lifeboat" placeholder:"NAME" help:"Subject of the CA, to tell the CAs of two clusters apart."`
}

// Run makes a CA.
func (c *CAInitCmd) Run(env *cli.Env, g *cli.Globals) error {
	ca, err := pki.CreateCA(c.Dir, c.Name)
	if err != nil {
		return err
	}
	result := struct {
		Cert        string `json:"cert"`
		Key         string `json:"key"`
		Expires     string `json:"expires"`
		Fingerprint string `json:"fingerprint"`
	}{filepath.Join(c.Dir, pki.CACertFile), filepath.Join(c.Dir, pki.CAKeyFile), rfc3339(ca.Cert.NotAfter), pki.Fingerprint(ca.Cert)}
	return cli.PrintValue(env, g, result, fmt.Sprintf(
		"Wrote %s, to be copied to every machine, and %s, to be kept secret.\nExpires %s. SHA-256 %s",
		result.Cert, result.Key, result.Expires, result.Fingerprint))
}

// CAIssueCmd is 'lifeboat ca issue'.
type CAIssueCmd struct {
	Kind    string   `arg:"" enum:"node,host,operator" help:"Who gets it: ${enum}."`
	Name    string   `arg:"" help:"Name of the node, host or operator."`
	Dir     string   `default:"." placeholder:"DIR" help:"Where the CA is."`
	Out     string   `placeholder:"DIR" help:"Where the certificate and its key go; left out, beside the CA."`
	Days    uint     `default:"365" help:"How long the certificate is valid."`
	DNS     []string `name:"dns" placeholder:"NAME" help:"DNS names for browsers and curl. Lifeboat itself checks the identity only."`
	IP      []net.IP `name:"ip" placeholder:"ADDRESS" help:"IP addresses for browsers and curl."`
	Replace bool     `help:"Replace a certificate and key that exist, to renew them."`
}

// Run makes one certificate.
func (c *CAIssueCmd) Run(env *cli.Env, g *cli.Globals) error {
	if c.Days == 0 || c.Days > 3650 {
		return cli.Usage("use 1 to 3650", "wrong --days %d", c.Days)
	}
	id := transport.Identity{Kind: transport.Kind(c.Kind), Name: c.Name}
	if err := id.Validate(); err != nil {
		return cli.Usage("", "issue certificate: %w", err)
	}
	out := c.Out
	if out == "" {
		out = c.Dir
	}
	ca, err := pki.LoadCA(c.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return cli.Usage("name its directory with --dir, or make one with 'lifeboat ca init'", "%w", err)
	}
	if err != nil {
		return err
	}
	if err := c.checkFree(filepath.Join(out, c.Kind+"-"+c.Name)); err != nil {
		return err
	}
	leaf, err := ca.Issue(id, pki.IssueOptions{Validity: time.Duration(c.Days) * 24 * time.Hour, DNS: c.DNS, IPs: c.IP})
	if err != nil {
		return err
	}
	files, err := leaf.Write(out)
	if err != nil {
		return err
	}
	caFile := filepath.Join(c.Dir, pki.CACertFile)
	result := struct {
		Identity string `json:"identity"`
		Cert     string `json:"cert"`
		Key      string `json:"key"`
		CA       string `json:"ca"`
		Expires  string `json:"expires"`
	}{id.String(), files.Cert, files.Key, caFile, rfc3339(leaf.Cert.NotAfter)}
	text := fmt.Sprintf("Wrote %s and %s for %s, valid until %s.", files.Cert, files.Key, id, result.Expires)
	if id.Kind == transport.KindOperator {
		text += fmt.Sprintf("\nUse it: export LIFEBOAT_CERT=%s LIFEBOAT_KEY=%s LIFEBOAT_CA=%s", absolute(files.Cert), absolute(files.Key), absolute(caFile))
	}
	return cli.PrintValue(env, g, result, text)
}

// checkFree refuses to overwrite: a second machine given the same name would
// otherwise take the certificate of the first.
func (c *CAIssueCmd) checkFree(base string) error {
	if c.Replace {
		return nil
	}
	for _, path := range []string{base + ".crt", base + ".key"} {
		if _, err := os.Lstat(path); err == nil {
			return &cli.Error{Exit: cli.ExitFailed, Text: fmt.Sprintf("issue certificate: %s exists and is not overwritten", path),
				Do: "renew it with --replace, or choose another name"}
		}
	}
	return nil
}

// CASecretCmd is 'lifeboat ca secret-key'.
type CASecretCmd struct {
	File string `arg:"" help:"File to write; it must not exist."`
}

// Run makes a secret key.
func (c *CASecretCmd) Run(env *cli.Env, g *cli.Globals) error {
	key := make([]byte, node.SecretKeySize)
	_, _ = rand.Read(key) // never fails
	f, err := os.OpenFile(c.File, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make secret key: %w", err)
	}
	if _, err := fmt.Fprintf(f, "%x\n", key); err != nil {
		return errors.Join(fmt.Errorf("write secret key: %w", err), f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write secret key: %w", err)
	}
	return cli.PrintValue(env, g, struct {
		File string `json:"file"`
	}{c.File}, fmt.Sprintf("Wrote %s. Copy it to every management node and keep it: what is sealed in the log cannot be read without it.", c.File))
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// absolute makes a path that still works in another directory.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
