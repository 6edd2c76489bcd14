package redfishsim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"
)

// Config is the machine behind the simulated BMC.
type Config struct {
	Address        string // to listen on; empty: a free port of 127.0.0.1
	User, Password string // both needed
	UUID, Serial   string // of the computer system
	// Power reads the machine's power, SetPower changes it. They are called from
	// several goroutines and may block.
	Power    func() bool
	SetPower func(on bool) error
}

// Faults are what can be wrong with the BMC; the zero value is a sound one.
type Faults struct {
	Down        bool          // cuts every connection without an answer
	Delay       time.Duration // passes before every answer
	Errors      bool          // everything is answered with 500
	RefuseReset bool          // resets are answered with 500 and not done
	LateError   bool          // resets are done and then answered with 500
	Lies        bool          // resets are answered with 204 and not done
	Conflict    bool          // switching off what is off is answered with 409
	Flaps       bool          // every other power reading is off, the others on
	PowerState  string        // shown instead of the real state, such as "PoweringOff"
	ResetTypes  []string      // offered instead of the usual ones; others get 400
	TwoSystems  bool          // shows a second, unrelated computer system
}

// Server is a running simulated BMC.
type Server struct {
	cfg      Config
	listener net.Listener
	http     *http.Server
	certPEM  []byte
	done     chan struct{}

	mu       sync.Mutex
	faults   Faults
	sessions map[string]string // id → token
	resets   []string
	reads    int
	minted   int
}

// Start listens and serves until Close.
func Start(cfg Config) (*Server, error) {
	if cfg.User == "" || cfg.Password == "" || cfg.Power == nil || cfg.SetPower == nil {
		return nil, errors.New("start redfish simulator: User, Password, Power and SetPower are needed")
	}
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:0"
	}
	cert, certPEM, err := selfSigned()
	if err != nil {
		return nil, fmt.Errorf("start redfish simulator: %w", err)
	}
	l, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("start redfish simulator: %w", err)
	}
	s := &Server{cfg: cfg, listener: l, certPEM: certPEM, done: make(chan struct{}), sessions: map[string]string{}}
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
	}
	go func() {
		defer close(s.done)
		_ = s.http.ServeTLS(l, "", "")
	}()
	return s, nil
}

// Close stops serving and cuts open connections.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.done
	return err
}

// Address is the host:port it listens on.
func (s *Server) Address() string { return s.listener.Addr().String() }

// CertPEM is its self-signed certificate, to be trusted by clients.
func (s *Server) CertPEM() []byte { return s.certPEM }

// SetFaults replaces the faults; requests under way keep the old ones.
func (s *Server) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = f
}

// Resets lists the reset types that were asked for, oldest first, whatever
// became of them.
func (s *Server) Resets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.resets...)
}

// Sessions counts the sessions that are open.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

func (s *Server) current() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

func (s *Server) authorized(r *http.Request) bool {
	if token := r.Header.Get("X-Auth-Token"); token != "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, t := range s.sessions {
			if equal(t, token) {
				return true
			}
		}
		return false
	}
	user, password, ok := r.BasicAuth()
	return ok && s.login(user, password)
}

func (s *Server) login(user, password string) bool {
	return equal(user, s.cfg.User) && equal(password, s.cfg.Password)
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func selfSigned() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "simulated BMC"},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
