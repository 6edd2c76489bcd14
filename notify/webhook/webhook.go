package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"lifeboat/notify"
)

// SignatureHeader holds "sha256=" and the HMAC of the body in hexadecimal digits.
const SignatureHeader = "X-Lifeboat-Signature-256"

// Event is the CloudEvent.
type Event struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"`
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	Data            *notify.Message `json:"data"`
}

// Kind is the driver "webhook".
func Kind() notify.Kind {
	return notify.Kind{Name: "webhook", Address: "https://HOST/PATH", Options: []notify.Option{
		{Name: "ca", Help: "file with the certificates to trust, on every node"},
	}, Open: func(t notify.Target) (notify.Driver, error) {
		h, err := notify.NewHTTP(t.Address, t.Options["ca"])
		if err != nil {
			return nil, err
		}
		return &driver{h, []byte(t.Secret)}, nil
	}}
}

type driver struct {
	http   *notify.HTTP
	secret []byte
}

// Send implements notify.Driver.
func (d *driver) Send(ctx context.Context, m *notify.Message) error {
	e := Event{SpecVersion: "1.0", ID: m.ID, Source: "/lifeboat/" + m.Cluster, Type: TypeOf(m), Time: m.Time, DataContentType: "application/json", Data: m}
	if len(m.Notices) == 1 {
		e.Subject = m.Notices[0].Type + "/" + m.Notices[0].Subject
	}
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	header := http.Header{"Content-Type": {"application/cloudevents+json; charset=utf-8"}}
	if len(d.secret) > 0 {
		header.Set(SignatureHeader, Sign(d.secret, body))
	}
	return d.http.Post(ctx, header, body)
}

// TypeOf is the type of the event of a message.
func TypeOf(m *notify.Message) string {
	switch {
	case m.Test:
		return "io.lifeboat.test"
	case m.Digest() || len(m.Notices) == 0:
		return "io.lifeboat.alert.digest"
	}
	return "io.lifeboat.alert." + m.Notices[0].Kind
}

// Sign is the value of SignatureHeader for a body.
func Sign(secret, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}
