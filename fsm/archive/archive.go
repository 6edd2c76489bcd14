package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"

	"lifeboat/fsm"
)

const (
	format   = 1
	metaName = "meta.json"
	dataName = "state.bin"
	sumsName = "SHA256SUMS"
	maxSmall = 1 << 20 // bytes of meta.json and SHA256SUMS
	maxState = 8 << 30 // bytes of state.bin
)

// ErrArchive marks a file that cannot be used as an archive; the text says why.
var ErrArchive = errors.New("not a usable snapshot")

// Meta says what an archive holds. All of it but Format, Version, Node and Taken
// follows from the state, and is checked against it.
type Meta struct {
	Format     int       `json:"format"`
	Version    string    `json:"lifeboat_version"` // that wrote it
	Node       string    `json:"node"`             // that wrote it
	Taken      time.Time `json:"taken"`            // by that node's clock
	Level      uint32    `json:"feature_level"`
	ClusterID  string    `json:"cluster_id"`
	Generation uint32    `json:"generation"`
	Index      uint64    `json:"index"`
	Term       uint64    `json:"term"`
	Time       time.Time `json:"time"` // of the state
	Armed      bool      `json:"armed"`
	Hosts      int       `json:"hosts"` // without removed ones
	VMs        int       `json:"vms"`
	Protected  int       `json:"vms_protected"`
	OpenWork   int       `json:"work_open"`
	OpenAlerts int       `json:"alerts_open"`
	Bytes      int64     `json:"state_bytes"`
	Digest     string    `json:"state_digest"` // of the contents, as `lifeboat status` shows it
}

// of is what follows from the state.
func of(s *fsm.State, size int64) Meta {
	m := Meta{Level: s.Level, ClusterID: s.ClusterID, Generation: s.Generation, Index: s.Index, Term: s.Term, Time: time.Unix(0, s.Time).UTC(),
		Armed: s.Armed, VMs: s.CountVMs(), OpenWork: s.CountOpenWork(), OpenAlerts: s.CountOpenAlerts(), Bytes: size, Digest: fmt.Sprintf("%016x", s.Sum())}
	for _, h := range s.Hosts() {
		if h.Status != fsm.Removed {
			m.Hosts++
		}
		for i := range h.VMs {
			if h.VMs[i].Protected() {
				m.Protected++
			}
		}
	}
	return m
}

// Write writes s as an archive. It only reads s.
func Write(w io.Writer, s *fsm.State, version, node string, taken time.Time) error {
	var data bytes.Buffer
	if _, err := s.WriteTo(&data); err != nil {
		return err
	}
	m := of(s, int64(data.Len()))
	m.Format, m.Version, m.Node, m.Taken = format, version, node, taken.UTC()
	meta, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("encode metadata: %w", err)
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderCRC(true), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("make compressor: %w", err)
	}
	t := tar.NewWriter(z)
	for _, f := range []struct {
		name string
		data []byte
	}{{metaName, meta}, {dataName, data.Bytes()}, {sumsName, sums(meta, data.Bytes())}} {
		head := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o600, Size: int64(len(f.data)), ModTime: taken.UTC().Truncate(time.Second), Format: tar.FormatUSTAR}
		if err := t.WriteHeader(head); err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
		if _, err := t.Write(f.data); err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	if err := errors.Join(t.Close(), z.Close()); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

// sums is what sha256sum writes of the two files.
func sums(meta, data []byte) []byte {
	m, d := sha256.Sum256(meta), sha256.Sum256(data)
	return fmt.Appendf(nil, "%s  %s\n%s  %s\n", hex.EncodeToString(m[:]), metaName, hex.EncodeToString(d[:]), dataName)
}

// Read reads an archive and checks it: the checksums, the digest, that its
// metadata fits, and every invariant of the state. One of a feature level above
// level is refused before its state is looked at.
func Read(r io.Reader, level uint32) (Meta, *fsm.State, error) {
	m, s, err := read(r, level)
	if err != nil {
		return Meta{}, nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	return m, s, nil
}

func read(r io.Reader, level uint32) (m Meta, s *fsm.State, err error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(1<<27))
	if err != nil {
		return m, nil, fmt.Errorf("make decompressor: %w", err)
	}
	defer z.Close()
	t := tar.NewReader(z)
	meta, err := file(t, metaName, maxSmall)
	if err != nil {
		return m, nil, err
	}
	if err := json.Unmarshal(meta, &m); err != nil {
		return m, nil, fmt.Errorf("its metadata cannot be read: %w", err)
	}
	switch {
	case m.Format != format:
		return m, nil, fmt.Errorf("it has format %d, this version of lifeboat reads format %d: use the version that wrote it (%s) or a newer one", m.Format, format, m.Version)
	case m.Level > level:
		return m, nil, fmt.Errorf("it has feature level %d and was written by lifeboat %s, this version knows levels up to %d: upgrade first", m.Level, m.Version, level)
	}
	data, err := file(t, dataName, maxState)
	if err != nil {
		return m, nil, err
	}
	sha, err := file(t, sumsName, maxSmall)
	if err != nil {
		return m, nil, err
	}
	if !bytes.Equal(sha, sums(meta, data)) {
		return m, nil, errors.New("its checksums are wrong: it is damaged; take another copy")
	}
	if _, err := t.Next(); err != io.EOF {
		return m, nil, errors.New("it holds more than it should")
	}
	if n, err := io.Copy(io.Discard, z); err != nil || n > 0 {
		return m, nil, errors.New("something follows after its end")
	}
	if s, err = fsm.ReadState(bytes.NewReader(data)); err != nil {
		return m, nil, err
	}
	want := of(s, int64(len(data)))
	want.Format, want.Version, want.Node, want.Taken = m.Format, m.Version, m.Node, m.Taken
	if m != want {
		return m, nil, errors.New("its metadata is of another state")
	}
	if err := s.Check(); err != nil {
		return m, nil, fmt.Errorf("its state contradicts itself: %w", err)
	}
	return m, s, nil
}

// file reads the next file, which must be the one that is expected.
func file(t *tar.Reader, name string, limit int64) ([]byte, error) {
	h, err := t.Next()
	switch {
	case err != nil:
		return nil, fmt.Errorf("it is damaged or cut off where %s should be: %w", name, err)
	case h.Name != name || h.Typeflag != tar.TypeReg:
		return nil, fmt.Errorf("it holds %q where %s should be", h.Name, name)
	case h.Size > limit:
		return nil, fmt.Errorf("its %s has %d bytes, at most %d are read", name, h.Size, limit)
	}
	var b bytes.Buffer // grows with what is there, whatever the header says
	if _, err := io.Copy(&b, t); err != nil {
		return nil, fmt.Errorf("its %s is damaged or cut off: %w", name, err)
	}
	return b.Bytes(), nil
}
