package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// HTTP posts to one address. Drivers that speak HTTP share it.
type HTTP struct {
	URL    *url.URL
	client *http.Client
}

// NewHTTP reads an address: http or https. ca is a file with the certificates to trust
// instead of the system's; empty = those.
func NewHTTP(address, ca string) (*HTTP, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is no address; write https://HOST/PATH", address)
	}
	tr := &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("read ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read ca: %s holds no certificate", ca)
		}
		tr.TLSClientConfig.RootCAs = pool
	}
	return &HTTP{URL: u, client: &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // what was signed for one address is not sent to another
	}}}, nil
}

// Post sends a body; anything but a 2xx is an error with the beginning of the answer.
func (h *HTTP) Post(ctx context.Context, header http.Header, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("post: %w", err)
	}
	req.Header = header
	req.Header.Set("User-Agent", "lifeboat")
	resp, err := h.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the address, which may hold a password
		}
		return fmt.Errorf("post to %s: %w", h.URL.Host, err)
	}
	defer resp.Body.Close()
	const most = 300
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, most))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("post to %s: it answers %s: %s", h.URL.Host, resp.Status, strings.Join(strings.Fields(strings.ToValidUTF8(string(answer), "?")), " "))
	}
	return nil
}
