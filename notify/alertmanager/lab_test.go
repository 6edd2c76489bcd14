package alertmanager

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/notify"
	"lifeboat/notify/notifytest"
)

const (
	program = "/usr/bin/prometheus-alertmanager"
	secret  = "much-secret"
	// sealed is the secret as Alertmanager's web configuration wants it (bcrypt).
	sealed = "$2b$04$ZasydCKguCrMYKP8kByMMOyycKjDPiPnujpfe79SM1TvBiCN11tzW"
)

// shown is an alert as Alertmanager tells of it.
type shown struct {
	Alert
	Fingerprint string `json:"fingerprint"`
	Status      struct {
		State string `json:"state"`
	} `json:"status"`
}

// manager is a real Alertmanager, Debian's, on the loopback: with TLS and a password,
// alone, and with nobody to tell.
type manager struct {
	t      *testing.T
	url    string
	cert   string
	client *http.Client
}

func startManager(t *testing.T) *manager {
	if os.Getenv("LIFEBOAT_LAB") != "1" {
		t.Skip("needs prometheus-alertmanager (deploy/lab/install.sh) and LIFEBOAT_LAB=1")
	}
	if _, err := os.Stat(program); err != nil {
		t.Skipf("%v; deploy/lab/install.sh installs it", err)
	}
	dir := t.TempDir()
	cert, key := notifytest.Cert(t)
	port := notifytest.Port(t)
	files := map[string]string{
		"am.yml":  "route:\n  receiver: nobody\nreceivers:\n- name: nobody\n",
		"web.yml": fmt.Sprintf("tls_server_config:\n  cert_file: %s\n  key_file: %s\nbasic_auth_users:\n  ops: %s\n", cert, key, sealed),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "--config.file="+filepath.Join(dir, "am.yml"), "--web.config.file="+filepath.Join(dir, "web.yml"),
		"--storage.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:"+port, "--cluster.listen-address=", "--log.level=warn")
	cmd.Stderr, cmd.Stdout = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	// Whose certificate it is, is what the driver under test has to look at.
	m := &manager{t: t, url: "https://127.0.0.1:" + port, cert: cert, client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}}
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if code, _ := m.get("/-/ready"); code == http.StatusOK {
			return m
		}
		if time.Now().After(until) {
			t.Fatal("Alertmanager is not ready after 30 s")
		}
	}
}

// get asks for a page; a code of 0 means that nobody answered.
func (m *manager) get(path string) (code int, body *json.Decoder) {
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, m.url+path, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	req.SetBasicAuth("ops", secret)
	resp, err := m.client.Do(req)
	if err != nil {
		return 0, nil
	}
	m.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp.StatusCode, json.NewDecoder(resp.Body)
}

// alerts are those that are firing there, by summary.
func (m *manager) alerts() map[string]shown {
	m.t.Helper()
	code, body := m.get("/api/v2/alerts")
	var list []shown
	if code != http.StatusOK {
		m.t.Fatalf("it answers %d", code)
	}
	if err := body.Decode(&list); err != nil {
		m.t.Fatal(err)
	}
	out := map[string]shown{}
	for _, a := range list {
		if _, twice := out[a.Annotations["summary"]]; twice {
			m.t.Errorf("%q is there twice", a.Annotations["summary"])
		}
		out[a.Annotations["summary"]] = a
	}
	return out
}

func (m *manager) send(x *notify.Message, change func(*notify.Target)) error {
	m.t.Helper()
	to := notify.Target{Kind: "alertmanager", Address: m.url, Options: map[string]string{"user": "ops", "ca": m.cert}, Secret: secret}
	if change != nil {
		change(&to)
	}
	d, err := notify.NewRegistry(Kind()).Open(to)
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), 10*time.Second)
	defer cancel()
	return d.Send(ctx, x)
}

func (m *manager) sends(x *notify.Message) map[string]shown {
	m.t.Helper()
	if err := m.send(x, nil); err != nil {
		m.t.Fatal(err)
	}
	return m.alerts()
}

// message is one notice about a host, at a time that Alertmanager takes for now.
func message(id, host, kind string, since time.Time) *notify.Message {
	m := notifytest.Message(id)
	n := &m.Notices[0]
	m.Time, n.First, n.Since = since, since, since
	n.Kind, n.Subject, n.Name = kind, host, host
	return m
}

