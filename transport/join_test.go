package transport_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lifeboat/transport"
	"lifeboat/transport/pki"
)

func TestTokenIsReadBack(t *testing.T) {
	made := transport.NewToken("agent", sha256.Sum256([]byte("ca")))
	read, err := transport.ParseToken(" " + made.String() + "\n")
	if err != nil || read != made {
		t.Fatalf("%+v, %v", read, err)
	}
	if other := transport.NewToken("agent", made.Fingerprint); other.Secret == made.Secret || other.ID == made.ID {
		t.Error("two tokens have one secret")
	}
	whole := made.String()
	for _, bad := range []string{"", "lifeboat", whole[:len(whole)-1], whole + "a", strings.ToUpper(whole), strings.Replace(whole, "agent", "root", 1),
		strings.Replace(whole, "-"+made.ID+"-", "-short-", 1), strings.ReplaceAll(whole, "-", "_")} {
		switch got, err := transport.ParseToken(bad); {
		case err == nil:
			t.Errorf("%q was read as %+v", bad, got)
		case strings.Contains(err.Error(), strings.Split(whole, "-")[3]):
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(transport.NewToken("server", sha256.Sum256(nil)).String())
	f.Add("lifeboat-agent-a-b-c")
	f.Fuzz(func(t *testing.T, s string) {
		token, err := transport.ParseToken(s)
		if err == nil && token.String() != strings.TrimSpace(s) {
			t.Errorf("%q became %q", s, token)
		}
	})
}

// A stranger with the right fingerprint is answered, as nobody; one with another
// fingerprint sends nothing; and without Join there is no such door.
func TestJoinDoor(t *testing.T) {
	for name, c := range map[string]struct {
		open    bool
		foreign bool
		want    string // in the error; empty = it is answered
	}{
		"open":            {open: true},
		"another cluster": {open: true, foreign: true, want: "another fingerprint"},
		"closed":          {want: "lets nobody join"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, transport.Options{Join: c.open})
			asked := make(chan bool, 1)
			server := transport.NewJoinServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				_, known := transport.IdentityFromContext(r.Context())
				asked <- known
				_, _ = rw.Write([]byte("welcome"))
			}))
			done := make(chan error, 1)
			go func() { done <- server.Serve(w.l.Join()) }()
			defer func() { server.Close(); <-done }()
			fp := sha256.Sum256(w.ca.Cert.Raw)
			if c.foreign {
				fp = sha256.Sum256(newAuthority(t).ca.Cert.Raw)
			}
			client := transport.NewJoinClient(fp, transport.DialOptions{Dial: transport.DialFunc(w.net.Dialer("stranger"))})
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "https://n1:7000/x", strings.NewReader("secret"))
			resp, err := client.Do(req)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got %v", err)
				}
				if len(asked) > 0 {
					t.Fatal("the secret was sent")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(body) != "welcome" || <-asked {
				t.Errorf("answered %q", body)
			}
		})
	}
}

// A server whose certificate the CA signed for a host is no management node.
func TestJoinTrustsNodesOnly(t *testing.T) {
	w := newWorld(t, transport.Options{})
	ln, err := w.net.Listen("h1:7000")
	if err != nil {
		t.Fatal(err)
	}
	fake := transport.Serve(ln, w.creds(host("h1")), transport.Options{Join: true})
	defer fake.Close()
	client := transport.NewJoinClient(sha256.Sum256(w.ca.Cert.Raw), transport.DialOptions{Dial: transport.DialFunc(w.net.Dialer("stranger"))})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://h1:7000/x", nil)
	if _, err := client.Do(req); err == nil || !strings.Contains(err.Error(), "lifeboat://host/h1") {
		t.Errorf("got %v", err)
	}
}

