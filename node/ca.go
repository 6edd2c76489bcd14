package node

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"lifeboat/fsm"
	"lifeboat/fsm/logpb"
	"lifeboat/transport"
	"lifeboat/transport/pki"
)

// sealedCA is what the CA's key is sealed about.
const sealedCA = "ca key"

// adoptCA gives the cluster the CA whose key this node's configuration names, when
// it has none. Whoever can read the key file could sign anything already.
func (t *term) adoptCA(ctx context.Context) error {
	n := t.node
	if n.cfg.CAKey == "" {
		return nil
	}
	said := false
	for {
		changed := n.fsm.Changed()
		s := n.fsm.State()
		if s.CA != nil {
			return nil
		}
		if s.ClusterID != "" && s.Level >= fsm.LevelJoin {
			err := t.handOverCA(ctx)
			if err == nil || rejected(err) {
				return nil
			}
			if !said && ctx.Err() == nil {
				said = true
				t.log.Error("the cluster could not be given its CA, so it signs no certificates; it is tried again", "ca_key", n.cfg.CAKey, "error", err)
			}
			if !pause(ctx, adoptAgain) {
				return nil
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		if !pause(ctx, calm) {
			return nil
		}
	}
}

func (t *term) handOverCA(ctx context.Context) error {
	n := t.node
	ca, err := pki.LoadCAFiles(n.cfg.CA, n.cfg.CAKey)
	if err != nil {
		return err
	}
	key, err := ca.Key()
	if err != nil {
		return err
	}
	_, err = t.propose(ctx, "node/"+n.cfg.ID, &logpb.Command{Body: &logpb.Command_CaSet{CaSet: &logpb.CASet{
		Cert: ca.Cert.Raw, SealedKey: n.sealer.seal(key, []byte(sealedCA))}}})
	return err
}

// authority opens a CA of the state, which must have signed what the nodes show one
// another. The error is transport.ErrNoCA when there is none.
func (n *Node) authority(a *fsm.Authority) (*pki.CA, error) {
	if a == nil {
		return nil, transport.ErrNoCA
	}
	key, err := n.sealer.open(a.Key, []byte(sealedCA))
	if err != nil {
		return nil, fmt.Errorf("open the CA's key: %w", err)
	}
	ca, err := pki.ParseCA(a.Cert, key)
	switch {
	case err != nil:
		return nil, err
	case !ca.Cert.Equal(n.deps.Creds.Root()):
		return nil, errors.New("the CA that the cluster signs with is not the first one in this node's file ca: put it there, on every node")
	}
	return ca, nil
}

// sign makes a certificate for somebody over his key. The error is
// transport.ErrNoCA when the cluster has no CA.
func (n *Node) sign(s *fsm.State, key crypto.PublicKey, id transport.Identity) ([]byte, error) {
	ca, err := n.authority(s.CA)
	if err != nil {
		return nil, err
	}
	cert, err := ca.Sign(key, id, pki.IssueOptions{Validity: s.Policy.CertValidity, Now: n.clock()})
	if err != nil {
		return nil, err
	}
	return cert.Raw, nil
}
