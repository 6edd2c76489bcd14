package mail

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/notify"
	"lifeboat/notify/notifytest"
)

// server is a real mail server, Debian's python3-aiosmtpd, with STARTTLS and a login on
// one port and TLS from the start on another. It prints what it takes.
const server = `
import ssl, sys, time
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, SMTP
class Handler:
    async def handle_DATA(self, server, session, envelope):
        sys.stdout.write("MAIL " + repr(envelope.content.decode("utf8", "replace")) + "\n"); sys.stdout.flush()
        return "250 taken"
def login(server, session, envelope, mechanism, data):
    return AuthResult(success=data.login == b"u" and data.password == b"s3cret")
def context():
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain(sys.argv[1], sys.argv[2]); return c
a = Controller(Handler(), hostname="127.0.0.1", port=int(sys.argv[3]), tls_context=context(), require_starttls=True, authenticator=login, auth_required=True)
b = Controller(Handler(), hostname="127.0.0.1", port=int(sys.argv[4]), ssl_context=context())
a.start(); b.start(); print("READY", flush=True); time.sleep(600)
`

func TestARealMailServer(t *testing.T) {
	if os.Getenv("LIFEBOAT_LAB") != "1" {
		t.Skip("needs python3-aiosmtpd (deploy/lab/install.sh) and LIFEBOAT_LAB=1")
	}
	dir := t.TempDir()
	script := filepath.Join(dir, "server.py")
	cert, key := notifytest.Cert(t)
	if err := os.WriteFile(script, []byte(server), 0o600); err != nil {
		t.Fatal(err)
	}
	ports := [2]string{notifytest.Port(t), notifytest.Port(t)}
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", script, cert, key, ports[0], ports[1])
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "READY" {
		t.Fatalf("the server says %q", lines.Text())
	}
	send := func(address, user, secret, ca string) error {
		o := map[string]string{"from": "lifeboat@example.org", "to": "ops@example.org"}
		if user != "" {
			o["user"] = user
		}
		if ca != "" {
			o["ca"] = ca
		}
		d, err := notify.NewRegistry(Kind()).Open(notify.Target{Kind: "mail", Address: address, Options: o, Secret: secret})
		if err != nil {
			t.Fatal(err)
		}
		limited, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return d.Send(limited, notifytest.Message("d-1"))
	}
	for what, address := range map[string][3]string{"STARTTLS": {"smtp://127.0.0.1:" + ports[0], "u", "s3cret"}, "TLS": {"smtps://127.0.0.1:" + ports[1], "", ""}} {
		if err := send(address[0], address[1], address[2], cert); err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if !lines.Scan() || !strings.Contains(lines.Text(), "<d-1@lifeboat>") || !strings.Contains(lines.Text(), "Host h2 is Down") {
			t.Errorf("%s: it got %s", what, lines.Text())
		}
	}
	if err := send("smtp://127.0.0.1:"+ports[0], "u", "wrong-secret", cert); err == nil || strings.Contains(err.Error(), "wrong-secret") {
		t.Errorf("with a wrong password: %v", err)
	}
	if err := send("smtps://127.0.0.1:"+ports[1], "", "", ""); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with a certificate that nobody vouches for: %v", err)
	}
}
