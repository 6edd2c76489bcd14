package redfish

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/stmcginnis/gofish/schemas"

	"lifeboat/fence"
)

// maxBody bounds an answer; the largest real ones are below 100 KiB.
const maxBody = 4 << 20

func (d *driver) httpClient() *http.Client {
	return &http.Client{
		Transport: limited{&http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSClientConfig:     d.tls.Clone(),
			TLSHandshakeTimeout: 5 * time.Second,
			MaxIdleConns:        1,
		}},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if len(via) > 3 || next.URL.Scheme != "https" || next.URL.Host != via[0].URL.Host {
				return fmt.Errorf("redirected to %s, which is not followed", next.URL.Redacted())
			}
			return nil
		},
	}
}

// limited cuts answers off at maxBody.
type limited struct{ *http.Transport }

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.Transport.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxBody), resp.Body}
	}
	return resp, err
}

// explain gives a driver's error its reason. The text of an HTTP error is the
// BMC's own short message, never the raw body.
func (d *driver) explain(ctx context.Context, err error) error {
	var reason fence.Reason
	var answer *schemas.Error
	var several *schemas.CollectionError
	var certificate *tls.CertificateVerificationError
	var network net.Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &reason):
		return err
	case errors.As(err, &several):
		for _, one := range several.Failures {
			return d.explain(ctx, one)
		}
		return fence.Because(fence.Refused, "it cannot list its computer systems")
	case errors.As(err, &answer):
		return d.answer(answer)
	case errors.As(err, &certificate):
		return fence.Because(fence.Refused, "its certificate is not trusted: %v; set option ca_file to the certificate or its issuer", certificate.Err)
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fence.Because(fence.Unreachable, "%s", d.password.Redact(innermost(err).Error()))
	default:
		return fence.Because(fence.Refused, "%s", d.password.Redact(err.Error()))
	}
}

func (d *driver) answer(e *schemas.Error) error {
	text := e.Message
	if len(e.ExtendedInfos) > 0 && e.ExtendedInfos[0].Message != "" {
		text = e.ExtendedInfos[0].Message
	}
	reason := fence.Refused
	switch e.HTTPReturnedStatusCode {
	case 0:
		return fence.Because(fence.Refused, "%s", d.password.Redact(text))
	case http.StatusUnauthorized, http.StatusForbidden:
		reason = fence.AuthFailed
	}
	return fence.Because(reason, "HTTP %d %s: %s", e.HTTPReturnedStatusCode, http.StatusText(e.HTTPReturnedStatusCode), d.password.Redact(text))
}

// innermost drops the layers of "Get https://…:" that say nothing new.
func innermost(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
