package alertmanager

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"lifeboat/notify"
)

// Alert is a postable alert of the API.
type Alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt,omitzero"`
}

// Kind is the driver "alertmanager".
func Kind() notify.Kind {
	return notify.Kind{Name: "alertmanager", Address: "https://HOST:9093", Options: []notify.Option{
		{Name: "ca", Help: "file with the certificates to trust, on every node"},
		{Name: "user", Help: "for basic authentication; without it the secret is a bearer token"},
		{Name: "lasts", Help: "how long an open alert is firing there without another word; it is sent again in time; 24h"},
	}, Open: open, Repeat: repeat}
}

// parts is into how many parts lasts is divided: an alert is sent again after one of them,
// and there is time to try that again.
const parts = 3

func repeat(t notify.Target) time.Duration {
	lasts, err := lastsOf(t)
	if err != nil {
		return 0
	}
	return lasts / parts
}

func lastsOf(t notify.Target) (time.Duration, error) {
	text := t.Options["lasts"]
	if text == "" {
		return 24 * time.Hour, nil
	}
	const longest = 366 * 24 * time.Hour
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Minute || d > longest {
		return 0, fmt.Errorf("lasts: %q is no duration of a minute to %s; write for example 24h", text, longest)
	}
	return d, nil
}

func open(t notify.Target) (notify.Driver, error) {
	address := strings.TrimRight(t.Address, "/")
	if !strings.HasSuffix(address, "/api/v2/alerts") {
		address += "/api/v2/alerts"
	}
	h, err := notify.NewHTTP(address, t.Options["ca"])
	if err != nil {
		return nil, err
	}
	d := &driver{http: h}
	if d.lasts, err = lastsOf(t); err != nil {
		return nil, err
	}
	switch user := t.Options["user"]; {
	case user != "":
		d.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+t.Secret))
	case t.Secret != "":
		d.auth = "Bearer " + t.Secret
	}
	return d, nil
}

type driver struct {
	http  *notify.HTTP
	auth  string
	lasts time.Duration
}

// Send implements notify.Driver.
func (d *driver) Send(ctx context.Context, m *notify.Message) error {
	body, err := json.Marshal(Alerts(m, d.lasts))
	if err != nil {
		return fmt.Errorf("encode alerts: %w", err)
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if d.auth != "" {
		header.Set("Authorization", d.auth)
	}
	return d.http.Post(ctx, header, body)
}

// Alerts is what is posted for a message. A digest that leaves notices out has an alert
// of its own that says so.
func Alerts(m *notify.Message, lasts time.Duration) []Alert {
	out := []Alert{}
	label := func(name, severity string) map[string]string {
		return map[string]string{"alertname": name, "severity": severity, "cluster": m.Cluster, "job": "lifeboat"}
	}
	for i := range m.Notices {
		n := &m.Notices[i]
		a := Alert{Labels: label("Lifeboat"+n.Type, n.Severity), StartsAt: n.Since, EndsAt: n.Since.Add(lasts),
			Annotations: map[string]string{"summary": n.Name + ": " + n.Cause, "description": n.Text, "lifeboat_delivery": m.ID}}
		delete(a.Labels, "severity") // it may rise, and would be another alert then
		a.Annotations["severity"] = n.Severity
		for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
			name := "host_" + labelName(k)
			for a.Labels[name] != "" { // two of the host's names are one there
				name += "_"
			}
			a.Labels[name] = n.Labels[k]
		}
		a.Labels["type"], a.Labels["subject"], a.Labels["cause"] = n.Code, n.Subject, n.Cause
		for _, at := range []time.Time{m.Time, m.Sent} { // what was tried for long is as fresh as any
			if end := at.Add(lasts); end.After(a.EndsAt) {
				a.EndsAt = end
			}
		}
		if n.Over() {
			a.EndsAt = n.Resolved
			a.Annotations["resolution"] = n.Resolution
		}
		out = append(out, a)
	}
	if more := m.Total - len(m.Notices); more > 0 || m.Test {
		name, text := "LifeboatMore", fmt.Sprintf("%d more alerts have changed; `lifeboat alert list` shows all.", more)
		if m.Test {
			name, text = "LifeboatTest", "This is a test of lifeboat's notifications. Nothing has happened."
		}
		out = append(out, Alert{Labels: label(name, "info"), StartsAt: m.Time, EndsAt: m.Time.Add(5 * time.Minute),
			Annotations: map[string]string{"summary": text, "lifeboat_delivery": m.ID}})
	}
	return out
}

// labelName makes a valid name of a label.
func labelName(k string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, k)
}
