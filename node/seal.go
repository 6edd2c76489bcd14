package node

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// dictionary is text that domain definitions are made of. Definitions that were
// compressed with it need it for ever: never change it, add another with a new
// id.
//
//go:embed dictionary.xml
var dictionary []byte

const (
	dictionaryID = 0x6c62_0001
	// maxDefinition is the largest domain definition that is accepted, in bytes.
	maxDefinition = 1 << 20
	// SecretKeySize is the size of the cluster's secret key, in bytes.
	SecretKeySize = 32
)

// sealer compresses and encrypts what must not be read in the log: domain
// definitions and BMC passwords. It is safe for concurrent use.
type sealer struct {
	aead cipher.AEAD
	enc  *zstd.Encoder
	dec  *zstd.Decoder
	// marks is the key of marks of requests.
	marks []byte
}

// loadSealer reads the cluster's secret key: 64 hexadecimal digits.
func loadSealer(path string) (*sealer, error) {
	key, err := readSecretKey(path)
	if err != nil {
		return nil, err
	}
	return newSealer(key)
}

func readSecretKey(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read secret key: %w (make one with `lifeboat ca secret-key` and give every node the same)", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(key) != SecretKeySize {
		return nil, fmt.Errorf("read secret key: %s must hold %d hexadecimal digits", path, 2*SecretKeySize)
	}
	return key, nil
}

func newSealer(key []byte) (*sealer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use secret key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("use secret key: %w", err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderDictRaw(dictionaryID, dictionary), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("make compressor: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderDictRaw(dictionaryID, dictionary), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(4*maxDefinition))
	if err != nil {
		return nil, fmt.Errorf("make decompressor: %w", err)
	}
	marks := sha256.Sum256(append([]byte("lifeboat marks of requests\x00"), key...))
	return &sealer{aead: aead, enc: enc, dec: dec, marks: marks[:]}, nil
}

// seal binds the text to what it is about: it opens for no other subject.
func (s *sealer) seal(text, about []byte) []byte {
	packed := s.enc.EncodeAll(text, nil)
	nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+len(packed)+s.aead.Overhead())
	_, _ = rand.Read(nonce) // never fails
	return s.aead.Seal(nonce, nonce, packed, about)
}

func (s *sealer) open(sealed, about []byte) ([]byte, error) {
	n := s.aead.NonceSize()
	if len(sealed) < n {
		return nil, errors.New("unseal: too short")
	}
	packed, err := s.aead.Open(nil, sealed[:n], sealed[n:], about)
	if err != nil {
		return nil, errors.New("unseal: this node's secret key is not the one it was sealed with, or the data is damaged")
	}
	text, err := s.dec.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("unseal: %w", err)
	}
	return text, nil
}
