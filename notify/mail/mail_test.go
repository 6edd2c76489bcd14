package mail

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"lifeboat/notify"
	"lifeboat/notify/notifytest"
)

// relay is as much of a mail server as a client can talk to without TLS. The real one is
// in the lab's test.
type relay struct {
	net.Listener
	mu           sync.Mutex
	mails        []string
	refuse, hang bool
}

func newRelay(t *testing.T) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Listener: l}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go r.serve(conn)
		}
	}()
	return r
}

func (r *relay) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	say := func(text string) { _, _ = fmt.Fprintf(conn, "%s\r\n", text) }
	say("220 relay")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		r.mu.Lock()
		refuse, hang := r.refuse, r.hang
		r.mu.Unlock()
		switch verb := strings.ToUpper(strings.Fields(line + " x")[0]); {
		case verb == "EHLO":
			say("250-relay\r\n250 8BITMIME")
		case verb == "MAIL" && refuse:
			say("451 we are closed")
		case verb == "DATA" && hang: // and nothing more
		case verb == "DATA":
			say("354 go on")
			var mail strings.Builder
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				mail.WriteString(line)
			}
			r.mu.Lock()
			r.mails = append(r.mails, mail.String())
			r.mu.Unlock()
			say("250 taken")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (r *relay) rig() *notifytest.Rig {
	set := func(x *bool) func() {
		return func() { r.mu.Lock(); defer r.mu.Unlock(); *x = true }
	}
	return &notifytest.Rig{
		Target: notify.Target{Address: "smtp+plain://" + r.Addr().String(), Options: map[string]string{"from": "lifeboat@example.org", "to": "a@example.org, b@example.org"}},
		Got:    func() []string { r.mu.Lock(); defer r.mu.Unlock(); return r.mails },
		Refuse: set(&r.refuse), Hang: set(&r.hang),
	}
}

func TestConformance(t *testing.T) {
	notifytest.Run(t, Kind(), func(t *testing.T) *notifytest.Rig { return newRelay(t).rig() })
}

// A server that offers no TLS gets neither the mail nor the password.
func TestNothingGoesOutWithoutTLS(t *testing.T) {
	r := newRelay(t)
	target := r.rig().Target
	target.Address, target.Secret = strings.Replace(target.Address, "smtp+plain", "smtp", 1), "s3cret"
	target.Options["user"] = "u"
	d, err := Kind().Open(target)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Send(t.Context(), notifytest.Message("d")); err == nil || len(r.mails) != 0 {
		t.Errorf("it went out: %v, %q", err, r.mails)
	}
	target.Address = "smtp+plain://localhost"
	if _, err := Kind().Open(target); err == nil || !strings.Contains(err.Error(), "without TLS") {
		t.Errorf("a password without TLS: %v", err)
	}
}

// A name or a text cannot add a line to the head of the mail.
func TestHeadersCannotBeForged(t *testing.T) {
	r := newRelay(t)
	d, err := Kind().Open(r.rig().Target)
	if err != nil {
		t.Fatal(err)
	}
	m := notifytest.Message("d")
	m.Notices[0].Name = "h2\r\nBcc: eve@example.org\r\n\r\nhello"
	if err := d.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(r.mails[0], "\r\n\r\n")
	if strings.Contains(head, "\nBcc:") || !strings.Contains(head, "Message-ID: <d@lifeboat>") || !strings.Contains(head, "Auto-Submitted: auto-generated") {
		t.Errorf("the head is\n%s", head)
	}
}

func FuzzOpen(f *testing.F) {
	notifytest.FuzzOpen(f, Kind(), [2]string{"smtp://mail:587", "from=a@example.org\nto=b@example.org"}, [2]string{"smtps://mail", "from=a@example.org\nto=b@example.org,c@example.org\nuser=u\nhelo=h"}, [2]string{"smtp+plain://localhost", "to=x"})
}