// The other protocols still take a certificate when the door is open.
func TestJoinDoorIsNoWayIn(t *testing.T) {
	w := newWorld(t, transport.Options{Join: true})
	for _, protos := range [][]string{{transport.ProtoHTTP}, {transport.ProtoRaft}, {transport.ProtoJoin, transport.ProtoHTTP}, {transport.ProtoRaft, transport.ProtoJoin}} {
		c, err := w.net.Dialer("stranger")(t.Context(), "tcp", "n1:7000")
		if err != nil {
			t.Fatal(err)
		}
		tc := tls.Client(c, w.rawConfig(nil, protos...))
		_ = tc.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := tc.Read(make([]byte, 1)); err == nil {
			t.Errorf("%v: a stranger was let in", protos)
		}
		tc.Close()
	}
}

// A certificate is renewed after two thirds of its life, again and again, with the
// key that is there; a refusal or an answer that does not fit changes nothing.
func TestKeepFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		ca, err := pki.CreateCA(dir, "test")
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := ca.Issue(node("n1"), pki.IssueOptions{Validity: 3 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		files, err := leaf.Write(dir)
		if err != nil {
			t.Fatal(err)
		}
		key, _ := os.ReadFile(files.Key)
		creds, err := transport.LoadCredentials(files, nil)
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		answer := func(request []byte) ([]byte, error) {
			public, err := pki.ReadRequest(request)
			if err != nil {
				return nil, err
			}
			id := node("n1")
			switch asked {
			case 1:
				return nil, io.ErrUnexpectedEOF
			case 2:
				id = node("n2")
			case 3:
				other, _, _ := pki.NewKey()
				public = &other.PublicKey
			case 4:
				return []byte("nonsense"), nil
			}
			c, err := ca.Sign(public, id, pki.IssueOptions{Validity: 3 * time.Hour})
			if err != nil {
				return nil, err
			}
			return c.Raw, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- creds.KeepFresh(ctx, func(_ context.Context, request []byte) ([]byte, error) { asked++; return answer(request) })
		}()
		first := creds.Expires()
		time.Sleep(2*time.Hour - 10*time.Minute)
		synctest.Wait()
		if asked != 0 || creds.Expires() != first {
			t.Fatalf("it was renewed too early (%d)", asked)
		}
		for range 20 {
			time.Sleep(time.Hour)
			synctest.Wait()
			if left := time.Until(creds.Expires()); left < 30*time.Minute {
				t.Fatalf("%s are left", left)
			}
		}
		if asked < 9 || asked > 16 {
			t.Errorf("it was asked for %d times", asked)
		}
		if now, _ := os.ReadFile(files.Key); string(now) != string(key) {
			t.Error("the key changed")
		}
		if again, err := transport.LoadCredentials(files, nil); err != nil || again.Expires() != creds.Expires() {
			t.Errorf("what is on the disk: %v", err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".node*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Without a CA in the cluster it asks now and then, in case one comes.
func TestKeepFreshWithoutCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t)
		creds, err := transport.LoadCredentials(a.issue(node("n1"), pki.IssueOptions{Validity: time.Hour}), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Hour)
		defer cancel()
		asked := 0
		if err := creds.KeepFresh(ctx, func(context.Context, []byte) ([]byte, error) { asked++; return nil, transport.ErrNoCA }); err != nil || asked < 3 || asked > 6 {
			t.Errorf("asked %d times, %v", asked, err)
		}
	})
}

// A request is proof of the private key, and weak keys are refused.
func TestReadRequest(t *testing.T) {
	key, _, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	if public, err := pki.ReadRequest(der); err != nil || !key.PublicKey.Equal(public) {
		t.Fatalf("%v, %v", public, err)
	}
	for i := range der {
		bad := append([]byte(nil), der...)
		bad[i] ^= 0x40
		if public, err := pki.ReadRequest(bad); err == nil && !key.PublicKey.Equal(public) {
			t.Fatalf("with byte %d changed it gave another key", i)
		}
	}
	if _, err := pki.ReadRequest(make([]byte, 1<<20)); err == nil {
		t.Error("a megabyte was read")
	}
}