func TestARealAlertmanager(t *testing.T) {
	m := startManager(t)
	began := time.Now().Add(-time.Minute).UTC().Truncate(time.Millisecond)

	opened := m.sends(message("d-1", "h2", "opened", began))
	a, ok := opened["h2: down"]
	if len(opened) != 1 || !ok || a.Status.State != "active" && a.Status.State != "unprocessed" || !a.StartsAt.Equal(began) || !a.EndsAt.After(time.Now().Add(23*time.Hour)) {
		t.Fatalf("after it was opened: %+v", opened)
	}
	for label, want := range map[string]string{"alertname": "LifeboatHOST", "type": "ALERT.COMPUTE.HOST", "subject": "h2", "cause": "down", "cluster": "c1", "job": "lifeboat", "host_rack": "r1"} {
		if a.Labels[label] != want {
			t.Errorf("label %s is %q, not %q", label, a.Labels[label], want)
		}
	}
	if a.Annotations["severity"] != "critical" || a.Annotations["lifeboat_delivery"] != "d-1" || !strings.Contains(a.Annotations["description"], "confirm-dead h2") {
		t.Errorf("annotations %v", a.Annotations)
	}

	// The same again, as after a change of the leader, and another host.
	m.sends(message("d-1", "h2", "opened", began))
	other := message("d-2", "h3", "opened", began)
	if got := m.sends(other); len(got) != 2 || got["h2: down"].Fingerprint != a.Fingerprint {
		t.Errorf("after a repetition and another host: %+v", got)
	}

	// More severe is no other alert.
	worse := message("d-3", "h3", "worse", began)
	worse.Notices[0].Severity = "warning"
	if got := m.sends(worse); len(got) != 2 || got["h3: down"].Annotations["severity"] != "warning" {
		t.Errorf("after it changed: %+v", got)
	}

	// Its end ends it, and nothing else.
	over := message("d-4", "h2", "resolved", began)
	over.Notices[0].Resolved, over.Notices[0].Severity = began.Add(30*time.Second), "warning"
	if got := m.sends(over); len(got) != 1 || got["h3: down"].Fingerprint == "" {
		t.Errorf("after h2 was resolved: %+v", got)
	}

	// It comes back.
	if got := m.sends(message("d-5", "h2", "reopened", began.Add(40*time.Second))); len(got) != 2 || got["h2: down"].Fingerprint != a.Fingerprint {
		t.Errorf("after it came back: %+v", got)
	}
}

// A storm is one post, and each alert of it is one there.
func TestADigestAtARealAlertmanager(t *testing.T) {
	m := startManager(t)
	began := time.Now().Add(-time.Minute)
	x := message("d-1", "h0", "opened", began)
	for i := 1; i < notify.MaxNotices; i++ {
		x.Notices = append(x.Notices, message("", fmt.Sprintf("host %d é \"%d\"", i, i), "opened", began).Notices[0])
	}
	x.Notices[1].Labels = map[string]string{"rack-a": "1", "rack.a": "2", "0/ü": "3", "empty": ""}
	x.Total = 500
	got := m.sends(x)
	if len(got) != notify.MaxNotices+1 {
		t.Errorf("%d alerts are there", len(got))
	}
	if _, ok := got["400 more alerts have changed; `lifeboat alert list` shows all."]; !ok {
		t.Error("nothing says that there are more")
	}
	test := message("t-1", "h0", "opened", time.Now())
	test.Test, test.Notices = true, nil
	if _, ok := m.sends(test)["This is a test of lifeboat's notifications. Nothing has happened."]; !ok {
		t.Error("the test is not there")
	}
}

// What it does not take is an error that says why, and is not half there.
func TestARealAlertmanagerRefuses(t *testing.T) {
	m := startManager(t)
	x := message("d-1", "h2", "opened", time.Now())
	for what, change := range map[string]func(*notify.Target){
		"401":         func(to *notify.Target) { to.Secret = "wrong-secret" },
		"certificate": func(to *notify.Target) { delete(to.Options, "ca") },
		"404":         func(to *notify.Target) { to.Address += "/elsewhere" },
	} {
		if err := m.send(x, change); err == nil || !strings.Contains(err.Error(), what) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := m.alerts(); len(got) != 0 {
		t.Errorf("it has %v", got)
	}
}
