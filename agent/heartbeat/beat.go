package heartbeat

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// beat is the content of a file.
type beat struct {
	host, boot string
	counter    uint64
}

// size of a file in bytes. It never changes, so that a beat overwrites the last
// one in place: renamed files are seen late through the caches of network file
// systems.
const size = 512

const magic = "lifeboat-beat 1"

// maxName bounds host and boot ids.
const maxName = 128

// encode writes one line, padded, with a checksum: a file that is read while it
// is written must not look like another beat.
func (b beat) encode() ([]byte, error) {
	if !word(b.host) || !word(b.boot) {
		return nil, fmt.Errorf("write heartbeat: %.40q and %.40q cannot be written as host and boot id", b.host, b.boot)
	}
	line := fmt.Sprintf("%s %s %s %d", magic, b.host, b.boot, b.counter)
	line = fmt.Sprintf("%s %08x\n", line, crc32.ChecksumIEEE([]byte(line)))
	out := bytes.Repeat([]byte{'\n'}, size)
	copy(out, line)
	return out, nil
}

var errTorn = errors.New("the heartbeat file is not a heartbeat, or is being written")

func decode(b []byte) (beat, error) {
	if len(b) != size {
		return beat{}, errTorn
	}
	line, _, _ := bytes.Cut(b, []byte{'\n'})
	text, sum, ok := cutLast(string(line))
	if !ok || sum != fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(text))) {
		return beat{}, errTorn
	}
	var n, version string
	var x beat
	if _, err := fmt.Sscanf(text, "%s %s %s %s %d", &n, &version, &x.host, &x.boot, &x.counter); err != nil || n+" "+version != magic || !word(x.host) || !word(x.boot) {
		return beat{}, errTorn
	}
	return x, nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// word reports whether a name can stand in a beat.
func word(s string) bool {
	return s != "" && len(s) <= maxName && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// fileOf is the name of a host's file. A name that comes over the network must
// not lead elsewhere.
func fileOf(host string) (string, error) {
	if !word(host) || strings.ContainsAny(host, `/\`) || strings.HasPrefix(host, ".") {
		return "", fmt.Errorf("read heartbeat: %.40q is not the name of a host", host)
	}
	return folder + "/" + host + ".beat", nil
}

// folder is made in each directory.
const folder = ".lifeboat"
