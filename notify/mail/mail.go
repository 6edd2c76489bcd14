package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"lifeboat/notify"
)

// Kind is the driver "mail". An address says how its server is spoken to: smtp takes
// STARTTLS and nothing less, smtps begins with TLS, smtp+plain does without, which is
// for a relay on the same machine.
func Kind() notify.Kind {
	return notify.Kind{Name: "mail", Address: "smtp://HOST:587, smtps://HOST:465 or smtp+plain://localhost:25", Options: []notify.Option{
		{Name: "from", Help: "address of the sender"},
		{Name: "to", Help: "addresses, separated by commas"},
		{Name: "user", Help: "to log in with; the secret is the password"},
		{Name: "ca", Help: "file with the certificates to trust, on every node"},
		{Name: "helo", Help: "the name that it says it has; the machine's"},
	}, Open: open}
}

type driver struct {
	host  string
	opts  []gomail.Option
	from  string
	to    []string
	tls   *tls.Config
	begin bool // with TLS
}

func open(t notify.Target) (notify.Driver, error) {
	u, err := url.Parse(t.Address)
	if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.User != nil {
		return nil, fmt.Errorf("%q is no address; write smtp://HOST:587 or smtps://HOST:465", t.Address)
	}
	d := &driver{host: u.Hostname(), from: t.Options["from"]}
	conf := &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	if ca := t.Options["ca"]; ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("read ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read ca: %s holds no certificate", ca)
		}
	}
	d.tls = conf
	port := 587
	switch u.Scheme {
	case "smtp":
		d.opts = append(d.opts, gomail.WithTLSPolicy(gomail.TLSMandatory))
	case "smtps":
		port = 465
		d.begin = true
		d.opts = append(d.opts, gomail.WithSSL())
	case "smtp+plain":
		port = 25
		d.opts = append(d.opts, gomail.WithTLSPolicy(gomail.NoTLS))
		if t.Options["user"] != "" {
			return nil, errors.New("a password is not sent without TLS: write smtp:// or smtps://")
		}
	default:
		return nil, fmt.Errorf("%q begins with no scheme of mail: it is smtp, smtps or smtp+plain", t.Address)
	}
	if p := u.Port(); p != "" {
		if port, err = strconv.Atoi(p); err != nil {
			return nil, fmt.Errorf("port %q is no number", p)
		}
	}
	d.opts = append(d.opts, gomail.WithPort(port), gomail.WithTLSConfig(conf))
	if user := t.Options["user"]; user != "" {
		d.opts = append(d.opts, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(user), gomail.WithPassword(t.Secret))
	}
	if helo := t.Options["helo"]; helo != "" {
		d.opts = append(d.opts, gomail.WithHELO(helo))
	}
	for _, to := range strings.Split(t.Options["to"], ",") {
		if to = strings.TrimSpace(to); to != "" {
			d.to = append(d.to, to)
		}
	}
	if d.from == "" || len(d.to) == 0 {
		return nil, errors.New("mail takes the options from and to")
	}
	_, err = d.compose(&notify.Message{ID: "check", Time: time.Unix(0, 0)})
	return d, err
}

// compose writes the mail of a message. A repetition has the same Message-ID, by which
// mail programs show it once.
func (d *driver) compose(m *notify.Message) (*gomail.Msg, error) {
	msg := gomail.NewMsg()
	if err := msg.From(d.from); err != nil {
		return nil, fmt.Errorf("from: %w", err)
	}
	if err := msg.To(d.to...); err != nil {
		return nil, fmt.Errorf("to: %w", err)
	}
	msg.Subject(strings.Join(strings.Fields(m.Title()), " "))
	msg.SetMessageIDWithValue(m.ID + "@lifeboat")
	msg.SetDateWithValue(m.Time)
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader("X-Lifeboat-Delivery", m.ID)
	msg.SetBodyString(gomail.TypeTextPlain, m.Text())
	return msg, nil
}

// Send implements notify.Driver.
func (d *driver) Send(ctx context.Context, m *notify.Message) error {
	msg, err := d.compose(m)
	if err != nil {
		return fmt.Errorf("write mail: %w", err)
	}
	opts := append(d.opts[:len(d.opts):len(d.opts)], gomail.WithDialContextFunc(d.dial(ctx)))
	if end, ok := ctx.Deadline(); ok {
		opts = append(opts, gomail.WithTimeout(max(time.Until(end), time.Millisecond)))
	}
	client, err := gomail.NewClient(d.host, opts...)
	if err != nil {
		return fmt.Errorf("send mail: %w", err)
	}
	if err := client.DialAndSendWithContext(ctx, msg); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("send mail to %s: %w", d.host, err)
	}
	return nil
}

// dial opens connections that end with the whole attempt: the library looks at its
// context while it connects and not any more then.
func (d *driver) dial(whole context.Context) gomail.DialContextFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, fmt.Errorf("dial: %w", err)
		}
		context.AfterFunc(whole, func() { _ = conn.Close() })
		if !d.begin {
			return conn, nil
		}
		secure := tls.Client(conn, d.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("begin TLS: %w", err)
		}
		return secure, nil
	}
}
